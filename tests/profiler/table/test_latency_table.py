from dataclasses import replace

import pytest
from profiling_jobs import PART, a_row

from jmsnas.errors import TableError
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, BlockRow, LatencyTable, RuntimeKey
from jmsnas.space import Block, Candidate, Layer

ROW = BlockRow(
    device="local",
    key=RuntimeKey(),
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


@pytest.mark.parametrize(
    ("key", "label"),
    [
        (RuntimeKey(), "onnxruntime-t1-b1-f32"),
        (RuntimeKey("torch", 4, 2), "torch-t4-b2-f32"),
        (RuntimeKey(processor="cuda", dtype="float16"), "onnxruntime-t1-b1-f16-cuda"),
        (RuntimeKey("torch", layout="channels_last"), "torch-t1-b1-f32-channels-last"),
        (
            RuntimeKey("torch", 1, 8, "float16", "cuda", "channels_last", "torchprof"),
            "torch-t1-b8-f16-cuda-channels-last-torchprof",
        ),
    ],
)
def test_label_of_a_key(key: RuntimeKey, label: str) -> None:
    assert key.label == label


@pytest.mark.parametrize("wrong", [("tflite", 1, 1), ("torch", 0, 1), ("torch", 1, 0)])
def test_impossible_key(wrong: tuple[str, int, int]) -> None:
    with pytest.raises(TableError, match="expected a runtime of onnxruntime, torch, and threads and batch"):
        RuntimeKey(*wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "int8"}, "unknown dtype 'int8': expected one of float32, float16"),
        ({"processor": "tpu"}, "unknown processor 'tpu': expected one of cpu, cuda"),
        ({"layout": "nchw"}, "unknown layout 'nchw': expected one of contiguous, channels_last"),
        ({"timer": "sundial"}, "unknown timer 'sundial': expected one of wall, torchprof"),
        (
            {"dtype": "float16"},
            "cannot measure float16 on the cpu: expected float32, or --processor cuda",
        ),
        (
            {"layout": "channels_last"},
            "onnxruntime chooses its own layout .*got layout channels_last and timer wall: both are for "
            "--runtime torch",
        ),
        ({"timer": "torchprof"}, "cannot be timed by torchprof, got layout contiguous and timer torchprof"),
    ],
)
def test_invalid_runtime_settings(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        RuntimeKey(**wrong)  # type: ignore[arg-type]


def test_half_width_and_relative_ci() -> None:
    # (2.2 - 1.9) / (2 * 2.0): of the ratio, and of the seconds as long as they are not widened.
    assert ROW.half_width == pytest.approx(0.075) and ROW.relative_ci == pytest.approx(0.075)
    assert replace(ROW, low_s=1.6e-4, high_s=2.4e-4).relative_ci == pytest.approx(0.2)


@pytest.mark.parametrize("change", [{"median_s": 0.0}, {"low_s": 3e-4}, {"high_s": 4000.0}])
def test_impossible_seconds(change: dict[str, float]) -> None:
    with pytest.raises(TableError, match="expected 0 < low <= median <= high < 3600 s"):
        replace(ROW, **change)


def test_process_rounds_must_sum_to_the_samples() -> None:
    assert replace(ROW, samples=(1.9, 2.0, 2.1), process_rounds=(1, 2)).samples
    with pytest.raises(TableError, match="has 3 samples, but `process_rounds` sum to 2: expected the same"):
        replace(ROW, samples=(1.9, 2.0, 2.1), process_rounds=(2,))


def test_impossible_trust() -> None:
    with pytest.raises(TableError, match="has trust 'blue': expected one of green, yellow, red"):
        replace(ROW, trust="blue")


@pytest.mark.parametrize("stages_s", [(), (1e-5,), (1e-5, 0.0), (1e-5, float("nan"))])
def test_stages_without_their_seconds(stages_s: tuple[float, ...]) -> None:
    with pytest.raises(TableError, match="has the stages expand, add of .*: expected one latency per stage"):
        replace(ROW, stages=("expand", "add"), stages_s=stages_s)
    assert replace(ROW, stages=("expand", "add"), stages_s=(1e-5, 1e-6)).stages == ("expand", "add")


def test_impossible_ratio() -> None:
    with pytest.raises(TableError, match="0 < low <= ratio <= high"):
        replace(ROW, ratio_low=2.1)


def test_rows_of_another_device_and_duplicate_rows() -> None:
    with pytest.raises(TableError, match="a table of pi4 has rows of local"):
        LatencyTable("pi4", (ROW,), {})
    with pytest.raises(TableError, match="has a block twice under one key"):
        LatencyTable("local", (ROW, ROW), {})
    part = a_row(PART)
    with pytest.raises(TableError, match="a table of pi4 has rows of local"):
        LatencyTable("pi4", (), {}, (part,))
    with pytest.raises(TableError, match="has a block twice under one key"):
        LatencyTable("local", (), {}, (part, part))


def test_rows_of_one_key() -> None:
    other = replace(ROW, key=RuntimeKey("torch"), kind="simulated")
    table = LatencyTable("local", (ROW, other), {})
    assert table.keys == (RuntimeKey(), RuntimeKey("torch")) and table.simulated
    assert table.for_key(RuntimeKey("torch")).rows == (other,) and not table.for_key(RuntimeKey()).simulated
    with pytest.raises(
        TableError, match=r"no rows for torch-t2-b1-f32 \(it has onnxruntime-t1-b1-f32, torch-t1-b1-f32\)"
    ):
        table.for_key(RuntimeKey("torch", 2))


def test_parts_are_separate_from_block_rows() -> None:
    eager = replace(ROW, key=RuntimeKey("torch"))
    part, other = a_row(PART), a_row(PART, key=RuntimeKey())
    table = LatencyTable("local", (ROW, eager), {}, (part, other))
    assert table.all_rows == (ROW, eager, part, other)
    assert table.for_key(RuntimeKey("torch")).all_rows == (eager, part)
    # Parts without block rows are not a table of a key: they only correct sums of blocks.
    with pytest.raises(TableError, match="has no rows for torch-t1-b1-f32"):
        LatencyTable("local", (ROW,), {}, (part,)).for_key(RuntimeKey("torch"))


def test_rows_that_share_a_level() -> None:
    rows = (
        ROW,
        replace(ROW, key=RuntimeKey("torch"), kind="simulated"),
        replace(ROW, key=RuntimeKey(threads=2)),
    )
    part = replace(a_row(PART, key=RuntimeKey()), environment="abc")
    elsewhere = replace(a_row(PART, key=RuntimeKey(threads=2)), environment="def")
    assert LatencyTable("local", rows, {}, (part, elsewhere)).measured_groups == {
        (RuntimeKey(), "abc"): (ROW, part),
        (RuntimeKey(threads=2), "abc"): (rows[2],),
        (RuntimeKey(threads=2), "def"): (elsewhere,),
    }


def test_reference_is_a_block() -> None:
    assert str(REFERENCE_BLOCK) == "mb_k3_e3 24->24 8x8"
