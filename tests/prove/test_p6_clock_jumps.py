"""P6: a wall clock that jumps changes no ratio, row or order."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from profiling_jobs import BLOCKS, EAGER, run_job_here
from prove.fake_clock import FakeHost
from prove.proof import Proof
from prove.synthetic_blocks import synthetic_blocks

from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.journal import journal_path
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.timing.paired_timing import Clocks, measure

HOUR_S, DAY_S = 3600, 86400
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class WallClock:
    """Fake wall clock: each call of `time.time` or `datetime.now` is one of `steps_s` later, in turn."""

    steps_s: tuple[float, ...]
    looks: int = 0
    now_s: float = START.timestamp()

    def time(self) -> float:
        self.now_s += self.steps_s[self.looks % len(self.steps_s)]
        self.looks += 1
        return self.now_s

    def set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = self

        class Jumping(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.fromtimestamp(clock.time(), tz)

        monkeypatch.setattr(time, "time", self.time)
        monkeypatch.setattr(time, "time_ns", lambda: int(self.time() * 1e9))
        monkeypatch.setattr("jmsnas.profiler.session.profiling_session.datetime", Jumping)


def run_on_a_fake_host(job: ProfileJob, on_event: EventHandler, tick: Callable[[], None]) -> None:
    """Measure with the real timing code on a deterministic host."""
    host = FakeHost(seed=7, noise=0.02)
    blocks = [host.timed(2e-5 * (1 + index)) for index in range(len(job.subjects))]

    def finished(index: int, found: Any) -> None:
        on_event({"row": index, **asdict(found)})
        tick()

    measure(blocks, [host.timed(1e-4)], finished, job.config, job.seed, clocks=Clocks(host.clock))


def table_of(folder: Path) -> LatencyTable:
    path = folder / "local.parquet"
    options = ProfileOptions(read_host=None, run_job=run_on_a_fake_host)
    return update_table("local", synthetic_blocks(12), [EAGER], path, folder, options)


def without_dates(table: LatencyTable) -> list[dict[str, Any]]:
    return [{**asdict(row), "measured_at": ""} for row in table.all_rows]


@pytest.mark.parametrize(
    "steps_s",
    [(HOUR_S,), (-HOUR_S,), (DAY_S,), (-DAY_S,), (DAY_S, -DAY_S), (-HOUR_S, 0.0, HOUR_S)],
    ids=["hours-on", "hours-back", "days-on", "days-back", "to-and-fro", "back-and-on"],
)
def test_jumps_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof, steps_s: tuple[float, ...]
) -> None:
    expected = table_of(tmp_path / "steady")
    clock = WallClock(steps_s)
    with monkeypatch.context() as patched:
        clock.set(patched)
        found = table_of(tmp_path / "jumping")
        assert table_of(tmp_path / "jumping") == found, "measured again"
    assert clock.looks >= 12 and len({row.measured_at for row in found.rows}) > 1
    assert without_dates(found) == without_dates(expected)
    assert read_table(tmp_path / "jumping" / "local.parquet") == found
    assert not journal_path(tmp_path / "jumping" / "local.parquet").exists()


def test_real_measurement_on_a_jumping_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    clock, path, began = WallClock((-DAY_S, HOUR_S)), tmp_path / "local.parquet", time.monotonic()
    with monkeypatch.context() as patched:
        clock.set(patched)
        options = ProfileOptions(budget_s=0.4, read_host=None, run_job=run_job_here)
        table = update_table("local", BLOCKS, [EAGER], path, tmp_path, options)
    spent_s = time.monotonic() - began
    assert clock.looks and [row.block for row in table.rows] == sorted(BLOCKS)
    assert all(row.kind == "measured" and 0 < row.ratio < 100 and row.rounds >= 6 for row in table.rows)
    assert all(datetime.fromisoformat(row.measured_at) < START - timedelta(hours=1) for row in table.rows)
    assert spent_s > 0.4 and not journal_path(path).exists()
    proof.show(
        f"6 patterns of jumps at every reading: tables equal; a real measurement: {len(table.rows)} rows"
    )
