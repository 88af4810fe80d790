"""Profile a device by its agent, which times the blocks; each row is stored here as it is received."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from jmsnas.deploy.leader.agent_client import printable
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.devices_file import AgentAddress, read_devices_file
from jmsnas.errors import DeviceError, MeasurementError
from jmsnas.profiler.profile import DEFAULT_OPTIONS, ProfileOptions, ProfileResult, update_table
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.session.run_job import REFERENCE_COPIES
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn
from jmsnas.profiler.timing.onnx_export import export_to_onnx
from jmsnas.space import BlockOrPart
from jmsnas.workspace import Workspace


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
        When `devices.toml` has no such device.
    MeasurementError
        For a key that an agent does not serve.
    DeviceLostError, DeployError
        When the device does not respond; finished rows are kept.
    """
    path, cache = workspace.table(device), workspace.folder / "cache" / "onnx"
    with closing(Leader(certs, {device: _address(device, keys, workspace)})) as leader:
        host = leader.clients[device].describe().host
        options = replace(options, read_host=None, run_job=partial(_run_job, leader, device, options.warn))
        table = update_table(device, subjects, keys, path, cache, options, host=host)
    return ProfileResult(table, path, "measured")


def _address(device: str, keys: Sequence[RuntimeKey], workspace: Workspace) -> AgentAddress:
    """Return the address of a device's agent, after a check that it can time these keys."""
    addresses = read_devices_file(workspace.devices_file)
    if device not in addresses:
        raise DeviceError(f"{workspace.devices_file} has no device {device}: add its agent's address")
    for key in keys:
        if key != RuntimeKey(threads=key.threads, batch=key.batch):
            raise MeasurementError(
                f"the agent of {device} times onnxruntime on its processor, not {key.label}: expected "
                "--runtime onnxruntime"
            )
    return addresses[device]


def _run_job(
    leader: Leader, device: str, warn: Warn, job: ProfileJob, on_event: EventHandler, tick: Callable[[], None]
) -> None:
    """Run a job on another device: export the blocks here, time them there."""
    models = export_to_onnx([REFERENCE_BLOCK, *job.subjects], job.key.batch, job.cache, job.seed)
    ended: list[Any] = []

    def received(event: dict[str, Any]) -> None:
        tick()
        for name in {"row", "failed"} & set(event):
            if type(event[name]) is not int or not 0 <= event[name] < len(job.subjects):
                raise ValueError  # a block that was not requested
        if "tell" in event:
            warn(f"{device}: {printable(event['tell'])}")
        elif "done" in event or "ended" in event:
            ended.append(event)
        elif "faults" not in event or "row" in event:
            on_event(event)

    config = asdict(job.config)
    work = {"references": REFERENCE_COPIES, "threads": job.key.threads, "seed": job.seed, "config": config}
    leader.time_blocks(device, [models[0]] * REFERENCE_COPIES + models[1:], work, received)
    if not any("done" in event for event in ended):
        raise MeasurementError(
            f"the process that measures on {device} ended early: run the same command again; finished "
            "rows are kept"
        )
