import sys
from pathlib import Path

import pytest

from jmsnas.errors import InputError
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.search.tensorboard import TensorBoardLog

EPOCHS = [EpochRecord("search", n, 1.0 / n, 0.5, None, None, 0.002, 1.5, 3.0, 0.0019, 0.4) for n in (1, 2, 3)]


@pytest.mark.filterwarnings("ignore")  # tensorboard's own
def test_the_curves_of_a_run_that_was_stopped_and_went_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TensorBoardLog(tmp_path)
    for epoch in EPOCHS[:2]:
        first(epoch)
    again = TensorBoardLog(tmp_path, before=2)
    again(EPOCHS[2])
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("search/loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]
    assert {"search/derived_accuracy", "search/expected_latency_s"} <= set(read.Tags()["scalars"])
    assert "search/arch_loss" not in read.Tags()["scalars"]  # there was none


def test_without_the_package_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        InputError, match=r"--tensorboard needs the package tensorboard: pip install 'jmsnas\[ten"
    ):
        TensorBoardLog(tmp_path)
