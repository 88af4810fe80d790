"""Profile devices by their agents, which time the blocks; each row is stored here as it is received."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.devices_file import AgentAddress, read_devices_file
from jmsnas.deploy.transport.responses import (
    EndEvent,
    FailedEvent,
    ProgressEvent,
    ProviderEvent,
    RowEvent,
    TimingEvent,
    WarningEvent,
    malformed,
)
from jmsnas.errors import DeployError, DeviceError, JmsnasError, MeasurementError
from jmsnas.profiler.profile import (
    DEFAULT_OPTIONS,
    ProfileOptions,
    ProfileResult,
    check_agent_processor,
    update_table,
)
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.session.run_job import REFERENCE_COPIES
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn
from jmsnas.profiler.timing.onnx_export import export_to_onnx
from jmsnas.profiler.timing.onnx_session import PROVIDERS
from jmsnas.progress import Progress
from jmsnas.space import BlockOrPart
from jmsnas.workspace import Workspace

T = TypeVar("T")

# Devices profiled at once have blocks in common: the first exports them, the others read the files.
_EXPORT_LOCK = threading.Lock()
# A block is reported again when its interval is half as wide, and at the end.
_MAX_REPORTS = 64
# Shares of a job's progress after which the blocks are exported, and sent.
_EXPORTED, _SENT = 0.1, 0.2


def devices_by_host(
    certs: Path, agents: Mapping[str, AgentAddress]
) -> tuple[list[list[str]], dict[str, JmsnasError]]:
    """Group devices by the host of their agents: one boot of one host, as the agents report it.

    Returns the groups, and the error of each device whose agent does not answer. Raises CertificateError.
    """
    groups: dict[str, list[str]] = {}
    lost: dict[str, JmsnasError] = {}
    with closing(Leader(certs, agents)) as leader:
        for name, client in leader.clients.items():
            try:
                boot = client.describe().boot
            except DeployError as error:
                lost[name] = error
                continue
            groups.setdefault(boot or client.address.rpartition(":")[0], []).append(name)
    return list(groups.values()), lost


def profile_at_once(
    groups: Sequence[Sequence[str]], profile: Callable[[str, Progress], T], progress: Progress
) -> dict[str, T | JmsnasError]:
    """Profile the devices of different hosts at once, those of one host one after the other.

    `profile` is called with a device and a progress callback. A device that fails has its error in the
    result, and the others go on. When this thread is interrupted, all stop at their next progress.
    """
    shares = {name: 0.0 for group in groups for name in group}
    results: dict[str, T | JmsnasError] = {}
    stopped, lock = threading.Event(), threading.Lock()

    def report(device: str, done: float, total: float, what: str) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        with lock:
            shares[device] = done / total
            progress(sum(shares.values()), len(shares), f"{device}: {what}")

    def profile_group(group: Sequence[str]) -> None:
        for device in group:
            try:
                results[device] = profile(device, partial(report, device))
            except JmsnasError as error:
                results[device] = error
            shares[device] = 1.0

    with ThreadPoolExecutor(max(1, len(groups))) as pool:
        try:
            for group in [pool.submit(profile_group, group) for group in groups]:
                group.result()
        except KeyboardInterrupt:
            stopped.set()
            raise
    return {name: results[name] for name in shares}


def profile_remote(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    workspace: Workspace,
    certs: Path,
    options: ProfileOptions = DEFAULT_OPTIONS,
) -> ProfileResult:
    """Bring the latency table of a device in `devices.toml` up to date by its agent.

    A call that was stopped is continued by the same call. `certs` is the leader's folder of certificates;
    other parameters are as in `jmsnas.profiler.profile.profile_device`, but the agent monitors its own host.

    Raises
    ------
    DeviceError
        When `devices.toml` has no such device, or its name is that of a GPU.
    MeasurementError
        For a key that an agent does not serve.
    DeviceLostError, DeployError
        When the device does not respond; finished rows are kept.
    """
    path, cache, providers = workspace.table(device), workspace.folder / "cache" / "onnx", set[str]()
    with closing(Leader(certs, {device: _address(device, keys, workspace)})) as leader:
        host = leader.clients[device].describe().host
        run_job = partial(_run_job, leader, device, options.warn, providers)
        options = replace(options, read_host=None, run_job=run_job)
        table = update_table(device, subjects, keys, path, cache, options, host=host)
    return ProfileResult(table, path, "measured", ", ".join(providers))


def _address(device: str, keys: Sequence[RuntimeKey], workspace: Workspace) -> AgentAddress:
    """Return the address of a device's agent, after a check that it can time these keys."""
    addresses = read_devices_file(workspace.devices_file)
    if device not in addresses:
        raise DeviceError(f"{workspace.devices_file} has no device {device}: add its agent's address")
    check_agent_processor(device)
    for key in keys:
        if key != RuntimeKey(threads=key.threads, batch=key.batch):
            raise MeasurementError(
                f"the agent of {device} times onnxruntime on its processor, not {key.label}: expected "
                "--runtime onnxruntime"
            )
    return addresses[device]


