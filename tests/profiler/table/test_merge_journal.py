import os
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiling_jobs import BLOCKS, EAGER, PART, a_row

from jmsnas.errors import StorageError, TableError
from jmsnas.profiler.host.environment import environment_id
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.journal import append_record, journal_path
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.merge_journal import merge_journal, merge_rows, pool_rows
from jmsnas.profiler.table.noise_floor import noise_floor, widened_interval
from jmsnas.profiler.table.parquet import read_metadata, read_table, write_table
from jmsnas.profiler.table.schema import row_to_record

HOST = {"cpu": "a test's"}
HEADER = {"schema": 3, "device": "local", "environment": HOST}


def a_host_row(*arguments: Any, **options: Any) -> AnyRow:
    return replace(a_row(*arguments, **options), environment=environment_id(HOST))


ROWS = tuple(a_host_row(subject, (1.0 + n,)) for n, subject in enumerate((*BLOCKS[:3], PART)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "local.parquet"


def note(path: Path, *rows: AnyRow, process: str = "p") -> None:
    """What a process leaves in the journal."""
    append_record(journal_path(path), HEADER)
    for row in rows:
        append_record(journal_path(path), {"row": row_to_record(row), "process": process})


def fold(path: Path, warn: Callable[[str], None] = pytest.fail) -> LatencyTable:
    return merge_journal("local", path, warn)


def samples(table: LatencyTable) -> dict[object, tuple[float, ...]]:
    return {row.block: row.samples for row in table.all_rows}


def test_nothing_is_made_of_nothing(path: Path) -> None:
    assert fold(path) == LatencyTable("local", (), {})
    assert not path.exists()


def test_journal_becomes_the_table_and_is_gone(path: Path) -> None:
    note(path, *ROWS)
    with journal_path(path).open("ab") as file:
        file.write(b"00000000 {torn")
    table = fold(path)
    assert samples(table) == {row.block: row.samples for row in ROWS}
    assert table.environments == {environment_id(HOST): HOST}
    assert [row.block for row in table.parts] == [PART]
    assert read_table(path) == table and not journal_path(path).exists()
    when = path.stat().st_mtime_ns
    assert fold(path) == table and path.stat().st_mtime_ns == when, "written although nothing was new"


def test_last_report_of_a_process_counts(path: Path) -> None:
    first, last = a_host_row(ratios=(1.0,)), a_host_row(ratios=(1.02,))
    note(path, first, ROWS[1], last)
    table = fold(path)
    assert samples(table)[BLOCKS[0]] == last.samples and len(table.rows) == 2
    # Energy is measured after the row, which is then reported again.
    note(path, replace(ROWS[2]), replace(ROWS[2], energy_j=2e-5))
    (found,) = [row for row in fold(path).rows if row.block == BLOCKS[2]]
    assert found.energy_j == 2e-5 and found.process_rounds == (21,)


def test_reports_of_two_processes_are_pooled(path: Path) -> None:
    first, second, third = (a_host_row(ratios=(ratio,)) for ratio in (1.0, 1.01, 1.02))
    note(path, first, process="p")
    note(path, second, process="q")
    (row,) = fold(path).rows
    assert row.samples == first.samples + second.samples and row.process_rounds == (21, 21)
    note(path, third, process="r")
    (row,) = fold(path).rows
    assert row.process_rounds == (21, 21, 21) and row.ratio == pytest.approx(1.01, rel=1e-3)


def test_journal_that_was_folded_in_is_not_folded_in_again(path: Path) -> None:
    note(path, *ROWS)
    fold(path)
    note(path, *(a_host_row(row.block, (row.ratio * 1.01,)) for row in ROWS), process="q")
    kept = journal_path(path).read_bytes()
    table = fold(path)
    assert {row.process_rounds for row in table.all_rows} == {(21, 21)}
    # Killed between writing the table and removing the journal: both are there.
    journal_path(path).write_bytes(kept)
    assert fold(path) == table == read_table(path)
    assert not journal_path(path).exists()


def test_rows_of_a_key_and_environment_share_a_level() -> None:
    levels_s = (1e-4, 1.5e-4, 4e-4)
    rows = [a_row(block, (2.0,), level_s=level_s) for block, level_s in zip(BLOCKS, levels_s, strict=False)]
    rows += [a_row(BLOCKS[0], key=RuntimeKey(), level_s=9e-4), replace(a_row(BLOCKS[3]), environment="def")]
    table = merge_rows("local", [*rows, a_row(PART, level_s=1.5e-4)], {})
    shared = [row for row in table.all_rows if (row.key, row.environment) == (EAGER, "abc")]
    assert len(shared) == 4
    for row in shared:
        assert row.median_s == pytest.approx(row.ratio * 1.5e-4), "the median level, parts among them"
        assert row.min_s == pytest.approx(min(row.samples) * 1.5e-4)
        assert row.low_s <= row.median_s <= row.high_s and row.min_s <= row.median_s <= row.p90_s
    assert {row.reference_s for row in shared} == {*levels_s}, "what each met is kept"
    assert next(row for row in table.rows if row.key == RuntimeKey()).median_s == pytest.approx(9e-4)


def test_seconds_are_widened_by_the_noise_floor_and_rated() -> None:
    pairs = [(1.0, 1.002), (2.0, 2.006), (3.0, 3.012)]
    twice = [a_row(block, pair) for block, pair in zip(BLOCKS[:3], pairs, strict=True)]
    table = merge_rows("local", [*twice, a_row(BLOCKS[3])], {})
    floor = noise_floor(twice)
    for row in table.rows:
        low, high = widened_interval(row, floor)
        assert (row.low_s, row.high_s) == pytest.approx((low * 1e-4, high * 1e-4))
        assert row.low_s < row.ratio_low * 1e-4 and row.high_s > row.ratio_high * 1e-4
        assert row.trust == "green" and "0.3% median difference between processes" in row.trust_reason
    (alone,) = merge_rows("local", [a_row()], {}).rows
    assert (alone.trust, alone.trust_reason) == ("yellow", "no block was measured in a second process")
    assert alone.low_s == pytest.approx(alone.ratio_low * 1e-4)


def test_merging_again_changes_nothing() -> None:
    rows = [*ROWS, a_host_row(BLOCKS[4], (1.0, 1.01))]
    environments = {environment_id(HOST): HOST, "unused": {}}
    table = merge_rows("local", rows, environments)
    assert merge_rows("local", table.all_rows, environments) == table
    assert "unused" not in table.environments


def test_measured_rows_take_the_place_of_all_simulated_ones(path: Path) -> None:
    simulated = simulated_table("pi4", BLOCKS, [EAGER])
    rows = tuple(replace(row, device="local") for row in simulated.rows)
    write_table(path, LatencyTable("local", rows, simulated.environments))
    assert fold(path).simulated
    note(path, ROWS[0])
    assert [row.kind for row in fold(path).rows] == ["measured"]
    table = merge_rows("pi4", simulated.rows, simulated.environments)
    assert {(row.trust, row.trust_reason) for row in table.rows} == {("red", "simulated, not measured")}
    assert [row.median_s for row in table.rows] == [
        row.median_s for row in sorted(simulated.rows, key=lambda row: row.block)
    ]


def test_rows_around_damaged_lines_are_kept_and_the_journal_is_set_aside(path: Path) -> None:
    warned = list[str]()
    for n in (1, 2):
        note(path, *ROWS)
        header, *lines = journal_path(path).read_bytes().splitlines(keepends=True)
        content = b"".join((header, lines[0], lines[1][:30], b"\nnonsense\n", *lines[2:]))
        journal_path(path).write_bytes(content)
        table = fold(path, warned.append)
        kept = [row for row in ROWS if row.block != ROWS[1].block]
        assert samples(table) == {row.block: row.samples for row in kept} and read_table(path) == table
        assert warned[n - 1] == (
            f"damaged lines in {path}.journal: 3, 4. The {len(kept)} rows of its other lines are in "
            f"{path.name}, the file was renamed to {path.name}.journal.damaged-{n}, "
            "and lost rows are measured again"
        )
        assert path.with_name(f"{path.name}.journal.damaged-{n}").read_bytes() == content
        assert not journal_path(path).exists()


def test_rows_whose_environment_line_is_damaged_are_measured_again(path: Path) -> None:
    warned = list[str]()
    note(path, *ROWS)
    content = journal_path(path).read_bytes()
    journal_path(path).write_bytes(b"X" + content[1:])
    assert samples(fold(path, warned.append)) == {}
    assert warned[0].startswith(f"damaged lines in {path}.journal: 1. The 0 rows")
    assert path.with_name(f"{path.name}.journal.damaged-1").exists()


@pytest.mark.parametrize("header", [{"schema": 1, "device": "local"}, {"schema": 3, "device": "pi4"}])
def test_journal_of_another_kind(path: Path, header: dict[str, object]) -> None:
    append_record(journal_path(path), {**header, "environment": {}})
    with pytest.raises(TableError, match=r"is of schema .*: expected schema 3 and 'local'\. Move it away"):
        fold(path)


def test_invalid_row_in_the_journal(path: Path) -> None:
    append_record(journal_path(path), {"row": {"device": "local"}, "process": "p"})
    with pytest.raises(TableError, match="a row lacks the column 'runtime'"):
        fold(path)
    assert journal_path(path).exists()


@pytest.mark.parametrize("failing", ["fsync", "replace", "unlink"])
def test_failed_fold_is_made_up_for(path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    note(path, *ROWS, process="p")
    note(path, a_host_row(ratios=(1.01,)), process="q")
    kept = journal_path(path).read_bytes()
    expected = fold(path)
    path.unlink()
    journal_path(path).write_bytes(kept)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path if failing == "unlink" else os, failing, full)
        with pytest.raises(StorageError, match="No space left on device"):
            fold(path)
    assert fold(path) == expected and not journal_path(path).exists()


def test_damaged_table_is_left_alone(path: Path) -> None:
    path.write_text("not mine")
    note(path, ROWS[0])
    with pytest.raises(TableError, match="damaged, or not a Parquet file"):
        fold(path)
    assert path.read_text() == "not mine" and journal_path(path).exists()


def test_table_of_another_device(path: Path) -> None:
    write_table(path, merge_rows("local", ROWS, {}))
    with pytest.raises(TableError, match=r"is a table of local: expected pi4\. Move it away"):
        merge_journal("pi4", path, pytest.fail)


def test_other_schema_version_is_set_aside(path: Path) -> None:
    told = list[str]()
    for _ in range(2):
        note(path, ROWS[0])
        fold(path)
        old = pq.read_table(path)
        pq.write_table(old.replace_schema_metadata({**old.schema.metadata, b"jmsnas.schema": b"1"}), path)
        assert fold(path, told.append).rows == () and not path.exists()
    assert told == [
        f"{path} has schema 1, this version writes 3: it was renamed to local.parquet.schema1-{n}, and "
        "all rows are measured again"
        for n in (1, 2)
    ]
    assert read_metadata(path.with_name("local.parquet.schema1-1"), "jmsnas.schema") == "1"


def test_schema_that_cannot_be_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(path, merge_rows("local", ROWS, {}))
    old = pq.read_table(path)
    pq.write_table(old.replace_schema_metadata({**old.schema.metadata, b"jmsnas.schema": b"1"}), path)

    def read_only(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", read_only)
    with pytest.raises(StorageError, match="Read-only file system"):
        fold(path)


def test_environment_that_changed_takes_the_place_of_the_old_row(path: Path) -> None:
    note(path, ROWS[0], ROWS[1])
    fold(path)
    other = {"cpu": "another"}
    row = replace(a_row(ratios=(1.3,)), environment=environment_id(other))
    append_record(journal_path(path), HEADER | {"environment": other})
    append_record(journal_path(path), {"row": row_to_record(row), "process": "q"})
    table = fold(path)
    assert samples(table) == {BLOCKS[0]: row.samples, BLOCKS[1]: ROWS[1].samples}
    assert {*table.environments} == {environment_id(HOST), environment_id(other)}


def test_level_is_the_median_over_rows_not_over_time() -> None:
    # A level that jumped for good is a factor: the rows of both halves lie on one scale all the same.
    before = [a_row(block, (2.0,), level_s=1e-4) for block in BLOCKS[:3]]
    after = [a_row(block, (2.0,), level_s=3e-4) for block in BLOCKS[3:5]]
    table = merge_rows("local", [*before, *after], {})
    assert {round(row.median_s, 12) for row in table.rows} == {2 * median([1e-4] * 3 + [3e-4] * 2)}


QUIET, SLOWER = a_row(ratios=(1.0,)), a_row(ratios=(1.02,), level_s=4e-4)
HOT = "the host is at 91 C"


def test_ratio_is_the_median_over_the_samples_of_both() -> None:
    found = pool_rows(QUIET, SLOWER)
    # 42 samples in six steps: 0.995, 1, 1.005, 1.0149, 1.02, 1.0251; the 21st is 1.005, the 22nd 1.0149.
    assert found.ratio == pytest.approx((1.005 + 1.0149) / 2)
    # P(B <= 14) = 2.2 % of 42, P(B <= 15) = 4.4 %: the 15th and the 28th hold the median.
    assert (found.ratio_low, found.ratio_high) == pytest.approx((1.005, 1.0149))
    assert found.samples == (*QUIET.samples, *SLOWER.samples)
    assert found.process_rounds == (21, 21) and found.rounds == 42
    assert found.reference_s == pytest.approx(2e-4), "a level that jumped is a factor"
    assert found.converged and not pool_rows(QUIET, a_row(ratios=(1.04,))).converged


def test_faults_of_all_processes_are_kept() -> None:
    one = replace(QUIET, drift=0.3, interrupted=0.1, energy_j=2e-5, measured_at="2026-11-23")
    other = replace(SLOWER, drift=0.1, interrupted=0.15, measured_at="2026-11-24")
    found = pool_rows(one, other)
    assert (found.drift, found.interrupted, found.energy_j) == (0.3, 0.15, 2e-5)
    assert found.measured_at == "2026-11-24"
    assert pool_rows(one, replace(other, energy_j=3e-5)).energy_j == 3e-5
    both = pool_rows(replace(one, host_faults=(HOT, "a")), replace(other, host_faults=("b", HOT)))
    assert both.host_faults == (HOT, "a", "b")


def test_stages_stay_until_others_are_found() -> None:
    seen = replace(QUIET, stages=("stem",), stages_s=(1e-5,))
    assert pool_rows(seen, SLOWER).stages_s == (1e-5,)
    assert pool_rows(replace(seen, host_faults=(HOT,)), SLOWER) == replace(
        SLOWER, stages=("stem",), stages_s=(1e-5,)
    )
    assert pool_rows(seen, replace(SLOWER, stages=("stem",), stages_s=(2e-5,))).stages_s == (2e-5,)
    assert pool_rows(seen, replace(SLOWER, environment="another")).stages == ()


def test_eight_processes_are_kept_the_latest() -> None:
    rows = [a_row(ratios=(1 + 0.001 * number,)) for number in range(10)]
    found = reduce(pool_rows, rows)
    assert found.process_rounds == (21,) * 8
    assert found.samples == tuple(sample for row in rows[2:] for sample in row.samples)


@pytest.mark.parametrize("harm", [{"host_faults": (HOT,)}, {"interrupted": 0.21}])
def test_disturbed_rows_are_replaced_not_pooled(harm: dict[str, object]) -> None:
    assert pool_rows(replace(QUIET, **harm), SLOWER) == SLOWER
    assert pool_rows(QUIET, replace(SLOWER, **harm)) == QUIET
    assert pool_rows(replace(QUIET, **harm), replace(SLOWER, **harm)).process_rounds == (21, 21)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (QUIET, replace(SLOWER, environment="another")),
        (replace(QUIET, kind="simulated", samples=(), process_rounds=()), SLOWER),
        (replace(QUIET, samples=(), process_rounds=()), SLOWER),
        (QUIET, replace(QUIET, energy_j=1e-5)),  # the same samples again
    ],
)
def test_rows_that_do_not_belong_together(before: AnyRow, after: AnyRow) -> None:
    assert pool_rows(before, after) == after


def test_parts_are_pooled_as_blocks_are() -> None:
    found = pool_rows(a_row(PART, (3.0,)), a_row(PART, (3.03,)))
    assert found.block == PART and found.process_rounds == (21, 21) and 3.0 < found.ratio < 3.03


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=12, unique=True))
def test_any_number_of_processes(ratios: list[float]) -> None:
    found = reduce(pool_rows, [a_row(BLOCKS[1], (ratio,)) for ratio in ratios])
    assert len(found.process_rounds) == min(8, len(ratios))
    assert sum(found.process_rounds) == len(found.samples) == found.rounds
    assert found.ratio == pytest.approx(median(found.samples))
    assert min(found.samples) <= found.ratio_low <= found.ratio <= found.ratio_high <= max(found.samples)
