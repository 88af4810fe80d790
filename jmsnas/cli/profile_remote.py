"""`jmsnas profile` of devices that have an agent: which those are, and what their agents measure."""

from collections.abc import Sequence

from jmsnas.cli.terminal import warn
from jmsnas.profiler.host.environment import host_is
from jmsnas.profiler.profile import Profiled
from jmsnas.profiler.table.latency_table import Key
from jmsnas.progress import Progress
from jmsnas.space import Subject
from jmsnas.workspace import Workspace

# The run times an agent measures in.
AGENTS_RUN = ("onnxruntime",)


def agents_of(place: Workspace, devices: Sequence[str]) -> tuple[str, ...]:
    """Which devices are measured by the agent that `devices.toml` names: those this host is not.

    Raises DeviceError where the file is wrong.
    """
    if not place.devices_file.exists():
        return ()
    from jmsnas.deploy.transport.devices_file import read_fleet

    fleet = read_fleet(place.devices_file)
    return tuple(name for name in devices if name in fleet and not host_is(name))


def profile_away(
    device: str,
    subjects: Sequence[Subject],
    keys: Sequence[Key],
    place: Workspace,
    seed: int,
    budget_s: float | None,
    progress: Progress,
) -> Profiled:
    """Have a device's agent measure; raises as `profile_remote` does."""
    from jmsnas.deploy.remote_profile import profile_remote

    leader = place.certs / "leader"
    return profile_remote(
        device, subjects, keys, place, leader, seed=seed, budget_s=budget_s, progress=progress, tell=warn
    )
