from dataclasses import replace

import pytest

from jmsnas.errors import TableError
from jmsnas.profiler.table import REFERENCE, Key, LatencyTable, Row
from jmsnas.space import Block, Candidate, Layer

ROW = Row(
    device="local",
    key=Key(),
    block=Block(Candidate(3, 3), Layer(16, 16, 1, 8, 8)),
    kind="measured",
    median_s=2e-4,
    low_s=1.9e-4,
    high_s=2.2e-4,
    ratio=2.0,
    ratio_low=1.9,
    ratio_high=2.2,
    reference_s=1e-4,
    min_s=1.8e-4,
    p90_s=2.3e-4,
    rounds=30,
    converged=False,
    environment="abc",
    measured_at="2026-11-23",
    source="a test",
)


def test_label_of_a_key() -> None:
    assert Key().label == "onnxruntime-t1-b1-f32"
    assert Key("torch", 4, 2).label == "torch-t4-b2-f32"


@pytest.mark.parametrize("wrong", [("tflite", 1, 1), ("torch", 0, 1), ("torch", 1, 0)])
def test_impossible_key(wrong: tuple[str, int, int]) -> None:
    with pytest.raises(TableError, match="expected a run time of onnxruntime, torch, and threads and batch"):
        Key(*wrong)


def test_half_width() -> None:
    # (2.2 - 1.9) / (2 * 2.0)
    assert ROW.half_width == pytest.approx(0.075)


@pytest.mark.parametrize("change", [{"median_s": 0.0}, {"low_s": 3e-4}, {"high_s": 4000.0}])
def test_impossible_seconds(change: dict[str, float]) -> None:
    with pytest.raises(TableError, match="expected 0 < low <= median <= high < 3600 s"):
        replace(ROW, **change)


def test_impossible_ratio() -> None:
    with pytest.raises(TableError, match="0 < low <= ratio <= high"):
        replace(ROW, ratio_low=2.1)


def test_rows_of_another_device_and_twice() -> None:
    with pytest.raises(TableError, match="a table of pi4 holds rows of local"):
        LatencyTable("pi4", (ROW,), {})
    with pytest.raises(TableError, match="holds a block twice under one key"):
        LatencyTable("local", (ROW, ROW), {})


def test_rows_of_one_key() -> None:
    other = replace(ROW, key=Key("torch"), kind="simulated")
    table = LatencyTable("local", (ROW, other), {})
    assert table.keys == (Key(), Key("torch")) and table.simulated
    assert table.of(Key("torch")).rows == (other,) and not table.of(Key()).simulated
    with pytest.raises(
        TableError, match=r"no rows for torch-t2-b1-f32 \(it has onnxruntime-t1-b1-f32, torch-t1-b1-f32\)"
    ):
        table.of(Key("torch", 2))


def test_reference_is_a_block() -> None:
    assert str(REFERENCE) == "mb_k3_e3 24->24 8x8"
