"""Profile a device: measure every block that its table lacks, or simulate a device that is not at hand.

The same call again goes on where the last one ended, however it ended: finished rows are in the journal.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from jmsnas.errors import DeviceError
from jmsnas.profiler.capacity import check_host_capacity
from jmsnas.profiler.host.environment import describe_host, environment_id, is_this_host
from jmsnas.profiler.host.host_monitor import HostReader, read_host
from jmsnas.profiler.selection import select_to_measure, select_to_repeat
from jmsnas.profiler.session.profiling_session import JobRunner, ProfilingSession
from jmsnas.profiler.session.subprocess_runner import run_in_subprocess
from jmsnas.profiler.simulation.roofline import (
    load_simulated_device,
    processor_of,
    simulated_device_names,
    simulated_table,
)
from jmsnas.profiler.table.journal import table_lock
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn, merge_journal, merge_rows
from jmsnas.profiler.table.parquet import write_table
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block, BlockOrPart
from jmsnas.workspace import Workspace

# Enough on a noisy shared host for 19 of 20 rows of the digits space to end within 1 %.
BUDGET_PER_BLOCK_S = 0.6
# Of a budget that is given: measuring first, the rest for the blocks repeated in a second process.
_FIRST_SHARE = 0.85
# A narrower interval than this says nothing: two processes lie further apart.
_FINEST = 0.002


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """A device's table, where it lies, and whether this call measured, simulated or kept it as it was."""

    table: LatencyTable
    path: Path
    outcome: str


def profile_device(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    workspace: Workspace,
    *,
    measured_only: bool = False,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = no_progress,
    warn: Warn = warnings.warn,
    watch: HostReader | None = read_host,
    sit: JobRunner = run_in_subprocess,
) -> ProfileResult:
    """Bring a device's table up to date: measured if this host is that device, else simulated.

    Parameters
    ----------
    device
        `local` (this host) or a built-in device.
    subjects, keys
        What to profile and how it is run. Of a simulated device the blocks alone are made.
    workspace
        Where tables and exported models lie.
    measured_only
        Refuse rather than simulate.
    seed, budget_s, progress, tell, watch, sit
        As in `profile`.

    Returns
    -------
    The table with `outcome` `measured`, `simulated`, or `kept`: a measured or imported table is never
    replaced by a simulated one.

    Raises
    ------
    DeviceError
        As `check_device`.
    """
    check_device(device, keys, measured_only=measured_only)
    path = workspace.table(device)
    if is_this_host(device):
        table = profile(
            device,
            subjects,
            keys,
            path,
            cache=workspace.folder / "cache" / "onnx",
            seed=seed,
            budget_s=budget_s,
            progress=progress,
            warn=warn,
            watch=watch,
            sit=sit,
        )
        return ProfileResult(table, path, "measured")
    return _simulate(
        device, [subject for subject in subjects if isinstance(subject, Block)], keys, path, warn
    )


def check_device(device: str, keys: Sequence[RuntimeKey], *, measured_only: bool = False) -> None:
    """Refuse a device that cannot be profiled so.

    Raises
    ------
    DeviceError
        For a device nobody knows; for a key of the other processor than a built-in device's name stands for;
        with `measured_only` for one that this host is not.
    """
    known = ("local", *simulated_device_names())
    if device not in known:
        raise DeviceError(f"unknown device {device!r}: expected one of {', '.join(known)}")
    own, others = processor_of(device), [key for key in keys if key.processor != processor_of(device)]
    if others and device != "local":
        other = device.removesuffix("-cpu") + ("-cpu" if own == "cuda" else "")
        instead = f", or --device {other}" if other != device else ""
        raise DeviceError(
            f"{device} is a name of one processor ({load_simulated_device(device).description}), got "
            f"{others[0].label}: expected --processor {own}{instead}"
        )
    if measured_only and not is_this_host(device):
        raise DeviceError(
            f"this host is not {device}, and --measured-only refuses to simulate it. "
            f"On that machine, run: jmsnas profile --device {device}"
        )


