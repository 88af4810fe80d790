import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from gate_tables import BLOCKS, SPOILED, a_table, changed, cold, only, without_intervals
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.profiler.quality.gate import check_quality
from jmsnas.profiler.quality.latency_entry import entries_of_table
from jmsnas.profiler.simulation.roofline import simulated_device_names, simulated_table
from jmsnas.profiler.table.latency_table import RuntimeKey


@pytest.mark.parametrize("source", ["pi4", "laptop-cpu", "cloud"])
def test_sound_table_has_no_finding(source: str) -> None:
    assert check_quality(a_table(source=source)) == ()
    assert check_quality(without_intervals(a_table(source=source))) == ()
    assert check_quality(()) == ()


@pytest.mark.parametrize("name", simulated_device_names())
def test_simulated_rows_are_counted_and_nothing_else(name: str) -> None:
    found = check_quality(
        entries_of_table(simulated_table(name, BLOCKS, [RuntimeKey(), RuntimeKey("torch")]), "t")
    )
    assert [entry.rule for entry in found] == ["simulated"]
    rows = 2 * len(BLOCKS)
    assert found[0].message == f"{rows} of {rows} rows of t are simulated, not measured"
    assert found[0].severity == "warning" and len(found[0].rows) == rows


@pytest.mark.parametrize("rule", SPOILED)
def test_every_rule_has_a_table_that_trips_it(rule: str) -> None:
    assert rule in {entry.rule for entry in check_quality(SPOILED[rule]())}


def test_every_rule_of_the_docs_is_tried() -> None:
    text = Path(__file__).parents[3].joinpath("docs", "table.md").read_text()
    section = text.partition("## The quality gate")[2].partition("\n## ")[0]
    listed = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {rule for cell in listed for rule in re.findall("`([a-z-]+)`", cell)} == {*SPOILED}


def test_cold_start() -> None:
    assert "cold-start" not in [entry.rule for entry in check_quality(cold(0.0))]
    found = only(check_quality(cold(0.3, head=10)), "cold-start")
    assert found.severity == "warning" and "the device may have been cold" in found.message
    assert "the first 8 rows of onnxruntime-t1-b1-f32 are" in found.message
    # Ours lie sorted by block in the file: the order of measurement counts.
    shuffled = sorted(cold(0.3, head=10), key=lambda row: row.label)
    assert only(check_quality(shuffled), "cold-start").rows == found.rows
    assert "cold-start" not in [entry.rule for entry in check_quality(cold(0.3, head=10)[:31])], (
        "too few to tell"
    )


def test_units_out_of_all_bounds() -> None:
    rows = [replace(row, median_s=row.median_s * 1e6) for row in without_intervals(a_table())]
    found = only(check_quality(rows), "units")
    assert found.severity == "error" and "or above 100 s, which no block takes" in found.message


@settings(max_examples=25)
@given(st.integers(0, len(BLOCKS) - 1), st.sampled_from([1e3, 1e-3]))
def test_any_row_in_another_unit_is_found(index: int, factor: float) -> None:
    rows = a_table(source="laptop-cpu")
    if rows[index].op == "identity":
        return
    found = only(check_quality(changed(rows, index, factor)), "units")
    assert found.rows == (("t", index + 1),)


def test_quarter_of_the_rows_in_another_unit() -> None:
    rows = a_table()
    wrong = [i for i in range(0, len(rows), 6) if rows[i].op != "identity"]
    for index in wrong:
        rows = changed(rows, index, 1e3)
    assert only(check_quality(rows), "units").rows == tuple(("t", i + 1) for i in wrong)


def test_unconverged_share() -> None:
    # 53 rows: 7 are 13 %, 8 are 15.1 %.
    rows = a_table()
    assert len(rows) == 53
    assert check_quality([replace(row, converged=i >= 7) for i, row in enumerate(rows)]) == ()
    (found,) = check_quality([replace(row, converged=i >= 8) for i, row in enumerate(rows)])
    assert (found.rule, found.severity, len(found.rows)) == ("unconverged", "warning", 8)
    assert (
        "8 of 53 rows of onnxruntime-t1-b1-f32 did not converge (15%, expected at most 15%)" in found.message
    )


def test_distrusted_share() -> None:
    # 53 rows: 2 are 3.8 %, 3 are 5.7 %.
    rows, why = a_table(), "another process held its core in 52% of the rounds"
    assert check_quality([replace(row, red_reason=why if i < 2 else "") for i, row in enumerate(rows)]) == ()
    (found,) = check_quality([replace(row, red_reason=why if i < 3 else "") for i, row in enumerate(rows)])
    assert (found.rule, found.severity, len(found.rows)) == ("distrusted", "warning", 3)
    assert "3 of 53 rows of onnxruntime-t1-b1-f32 are red (6%, expected at most 5%)" in found.message
    assert f"first row 1, {rows[0].label}: {why}. Run jmsnas profile again on a quiet" in found.message


def test_errors_come_first() -> None:
    rows = [replace(row, converged=False) for row in a_table()]
    rows[0] = replace(rows[0], median_s=-1.0)
    assert [entry.severity for entry in check_quality(rows)] == ["error", "warning"]


@given(st.floats(0.2, 5.0))
@settings(max_examples=20)
def test_a_faster_or_slower_host_changes_nothing(factor: float) -> None:
    rows = a_table()
    for index in range(len(rows)):
        rows = changed(rows, index, factor)
    assert check_quality(rows) == ()


@settings(max_examples=60)
@given(st.lists(st.none() | st.floats(), min_size=1, max_size=40), st.sampled_from(["", "campaign 1"]))
def test_no_latency_brings_the_gate_down(values: list[float | None], campaign: str) -> None:
    rows = without_intervals(a_table())
    rows = [replace(r, campaign=campaign) for r in rows]
    odd = [replace(r, median_s=math.nan if v is None else v) for r, v in zip(rows, values, strict=False)]
    found = check_quality([*odd, *rows[len(odd) :]])
    wrong = {("t", r.row) for r in odd if not (math.isfinite(r.median_s) and r.median_s > 0)}
    assert {place for entry in found if entry.rule == "positive" for place in entry.rows} == wrong
