import warnings

import onnxruntime as ort
import pytest

from jmsnas.deploy.parts.call_overhead import RELU_ONNX
from jmsnas.errors import MeasurementError
from jmsnas.profiler.timing import onnx_session
from jmsnas.profiler.timing.onnx_session import open_session


def test_the_provider_that_runs_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_session(RELU_ONNX, 1).get_providers() == ["CPUExecutionProvider"]
    # onnxruntime leaves out a provider that it knows but does not have, and runs on the CPU.
    missing = next(name for name in ort.get_all_providers() if name not in ort.get_available_providers())
    monkeypatch.setitem(onnx_session.PROVIDERS, "cuda", missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MeasurementError, match=f"by CPU.*, not {missing}: install onnxruntime-gpu"):
            open_session(RELU_ONNX, 1, "cuda")
