"""Profile a device: measure the blocks that its latency table lacks, or simulate another machine.

A call that was stopped is continued by the same call: finished rows are in the journal.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import DeviceError
from jmsnas.profiler.capacity import check_host_capacity
from jmsnas.profiler.host.environment import describe_host, environment_id, is_this_host
from jmsnas.profiler.host.host_monitor import HostReader
from jmsnas.profiler.host.host_state import read_host_state
from jmsnas.profiler.selection import select_to_measure, select_to_repeat
from jmsnas.profiler.session.profiling_session import JobRunner, ProfilingSession
from jmsnas.profiler.session.subprocess_runner import run_in_subprocess
from jmsnas.profiler.simulation.roofline import (
    cpu_name,
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

# Enough on a noisy shared host for 19 of 20 rows of the digits space to reach 1 %.
BUDGET_PER_BLOCK_S = 0.6
# Share of a given budget for the first measurement; the rest is for the blocks repeated in a second process.
_FIRST_SHARE = 0.85
# Narrower intervals are of no use: two processes differ by more.
_FINEST = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """Options of a profile: seed, budget and callbacks.

    Attributes
    ----------
    seed
        Seed of the order within rounds, of weights and inputs, and of which blocks are repeated.
    budget_s
        Seconds of sampling per runtime key. None: 0.6 s for each block that the table lacks, less when all
        reach 1 % before. A given budget is spent completely: on blocks that the table lacks and rows that
        did not reach 1 %, else on the rows with the widest intervals, which become narrower.
    progress, warn
        Called with the number of blocks done, and with each warning for the user.
    read_host
        Reads the host's state before, during and after the measurement of each key, for warnings and for
        fault notes in the rows; None: it is not monitored.
    run_job
        Measures a job, in a worker process or in this one.
    """

    seed: int = 0
    budget_s: float | None = None
    progress: Progress = no_progress
    warn: Warn = warnings.warn
    read_host: HostReader | None = read_host_state
    run_job: JobRunner = run_in_subprocess


DEFAULT_OPTIONS = ProfileOptions()


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """A device's latency table, its file, and the outcome: `measured`, `simulated` or `kept`.

    `provider` is the execution provider of onnxruntime that the device's agent reports for the rows of this
    call; empty without an agent, or without new rows.
    """

    table: LatencyTable
    path: Path
    outcome: str
    provider: str = ""


def profile_device(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    workspace: Workspace,
    options: ProfileOptions = DEFAULT_OPTIONS,
    *,
    measured_only: bool = False,
) -> ProfileResult:
    """Bring a device's latency table up to date: measured if this host is that device, else simulated.

    Parameters
    ----------
    device
        `local` (this host) or a built-in device.
    subjects, keys
        Blocks and parts, and the runtime keys. Of a simulated device only the blocks are added.
    workspace, options
        Workspace of the table and of exported models; seed, budget and callbacks.
    measured_only
        Raise an error instead of simulating.

    Returns
    -------
    ProfileResult
        Its outcome is `kept` where a measured or imported table exists, which a simulated one never replaces.

    Raises
    ------
    DeviceError, InputError, MeasurementError, StorageError, TableError
        As `check_device` and `update_table`.
    """
    check_device(device, keys, measured_only=measured_only)
    path = workspace.table(device)
    if is_this_host(device):
        cache = workspace.folder / "cache" / "onnx"
        return ProfileResult(update_table(device, subjects, keys, path, cache, options), path, "measured")
    blocks = [subject for subject in subjects if isinstance(subject, Block)]
    return _simulate(device, blocks, keys, path, options.warn)


def check_device(device: str, keys: Sequence[RuntimeKey], *, measured_only: bool = False) -> None:
    """Check that a device can be profiled under these runtime keys.

    Raises DeviceError for an unknown device; for a key of another processor than a built-in device's name
    stands for; with `measured_only` for a device that this host is not.
    """
    known = ("local", *simulated_device_names())
    if device not in known:
        raise DeviceError(f"unknown device {device!r}: expected one of {', '.join(known)}")
    own, others = (processor_of(device), [key for key in keys if key.processor != processor_of(device)])
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


def check_agent_processor(device: str) -> None:
    """Refuse to profile a GPU by an agent, which times onnxruntime on the CPU. Raises DeviceError."""
    if processor_of(device) != "cpu":
        cpu = cpu_name(device)
        raise DeviceError(
            f"{device} is the name of a GPU ({load_simulated_device(device).description}), and its agent "
            f"times blocks on the CPU: expected a name of a CPU: jmsnas certs --device {cpu}, then "
            f"jmsnas profile --device {cpu}; or run jmsnas profile --device {device} on that machine"
        )


def update_table(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    path: Path,
    cache: Path,
    options: ProfileOptions = DEFAULT_OPTIONS,
    host: dict[str, str] | None = None,
) -> LatencyTable:
    """Measure every block that a latency table lacks under a runtime key, and return the whole table.

    A second process then measures a tenth of the blocks again: the difference between the two processes is
    the table's noise floor. A block that fails or hangs is skipped with a warning.

    Parameters
    ----------
    device
        Name that the rows carry.
    subjects, keys
        Blocks and parts, and the runtime keys. Rows measured before are kept, simulated and imported ones
        are replaced.
    path, cache
        The Parquet file, beside which its journal and lock lie; folder of exported models.
    options, host
        Seed, budget and callbacks; description of the host that measures, None for this host.

    Raises
    ------
    InputError
        For more threads or memory than this host has.
    MeasurementError
        When another process writes this table, or a runtime is not available.
    StorageError
        When a row cannot be stored; the table on disk is not changed.
    TableError
        When the file at `path` is damaged or no latency table.
    """
    check_host_capacity(subjects, keys)
    with table_lock(path):
        table = merge_journal(device, path, options.warn)
        session = ProfilingSession(
            device=device,
            path=path,
            environment=describe_host() if host is None else host,
            cache=cache,
            seed=options.seed,
            warn=options.warn,
            read_host=options.read_host,
            run_job=options.run_job,
        )
        return _measure(session, table, subjects, keys, options)


def _measure(
    session: ProfilingSession,
    table: LatencyTable,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    options: ProfileOptions,
) -> LatencyTable:
    """Measure the missing blocks of each key, then repeat a tenth of them, and return the table."""
    budget_s = options.budget_s
    missing = {key: select_to_measure(table, key, subjects, refine=budget_s is not None) for key in keys}
    total, done = sum(map(len, missing.values())), 0
    for key, wanted in missing.items():
        end = done + len(wanted)
        repeat_start = done + 0.9 * len(wanted)
        if wanted:
            config = TimingConfig(budget_s=BUDGET_PER_BLOCK_S * len(wanted))
            if budget_s is not None:
                config = TimingConfig(budget_s=_FIRST_SHARE * budget_s, finest=_FINEST)
            progress = _scaled(options.progress, key.label, done, repeat_start, total)
            table = session.measure(key, wanted, config, progress)
        repeated = select_to_repeat(table, key, environment_id(session.environment), options.seed)
        if repeated:
            rest_s = math.inf if budget_s is None else (1 - _FIRST_SHARE) * budget_s
            config = TimingConfig(budget_s=min(BUDGET_PER_BLOCK_S * len(repeated), rest_s))
            progress = _scaled(options.progress, key.label, repeat_start, end, total)
            table = session.measure(key, repeated, config, progress)
        done = end
    return table


def _scaled(progress: Progress, label: str, start: float, end: float, total: int) -> Progress:
    """Map the progress of one job to the blocks `start` to `end` of `total`."""

    def scaled(done: float, of: float, text: str) -> None:
        if total:
            progress(start + (end - start) * done / of, total, f"{label}: {text}")

    return scaled


def _simulate(
    device: str, blocks: Sequence[Block], keys: Sequence[RuntimeKey], path: Path, warn: Warn
) -> ProfileResult:
    with table_lock(path):
        table = merge_journal(device, path, warn)
        others = {row.kind for row in table.all_rows} - {"simulated"}
        if others:
            kinds = " and ".join(sorted(others))
            warn(f"{path} was {kinds} and is kept: a simulated table never replaces it")
            return ProfileResult(table, path, "kept")
        simulated = simulated_table(device, blocks, keys)
        environments = table.environments | simulated.environments
        table = merge_rows(device, [*table.rows, *simulated.rows], environments)
        write_table(path, table)
        return ProfileResult(table, path, "simulated")
