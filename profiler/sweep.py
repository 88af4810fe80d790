"""Profile a device: measure every block that its table lacks, or simulate a device that is not at hand.

The same call again goes on where the last one ended, however it ended: finished rows are in the journal.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from jmsnas.errors import DeviceError
from jmsnas.profiler.environment import describe_host, environment_name, host_is
from jmsnas.profiler.fold import Tell, fold_journal, merged
from jmsnas.profiler.host_state import HostState, read_state, watched
from jmsnas.profiler.journal import append_record, journal_path, only_writer
from jmsnas.profiler.parquet import row_record, write_table
from jmsnas.profiler.runtimes import pinned, prepare
from jmsnas.profiler.simulated import simulated_names, simulated_table
from jmsnas.profiler.table import REFERENCE, SCHEMA_VERSION, Key, LatencyTable, Row
from jmsnas.profiler.timing import Clock, Measurement, TimingConfig, measure
from jmsnas.progress import Progress, silent
from jmsnas.space import Block
from jmsnas.workspace import Workspace

# Enough on a noisy shared host for 19 of 20 rows of the digits space to end within 1 %.
_BUDGET_S_A_BLOCK = 0.6
# Share of a run time's work that making the blocks ready takes, for the progress shown.
_PREPARING = 0.3


@dataclass(frozen=True, slots=True)
class Profiled:
    """A device's table, where it lies, and whether this call measured, simulated or kept it as it was."""

    table: LatencyTable
    path: Path
    outcome: str


def profile_device(
    device: str,
    blocks: Sequence[Block],
    keys: Sequence[Key],
    workspace: Workspace,
    *,
    measured_only: bool = False,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = silent,
    tell: Tell = warnings.warn,
    watch: Callable[[], HostState] | None = read_state,
) -> Profiled:
    """Bring a device's table up to date: measured if this host is that device, else simulated.

    Parameters
    ----------
    device
        `local` (this host) or a built-in device.
    blocks, keys
        What to profile and how it is run.
    workspace
        Where tables and exported models lie.
    measured_only
        Refuse rather than simulate.
    seed, budget_s, progress, tell, watch
        As in `profile`.

    Returns
    -------
    The table with `outcome` `measured`, `simulated`, or `kept`: a measured table is never replaced by a
    simulated one.

    Raises
    ------
    DeviceError
        For an unknown device, or with `measured_only` one that this host is not.
    """
    path = workspace.table(device)
    known = ("local", *simulated_names())
    if device not in known:
        raise DeviceError(f"unknown device {device!r}: expected one of {', '.join(known)}")
    if host_is(device):
        cache = workspace.folder / "cache" / "onnx"
        table = profile(
            device,
            blocks,
            keys,
            path,
            cache=cache,
            seed=seed,
            budget_s=budget_s,
            progress=progress,
            tell=tell,
            watch=watch,
        )
        return Profiled(table, path, "measured")
    if measured_only:
        raise DeviceError(
            f"this host is not {device}, and --measured-only refuses to simulate it. "
            f"On that machine, run: jmsnas profile --device {device}"
        )
    return _simulate(device, blocks, keys, path, tell)


def profile(
    device: str,
    blocks: Sequence[Block],
    keys: Sequence[Key],
    table_path: Path,
    *,
    cache: Path,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = silent,
    tell: Tell = warnings.warn,
    watch: Callable[[], HostState] | None = None,
    clock: Clock = time.perf_counter_ns,
) -> LatencyTable:
    """Measure on this host every block that the table lacks under a key, and return the whole table.

    Parameters
    ----------
    device
        Name that the rows carry.
    blocks, keys
        What to measure and how it is run; rows measured before are kept, simulated ones are replaced.
    table_path
        The Parquet file; its journal and lock lie beside it.
    cache
        Folder of exported models.
    seed
        Seed of the order within rounds, of weights and of inputs.
    budget_s
        Seconds of sampling a key; 0.6 s a block where None.
    progress, tell
        Called with how far it is (in blocks), and with what the user should know.
    watch
        Reads the host before and after each key's blocks, for warnings; not done where None.
    clock
        Nanoseconds that never step back.

    Raises
    ------
    MeasurementError
        When another process writes this table, or a block cannot be run.
    StorageError
        When a row cannot be kept; the table on disk is as it was.
    TableError
        When the file at `table_path` is damaged or foreign.
    """
    with only_writer(table_path):
        table = fold_journal(device, table_path, tell)
        have = {(row.key, row.block) for row in table.rows if row.kind == "measured"}
        missing = {key: [block for block in blocks if (key, block) not in have] for key in keys}
        missing = {key: left for key, left in missing.items() if left}
        if not missing:
            return table
        values = describe_host()
        append_record(
            journal_path(table_path), {"schema": SCHEMA_VERSION, "device": device, "environment": values}
        )
        total, before, told = sum(map(len, missing.values())), 0, set[str]()
        try:
            for key, left in missing.items():
                config = TimingConfig(
                    budget_s=_BUDGET_S_A_BLOCK * len(left) if budget_s is None else budget_s
                )
                shown = partial(_shown, progress, key, before, len(left), total)
                calls = prepare([REFERENCE, *left], key, cache, seed, partial(shown, 0.0, _PREPARING))
                keep = partial(_keep, table_path, device, key, left, environment_name(values))
                with pinned(key), watched(tell, told, watch):
                    measure(calls[1:], calls[0], keep, config, seed, partial(shown, _PREPARING, 1.0), clock)
                before += len(left)
        finally:
            table = fold_journal(device, table_path, tell)
    return table


def _shown(
    progress: Progress,
    key: Key,
    before: int,
    blocks: int,
    total: int,
    start: float,
    end: float,
    done: float,
    of: float,
    what: str,
) -> None:
    progress(before + blocks * (start + (end - start) * done / of), total, f"{key.label}: {what}")


def _keep(
    table_path: Path,
    device: str,
    key: Key,
    blocks: Sequence[Block],
    environment: str,
    index: int,
    found: Measurement,
) -> None:
    level_s = found.reference_s
    row = Row(
        device=device,
        key=key,
        block=blocks[index],
        kind="measured",
        median_s=found.ratio * level_s,
        low_s=found.ratio_low * level_s,
        high_s=found.ratio_high * level_s,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        reference_s=level_s,
        min_s=min(found.samples) * level_s,
        p90_s=float(np.quantile(found.samples, 0.9)) * level_s,
        rounds=len(found.samples),
        converged=found.converged,
        environment=environment,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        source=f"jmsnas {version('jmsnas')}",
        samples=found.samples,
    )
    append_record(journal_path(table_path), {"row": row_record(row)})


def _simulate(device: str, blocks: Sequence[Block], keys: Sequence[Key], path: Path, tell: Tell) -> Profiled:
    with only_writer(path):
        table = fold_journal(device, path, tell)
        if any(row.kind == "measured" for row in table.rows):
            tell(f"{path} was measured and is kept: a simulated table never replaces a measured one")
            return Profiled(table, path, "kept")
        simulated = simulated_table(device, blocks, keys)
        environments = table.environments | simulated.environments
        table = merged(device, [*table.rows, *simulated.rows], environments)
        write_table(path, table)
        return Profiled(table, path, "simulated")