def profile(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    table_path: Path,
    *,
    cache: Path,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = no_progress,
    warn: Warn = warnings.warn,
    watch: HostReader | None = None,
    sit: JobRunner = run_in_subprocess,
    host: dict[str, str] | None = None,
) -> LatencyTable:
    """Measure on this host every block that the table lacks under a key, and return the whole table.

    A second process then measures a tenth of them again: how far the two lie apart is the table's noise
    floor. A block that fails or hangs is told, left out, and the others go on.

    Parameters
    ----------
    device
        Name that the rows carry.
    subjects, keys
        Blocks and parts to measure, and how they are run; rows measured before are kept, simulated and
        imported ones are replaced.
    table_path
        The Parquet file; its journal and lock lie beside it.
    cache
        Folder of exported models.
    seed
        Seed of the order within rounds, of weights and inputs, and of which blocks are repeated.
    budget_s
        Seconds of sampling a key. None: 0.6 s a block that the table lacks, less where all are within 1 %
        before. Given, all of it is spent: on what the table lacks and rows that did not reach 1 %, else on
        the rows with the widest intervals; they become narrower.
    progress, tell
        Called with how far it is (in blocks), and with what the user should know.
    watch
        Reads the host before, during and after each key's blocks, for warnings and for what rows must say;
        not done where None.
    sit
        Measures a job: in a process of its own, or in this one.
    host
        What the host that measures says of itself; this one where None.

    Raises
    ------
    InputError
        For more threads or memory than this host has.
    MeasurementError
        When another process writes this table, or a run time cannot run here.
    StorageError
        When a row cannot be kept; the table on disk is as it was.
    TableError
        When the file at `table_path` is damaged or foreign.
    """
    check_host_capacity(subjects, keys)
    with table_lock(table_path):
        table = merge_journal(device, table_path, warn)
        values = describe_host() if host is None else host
        campaign = ProfilingSession(device, table_path, values, cache, seed, warn, watch, sit)
        work = {key: select_to_measure(table, key, subjects, refine=budget_s is not None) for key in keys}
        total, before = sum(map(len, work.values())), 0
        for key, wanted in work.items():
            shown = partial(_shown, progress, key, before, len(wanted), total)
            seconds = BUDGET_PER_BLOCK_S * len(wanted) if budget_s is None else _FIRST_SHARE * budget_s
            config = TimingConfig(budget_s=seconds) if wanted else TimingConfig()
            if budget_s is not None:
                config = replace(config, finest=_FINEST)
            if wanted:
                table = campaign.measure(key, wanted, config, partial(shown, 0.0, 0.9))
            again = select_to_repeat(table, key, environment_id(values), seed)
            if again:
                seconds = BUDGET_PER_BLOCK_S * len(again)
                if budget_s is not None:
                    seconds = min(seconds, (1 - _FIRST_SHARE) * budget_s)
                config = TimingConfig(budget_s=seconds)
                table = campaign.measure(key, again, config, partial(shown, 0.9, 1.0))
            before += len(wanted)
    return table


def _shown(
    progress: Progress,
    key: RuntimeKey,
    before: int,
    blocks: int,
    total: int,
    start: float,
    end: float,
    done: float,
    of: float,
    what: str,
) -> None:
    share = start + (end - start) * done / of
    progress(before + blocks * share, total, f"{key.label}: {what}") if total else None


def _simulate(
    device: str, blocks: Sequence[Block], keys: Sequence[RuntimeKey], path: Path, warn: Warn
) -> ProfileResult:
    with table_lock(path):
        table = merge_journal(device, path, warn)
        others = {row.kind for row in table.rows} - {"simulated"}
        if others:
            was = " and ".join(sorted(others))
            warn(f"{path} was {was} and is kept: a simulated table never takes its place")
            return ProfileResult(table, path, "kept")
        simulated = simulated_table(device, blocks, keys)
        environments = table.environments | simulated.environments
        table = merge_rows(device, [*table.rows, *simulated.rows], environments)
        write_table(path, table)
        return ProfileResult(table, path, "simulated")
