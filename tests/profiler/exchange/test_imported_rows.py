from dataclasses import replace

import pytest
from profiling_jobs import a_row

from jmsnas.errors import TableError
from jmsnas.profiler.exchange.imported_rows import ImportTarget, import_exported_row, imported_rows, mark_red
from jmsnas.profiler.exchange.lut_keys import HeadPiece, LutEntry, MeanLatency
from jmsnas.profiler.quality.rules import QualityFinding
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import BlockRow, RuntimeKey
from jmsnas.space import Block

TARGET = ImportTarget("board", RuntimeKey("torch", 4), "imported: lut.yaml, 0123456789ab", force=False)
FORCED = replace(TARGET, force=True)
BLOCK, OTHER = Block.parse("mb_k3_e3 16->24 8x8 /2"), Block.parse("mb_k5_e3 16->24 8x8 /2")


def entry(what: Block | HeadPiece, mean_s: float, half_s: float | None = None, runs: int = 0) -> LutEntry:
    return (what,), MeanLatency(mean_s, half_s, runs)


def only_row(*entries: LutEntry, target: ImportTarget = TARGET) -> BlockRow:
    ((row,), _) = imported_rows(entries, target)
    assert isinstance(row, BlockRow)
    return row


def test_imported_rows_state_that_their_measurement_is_unknown() -> None:
    row = only_row(entry(BLOCK, 2e-3))
    assert (row.device, row.key, row.block, row.kind) == ("board", RuntimeKey("torch", 4), BLOCK, "imported")
    assert row.median_s == row.low_s == row.high_s == row.ratio == 2e-3
    assert (row.reference_s, row.rounds, row.converged) == (1.0, 0, False)
    assert row.trust == "yellow" and "how it was measured is unknown" in row.trust_reason
    assert row.source == TARGET.source


def test_an_interval_is_a_factor_either_way_and_never_below_nothing() -> None:
    row = only_row(entry(BLOCK, 2e-3, 1e-4, 50))
    # 0.1 ms of 2 ms: a factor of 1.05
    assert (row.low_s, row.high_s) == pytest.approx((2e-3 / 1.05, 2.1e-3)) and row.rounds == 50
    assert only_row(entry(BLOCK, 2e-3, 5e-3)).low_s > 0


def test_equal_duplicates_are_one_row() -> None:
    assert only_row(entry(BLOCK, 2e-3), entry(BLOCK, 2e-3)).trust == "yellow"


def test_different_duplicates_are_refused_with_the_worst() -> None:
    entries = [entry(BLOCK, 1e-3), entry(OTHER, 1e-3), entry(OTHER, 3e-3), entry(BLOCK, 1.1e-3)]
    with pytest.raises(
        TableError,
        match="2 blocks occur twice with different latencies; worst: mb_k5_e3 16->24 8x8 /2: 1 ms and 3 ms"
        ", 200% more. Keep one of each, or import their mean with those rows marked red: --force",
    ):
        imported_rows(entries, TARGET)
    with pytest.raises(TableError, match="a block occurs twice with different latencies; worst: mb_k3_e3"):
        imported_rows([entries[0], entries[3]], TARGET)


def test_forced_duplicates_are_averaged_and_red() -> None:
    row = only_row(entry(BLOCK, 1e-3, 1e-4), entry(BLOCK, 3e-3, 2e-4), target=FORCED)
    # mean 2 ms; the farther end of the two is 3.2 ms: a factor of 1.6
    assert row.median_s == pytest.approx(2e-3)
    assert (row.low_s, row.high_s) == pytest.approx((2e-3 / 1.6, 3.2e-3))
    assert (row.trust, row.trust_reason) == ("red", "imported; occurs twice in the file, this is the mean")


def test_pieces_become_heads_and_the_rest_is_counted() -> None:
    mix, end = HeadPiece("Conv_1", (4, 4, 8), (4, 4, 16)), HeadPiece("Logits", (4, 4, 16), (1, 1, 3))
    alone = HeadPiece("AvgPool2D", (4, 4, 8), (1, 1, 8))
    rows, left_out = imported_rows([entry(mix, 1e-3), entry(end, 2e-3), entry(alone, 1.0)], TARGET)
    ((head,)) = rows
    assert str(head.block) == "head 8->3 4x4 h16" and head.median_s == pytest.approx(3e-3)
    assert head.source == f"{TARGET.source}; Conv_1 + Logits"
    assert left_out == {"AvgPool2D alone": 1}


def test_a_block_that_is_also_a_piece_is_left_out_of_nothing() -> None:
    classifier = Block.parse("classifier 16->3 4x4")
    both: LutEntry = ((classifier, HeadPiece("Logits", (4, 4, 16), (1, 1, 3))), MeanLatency(1e-3))
    rows, left_out = imported_rows([both], TARGET)
    assert [row.block for row in rows] == [classifier] and not left_out


def test_exported_rows_become_imported_and_never_green() -> None:
    green = replace(a_row(), trust="green", trust_reason="")
    found = import_exported_row(green, "t.csv", TARGET)
    assert (found.device, found.kind, found.trust) == ("board", "imported", "yellow")
    assert found.trust_reason == "imported; rated green where it was measured: "
    assert found.source == f"{TARGET.source}; {green.source}"
    assert (found.median_s, found.key) == (green.median_s, green.key)
    red = import_exported_row(replace(green, trust="red", trust_reason="throttled"), "t.csv", TARGET)
    assert red.trust == "red"
    # Importing again keeps the reason of the first import.
    assert (
        import_exported_row(red, "t.csv", TARGET).trust_reason
        == "imported; rated red where it was measured: throttled"
    )


def test_rows_of_another_device_and_simulated_ones_are_refused() -> None:
    with pytest.raises(TableError, match="t.csv is a table of phone, got --device board: give that name"):
        import_exported_row(replace(a_row(), device="phone"), "t.csv", TARGET)
    simulated = simulated_table("pi4", [BLOCK], [RuntimeKey()]).rows[0]
    with pytest.raises(
        TableError, match=r"t.csv has simulated rows \(mb_k3_e3 16->24 8x8 /2\), which are no"
    ):
        import_exported_row(simulated, "t.csv", TARGET)


def test_rows_with_gate_errors_are_red() -> None:
    rows = [only_row(entry(block, 1e-3)) for block in (BLOCK, OTHER)]
    errors = [
        QualityFinding("units", "error", "t", (("t", 2), ("elsewhere", 1)), ""),
        QualityFinding("throughput", "error", "t", (("t", 2),), ""),
    ]
    first, second = mark_red(rows, errors, "t")
    assert first == rows[0]
    assert (second.trust, second.trust_reason) == (
        "red",
        "imported; fails the quality gate: units, throughput",
    )
