import warnings

import pytest

from jmsnas.deploy.parts.call_overhead import RELU_ONNX
from jmsnas.errors import MeasurementError
from jmsnas.profiler.timing import onnx_session
from jmsnas.profiler.timing.onnx_session import open_session


def test_the_provider_that_runs_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_session(RELU_ONNX, 1).get_providers() == ["CPUExecutionProvider"]
    # onnxruntime leaves out a provider that it does not have, and runs on the CPU.
    monkeypatch.setitem(onnx_session.PROVIDERS, "cuda", "NoSuchExecutionProvider")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            MeasurementError, match="by CPUExecutionProvider, not NoSuch.*install onnxruntime-gpu"
        ):
            open_session(RELU_ONNX, 1, "cuda")
