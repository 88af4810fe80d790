"""Profile a device that is not at hand: its agent times the blocks, the rows are kept here as they come."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jmsnas.deploy.leader.agent_client import printable
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.devices_file import AgentAddress, read_devices_file
from jmsnas.errors import DeviceError, MeasurementError
from jmsnas.profiler.profile import ProfileResult, profile
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.session.run_job import REFERENCE_COPIES
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn
from jmsnas.profiler.timing.onnx_export import export_to_onnx
from jmsnas.progress import Progress, no_progress
from jmsnas.space import BlockOrPart
from jmsnas.workspace import Workspace


def profile_remote(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    workspace: Workspace,
    certs: Path,
    *,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = no_progress,
    warn: Warn = print,
) -> ProfileResult:
    """Bring the table of a device in `devices.toml` up to date, by its agent; the same call again goes on.

    Parameters
    ----------
    certs
        The leader's folder of certificates.
    device, subjects, keys, workspace, seed, budget_s, progress, tell
        As in `jmsnas.profiler.profile.profile_device`.

    Raises
    ------
    DeviceError
        When `devices.toml` has no such device.
    MeasurementError
        For a key that an agent does not serve.
    LostDevice, DeployError
        When it does not answer; rows that came are kept.
    """
    leader, path = Leader(certs, {device: _address(device, keys, workspace)}), workspace.table(device)
    try:
        host = leader.clients[device].describe()["host"]
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
            sit=partial(_sit, leader, device, warn),
            host={str(name): str(value) for name, value in host.items()},
        )
    finally:
        leader.close()
    return ProfileResult(table, path, "measured")


def _address(device: str, keys: Sequence[RuntimeKey], workspace: Workspace) -> AgentAddress:
    """Where the agent of a device is, that is to time these keys."""
    fleet = read_devices_file(workspace.devices_file)
    if device not in fleet:
        raise DeviceError(f"{workspace.devices_file} has no device {device}: add its agent's address")
    for key in keys:
        if key != RuntimeKey(threads=key.threads, batch=key.batch):
            raise MeasurementError(
                f"the agent of {device} times onnxruntime on its processor, not {key.label}: expected "
                "--runtime onnxruntime"
            )
    return fleet[device]


def _sit(
    leader: Leader, device: str, warn: Warn, job: ProfileJob, report: EventHandler, tick: Callable[[], None]
) -> None:
    """Do a sitting on another device: export here, time there."""
    models = export_to_onnx([REFERENCE_BLOCK, *job.subjects], job.key.batch, job.cache, job.seed)
    ended: list[Any] = []

    def passed(event: dict[str, Any]) -> None:
        tick()
        for name in {"row", "failed"} & set(event):
            if type(event[name]) is not int or not 0 <= event[name] < len(job.subjects):
                raise ValueError  # a block that was not asked for
        if "tell" in event:
            warn(f"{device}: {printable(event['tell'])}")
        elif "done" in event or "ended" in event:
            ended.append(event)
        elif "faults" not in event or "row" in event:
            report(event)

    work = {
        "references": REFERENCE_COPIES,
        "threads": job.key.threads,
        "seed": job.seed,
        "config": asdict(job.config),
    }
    leader.time_blocks(device, [models[0]] * REFERENCE_COPIES + models[1:], work, passed)
    if not any("done" in event for event in ended):
        raise MeasurementError(
            f"the process that measures on {device} ended early: run the same command again; what was "
            "finished is kept"
        )
