from dataclasses import replace

import pytest
from profiling_jobs import BLOCKS, PART, a_row

from jmsnas.profiler.quality.latency_entry import LatencyEntry, entries_of_table
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.space import HEAD, Block, Candidate, Layer

MARKS = ((BLOCKS[0], "red"), (BLOCKS[1], "green"))
MB = Block(Candidate(5, 6, True), Layer(24, 24, 1, 4, 4))


def test_row_of_a_jmsnas_table() -> None:
    (found,) = entries_of_table(simulated_table("pi4", [MB], [RuntimeKey("torch")]), "pi4.parquet")
    assert (found.table, found.row, found.device, found.setting) == (
        "pi4.parquet", 1, "pi4", "torch-t1-b1-f32",
    )  # fmt: skip
    assert found.label == "mb_k5_e6_skip 24->24 4x4" and found.simulated and found.converged
    # expand 16 * 24 * 144 + depthwise 16 * 144 * 25 + project 16 * 144 * 24
    assert found.macs == 55296 + 57600 + 55296
    assert found.low_s == found.median_s == found.high_s


def test_label_of_a_head_has_its_hidden_width() -> None:
    head = Block(HEAD, Layer(32, 10, 1, 2, 2, "head", 128))
    (found,) = entries_of_table(simulated_table("pi4", [head], [RuntimeKey()]), "t")
    assert found.label == "head 32->10 2x2 (hidden 128)"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"op": "model", "variant": "7" * 99}, "model " + "7" * 60),
        ({"op": "mb", "kernel_size": 3, "expansion": 1.5, "stride": 2}, "mb_k3_e1.5 0->0 0x0 /2"),
    ],
)
def test_text(changes: dict[str, object], text: str) -> None:
    assert LatencyEntry("t", 1, "d", "s", **({"op": "mb", "median_s": 1.0} | changes)).label == text  # type: ignore[arg-type]


def test_whole_parts_are_no_blocks_to_compare() -> None:
    table = LatencyTable("local", (a_row(),), {}, (a_row(PART),))
    assert [found.label for found in entries_of_table(table, "t")] == ["mb_k3_e3_skip 8->8 4x4"]


def test_only_a_red_measured_row_is_distrusted() -> None:
    red, green = (replace(a_row(block), trust=mark, trust_reason=mark) for block, mark in MARKS)
    found = entries_of_table(LatencyTable("local", (red, green), {}), "t")  # type: ignore[arg-type]
    assert [entry.red_reason for entry in found] == ["red", ""]
    assert entries_of_table(simulated_table("pi4", [MB], [RuntimeKey()]), "t")[0].red_reason == ""


def test_block_is_the_same_on_another_device() -> None:
    one, other = (
        entries_of_table(simulated_table(name, [MB], [RuntimeKey()]), name)[0] for name in ("pi4", "cloud")
    )
    assert one.block == other.block and one.group != other.group
