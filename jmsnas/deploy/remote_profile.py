"""Profile a device that is not at hand: its agent times the blocks, the rows are kept here as they come."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jmsnas.deploy.leader.agent_client import printable
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.devices_file import Address, read_fleet
from jmsnas.errors import DeviceError, MeasurementError
from jmsnas.profiler.profile import Profiled, profile
from jmsnas.profiler.session.job import Job, Report
from jmsnas.profiler.session.run_job import REFERENCES
from jmsnas.profiler.table.latency_table import REFERENCE, Key
from jmsnas.profiler.table.merge_journal import Tell
from jmsnas.profiler.timing.onnx_export import onnx_models
from jmsnas.progress import Progress, silent
from jmsnas.space import Subject
from jmsnas.workspace import Workspace


def profile_remote(
    device: str,
    subjects: Sequence[Subject],
    keys: Sequence[Key],
    workspace: Workspace,
    certs: Path,
    *,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = silent,
    tell: Tell = print,
) -> Profiled:
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
        host = leader.peers[device].describe()["host"]
        table = profile(
            device,
            subjects,
            keys,
            path,
            cache=workspace.folder / "cache" / "onnx",
            seed=seed,
            budget_s=budget_s,
            progress=progress,
            tell=tell,
            sit=partial(_sit, leader, device, tell),
            host={str(name): str(value) for name, value in host.items()},
        )
    finally:
        leader.close()
    return Profiled(table, path, "measured")


def _address(device: str, keys: Sequence[Key], workspace: Workspace) -> Address:
    """Where the agent of a device is, that is to time these keys."""
    fleet = read_fleet(workspace.devices_file)
    if device not in fleet:
        raise DeviceError(f"{workspace.devices_file} has no device {device}: add its agent's address")
    for key in keys:
        if key != Key(threads=key.threads, batch=key.batch):
            raise MeasurementError(
                f"the agent of {device} times onnxruntime on its processor, not {key.label}: expected "
                "--runtime onnxruntime"
            )
    return fleet[device]


def _sit(leader: Leader, device: str, tell: Tell, job: Job, report: Report, tick: Callable[[], None]) -> None:
    """Do a sitting on another device: export here, time there."""
    models = onnx_models([REFERENCE, *job.subjects], job.key.batch, job.cache, job.seed)
    ended: list[Any] = []

    def passed(event: dict[str, Any]) -> None:
        tick()
        for name in {"row", "failed"} & set(event):
            if type(event[name]) is not int or not 0 <= event[name] < len(job.subjects):
                raise ValueError  # a block that was not asked for
        if "tell" in event:
            tell(f"{device}: {printable(event['tell'])}")
        elif "done" in event or "ended" in event:
            ended.append(event)
        elif "faults" not in event or "row" in event:
            report(event)

    work = {
        "references": REFERENCES,
        "threads": job.key.threads,
        "seed": job.seed,
        "config": asdict(job.config),
    }
    leader.time_blocks(device, [models[0]] * REFERENCES + models[1:], work, passed)
    if not any("done" in event for event in ended):
        raise MeasurementError(
            f"the process that measures on {device} ended early: run the same command again; what was "
            "finished is kept"
        )