def _run_job(
    leader: Leader,
    device: str,
    warn: Warn,
    providers: set[str],
    job: ProfileJob,
    on_event: EventHandler,
    tick: Callable[[], None],
) -> None:
    """Export the blocks of a job here and time them on another device; add its provider to `providers`."""

    def progress(start: float, end: float, done: float, total: float, what: str) -> None:
        on_event({"progress": [start + (end - start) * done / total, 1.0, what]})

    with _EXPORT_LOCK:
        models = export_to_onnx(
            [REFERENCE_BLOCK, *job.subjects],
            job.key.batch,
            job.cache,
            job.seed,
            progress=partial(progress, 0.0, _EXPORTED),
        )
    reports: Counter[int] = Counter()
    ends: list[EndEvent] = []
    began_s = time.monotonic()

    def received(event: TimingEvent) -> None:
        tick()
        match event:
            case ProviderEvent(provider=provider):
                _check_provider(device, provider, job.key)
                providers.add(provider)
            case RowEvent(row=index) | FailedEvent(failed=index):
                if not providers:
                    raise malformed(device, "Bench", f"a result of block {index} before its provider")
                reports[index] += 1
                _check_block(device, index, len(job.subjects), reports[index])
                if isinstance(event, RowEvent):
                    _check_latency(device, event, time.monotonic() - began_s)
                on_event(structs.asdict(event))
            case ProgressEvent():
                progress(_SENT, 1.0, *event.progress)
            case WarningEvent(tell=text):
                warn(f"{device}: {text}")
            case EndEvent():
                ends.append(event)

    config = asdict(job.config)
    work = {"references": REFERENCE_COPIES, "threads": job.key.threads, "seed": job.seed, "config": config}
    leader.time_blocks(
        device,
        [models[0]] * REFERENCE_COPIES + models[1:],
        work,
        received,
        partial(progress, _EXPORTED, _SENT),
    )
    if not any(event.done for event in ends):
        raise MeasurementError(
            f"the process that measures on {device} ended early: run the same command again; finished "
            "rows are kept"
        )
    if len(reports) < len(job.subjects):
        raise malformed(device, "Bench", f"results of {len(reports)} blocks: expected {len(job.subjects)}")


def _check_provider(device: str, provider: str, key: RuntimeKey) -> None:
    """Raise DeployError where another execution provider than that of the key times the blocks."""
    if provider != PROVIDERS[key.processor]:
        fault = f"provider is {provider}: expected {PROVIDERS[key.processor]}, as for {key.label}"
        raise malformed(device, "Bench", fault)


def _check_block(device: str, index: int, count: int, reports: int) -> None:
    """Raise DeployError for a block that was not requested, or that is reported again and again."""
    if index >= count:
        raise malformed(device, "Bench", f"a result of block {index}: expected 0 to {count - 1}")
    if reports > _MAX_REPORTS:
        raise malformed(device, "Bench", f"over {_MAX_REPORTS} results of block {index}")


def _check_latency(device: str, row: RowEvent, spent_s: float) -> None:
    """Raise DeployError for a latency longer than the job has taken so far."""
    latency_s = row.ratio * row.reference_s
    if latency_s > spent_s:
        fault = f"a latency of {latency_s:.3g} s: expected at most the {spent_s:.3g} s that the job has taken"
        raise malformed(device, "Bench", fault)
