"""Run the jobs of one profiler call, and append each row to the journal as soon as it is measured."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from jmsnas.profiler.host.environment import environment_id
from jmsnas.profiler.host.host_monitor import HostMonitor, HostReader
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.journal import append_record, journal_path
from jmsnas.profiler.table.latency_table import (
    SCHEMA_VERSION,
    AnyRow,
    BlockRow,
    LatencyTable,
    PartRow,
    RuntimeKey,
)
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.table.merge_journal import Warn, merge_journal
from jmsnas.profiler.table.schema import row_to_record
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import Block, BlockOrPart

# Measures a job, reports its events, and calls its third argument often, as `run_in_subprocess` does.
JobRunner = Callable[[ProfileJob, EventHandler, Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class ProfilingSession:
    """Device, table file, host description and callbacks that all jobs of one profiler call share.

    `environment` is from `describe_host`; with `read_host` None the host is not monitored; `warned` holds the
    warnings of the host monitor that were given already.
    """

    device: str
    path: Path
    environment: dict[str, str]
    cache: Path
    seed: int
    warn: Warn
    read_host: HostReader | None
    run_job: JobRunner
    warned: set[str] = field(default_factory=set)

    def measure(
        self,
        key: RuntimeKey,
        subjects: Sequence[BlockOrPart],
        config: TimingConfig,
        progress: Callable[[float, float, str], None],
    ) -> LatencyTable:
        """Measure blocks in one job, append each row to the journal at once, and return the merged table."""
        journal, process = journal_path(self.path), uuid.uuid4().hex
        header = {"schema": SCHEMA_VERSION, "device": self.device, "environment": self.environment}
        monitor = HostMonitor(self.read_host, self.warn, self.warned)
        rows: dict[int, AnyRow] = {}

        def keep(index: int, row: AnyRow) -> None:
            rows[index] = row
            append_record(journal, {"row": row_to_record(row), "process": process})

        def on_event(event: dict[str, Any]) -> None:
            if "progress" in event:
                progress(*event["progress"])
            elif "failed" in event:
                self.warn(
                    f"{subjects[event['failed']]} cannot be measured in {key.label}: {event['why']}. "
                    "It is skipped; the other blocks are measured"
                )
            elif "row" in event:
                index, faults = (event["row"], (*monitor.faults, *event.get("faults", ())))
                environment = environment_id(self.environment)
                keep(index, event_to_row(event, self.device, key, subjects[index], environment, faults))
            else:
                keep(event["energy"], replace(rows[event["energy"]], energy_j=event["j"]))

        try:
            append_record(journal, header)
            self.run_job(
                ProfileJob(key, tuple(subjects), self.cache, self.seed, config), on_event, monitor.look
            )
        finally:
            try:
                for fault in monitor.end():
                    # It occurred after the last reading: any row may have been measured under it.
                    for index, row in rows.items():
                        keep(index, replace(row, host_faults=(*row.host_faults, fault)))
            finally:
                table = self._merge_journal()
        return table

    def _merge_journal(self) -> LatencyTable:
        """Merge the journal, even where Ctrl-C interrupts this."""
        try:
            return merge_journal(self.device, self.path, self.warn)
        except KeyboardInterrupt:
            merge_journal(self.device, self.path, self.warn)
            raise


def event_to_row(
    event: dict[str, Any],
    device: str,
    key: RuntimeKey,
    subject: BlockOrPart,
    environment: str,
    host_faults: tuple[str, ...],
) -> AnyRow:
    """Convert the timing event of one block into a row of the latency table.

    The common level of the rows and their trust are set when the journal is merged. Raises
    msgspec.ValidationError for an event without the fields of a `Measurement`.
    """
    found = msgspec.convert(event, Measurement)
    level_s, samples = found.reference_s, found.samples
    make = BlockRow if isinstance(subject, Block) else PartRow
    return make(
        device=device,
        key=key,
        block=subject,  # type: ignore[arg-type]  # the type that `make` takes
        kind="measured",
        median_s=found.ratio * level_s,
        low_s=found.ratio_low * level_s,
        high_s=found.ratio_high * level_s,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        reference_s=level_s,
        min_s=min(samples) * level_s,
        p90_s=float(np.quantile(samples, 0.9)) * level_s,
        rounds=len(samples),
        converged=found.converged,
        environment=environment,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        source=f"jmsnas {version('jmsnas')}",
        samples=samples,
        process_rounds=(len(samples),),
        drift=found.drift,
        interrupted=found.interrupted,
        host_faults=host_faults,
    )
