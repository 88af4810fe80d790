"""`jmsnas profile` of devices that have an agent: which those are, and what their agents measure."""

from collections.abc import Sequence

from jmsnas.profiler.host.environment import is_this_host
from jmsnas.profiler.profile import ProfileOptions, ProfileResult
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import BlockOrPart
from jmsnas.workspace import Workspace

# The run times an agent measures in.
AGENT_RUNTIMES = ("onnxruntime",)


def devices_with_agents(workspace: Workspace, devices: Sequence[str]) -> tuple[str, ...]:
    """Which devices are measured by the agent that `devices.toml` names: those this host is not.

    Raises DeviceError where the file is wrong.
    """
    if not workspace.devices_file.exists():
        return ()
    from jmsnas.deploy.transport.devices_file import read_devices_file

    fleet = read_devices_file(workspace.devices_file)
    return tuple(name for name in devices if name in fleet and not is_this_host(name))


def profile_by_agent(
    device: str,
    subjects: Sequence[BlockOrPart],
    keys: Sequence[RuntimeKey],
    workspace: Workspace,
    options: ProfileOptions,
) -> ProfileResult:
    """Have a device's agent measure; raises as `profile_remote` does."""
    from jmsnas.deploy.remote_profile import profile_remote

    return profile_remote(device, subjects, keys, workspace, workspace.certs / "leader", options)
