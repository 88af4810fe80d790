"""The sittings of one call of the profiler: each row is kept the moment it is finished."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jmsnas.profiler.host.environment import environment_id
from jmsnas.profiler.host.host_monitor import HostMonitor, HostReader
from jmsnas.profiler.session.event_row import event_row
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.journal import append_record, journal_path
from jmsnas.profiler.table.latency_table import SCHEMA_VERSION, AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn, merge_journal
from jmsnas.profiler.table.schema import row_to_record
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import BlockOrPart

# Measures a job, tells results, calls its third argument often: `run_in_subprocess` or `run_job`.
JobRunner = Callable[[ProfileJob, EventHandler, Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class ProfilingSession:
    """What all sittings of one call have in common."""

    device: str
    path: Path
    values: dict[str, str]
    cache: Path
    seed: int
    warn: Warn
    watch: HostReader | None
    sit: JobRunner
    told: set[str] = field(default_factory=set)

    def measure(
        self,
        key: RuntimeKey,
        subjects: Sequence[BlockOrPart],
        config: TimingConfig,
        progress: Callable[[float, float, str], None],
    ) -> LatencyTable:
        """Measure in one sitting, keeping each row the moment it is finished, and return the whole table."""
        journal, process = journal_path(self.path), uuid.uuid4().hex
        header = {"schema": SCHEMA_VERSION, "device": self.device, "environment": self.values}
        watch = HostMonitor(self.watch, self.warn, self.told)
        rows: dict[int, AnyRow] = {}

        def report(event: dict[str, Any]) -> None:
            if "progress" in event:
                progress(*event["progress"])
            elif "failed" in event:
                self.warn(
                    f"{subjects[event['failed']]} cannot be measured in {key.label}: {event['why']}. "
                    "It is left out; the others go on"
                )
            else:
                index = event["row"] if "row" in event else event["energy"]
                if "row" in event:
                    environment = environment_id(self.values)
                    faults = (*watch.faults, *event.get("faults", ()))
                    row = event_row(event, self.device, key, subjects[index], environment, faults)
                else:
                    row = replace(rows[index], energy_j=event["j"])
                rows[index] = row
                append_record(journal, {"row": row_to_record(row), "process": process})

        try:
            append_record(journal, header)
            self.sit(ProfileJob(key, tuple(subjects), self.cache, self.seed, config), report, watch.look)
        finally:
            try:
                for fault in watch.end():
                    # It came after the last look: any row may have been measured under it.
                    for index, row in rows.items():
                        rows[index] = row = replace(row, host_faults=(*row.host_faults, fault))
                        append_record(journal, {"row": row_to_record(row), "process": process})
            finally:
                table = merge_journal(self.device, self.path, self.warn)
        return table
