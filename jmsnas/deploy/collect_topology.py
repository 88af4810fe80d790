"""Collect a topology: measure the devices and links of the agents in `devices.toml`, and write its file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.leader.measure_topology import measured_devices, measured_links
from jmsnas.deploy.transport.devices_file import AgentAddress, agents_for, read_devices_file
from jmsnas.device import Device
from jmsnas.errors import DeployError, DeviceError, InputError, TopologyError
from jmsnas.files import preset_names, write_atomic
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import Topology, hops, load_topology
from jmsnas.topology_file import topology_content
from jmsnas.workspace import Workspace, check_name

Tree = tuple[str, tuple[str, ...]]
NO_TREE: Tree = ("", ())


def collect_topology(
    workspace: Workspace,
    name: str,
    tree: Tree = NO_TREE,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Topology, Path]:
    """Measure a topology by the agents of `devices.toml`, and write `topologies/NAME.toml` of the workspace.

    Where the file exists, its devices and links are measured, and their figures are set in it; else the
    devices are those of `devices.toml`, in its order, as a chain, or as a mesh with `tree` (root, children).

    Returns
    -------
    The topology, and the path of its file.

    Raises
    ------
    InputError
        For a name that is invalid or built in, no agents, a device without an agent, or another tree than
        that of the file.
    DeployError
        When agents do not respond, or a link cannot be measured; the file is not changed.
    """
    path = workspace.topologies / f"{check_name(name, 'topology')}.toml"
    if name in preset_names("topologies"):
        raise InputError(f"{name} is a built-in topology: collect under another name, as in lab")
    agents = read_devices_file(workspace.devices_file)
    if not agents:
        raise DeviceError(
            f"{workspace.devices_file} has no devices: run jmsnas certs --address NAME=HOST:PORT for each, "
            "and start jmsnas-agent there"
        )
    given = load_topology(str(path)) if path.exists() else None
    if given:
        if tree not in (NO_TREE, (given.root, given.children)):
            shape = f"the tree {given.root}={','.join(given.children)}" if given.root else "no tree"
            raise InputError(
                f"{path} has {shape}, got --tree {tree[0]}={','.join(tree[1])}: change the file, or collect "
                "under another name"
            )
        devices: Sequence[Device] = given.devices
        others = [device for device in agents if device not in {own.name for own in devices}]
        if others:
            warn(f"not in {path}, so not measured: {', '.join(others)}")
        pairs = [(link.source, link.target) for link in given.links]
        agents = agents_for(tuple(device.name for device in devices), workspace.devices_file)
    else:
        devices = [Device(device, device, "") for device in agents]
        pairs = _pairs(name, agents, tree, workspace.devices_file)
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with closing(Leader(workspace.certs / "leader", agents)) as leader:
        _check_agents(leader)
        progress(0, 1, f"describing {len(devices)} devices")
        found = measured_devices(leader, devices, at)
        links = measured_links(leader, pairs, at, progress, warn)
    if given:
        own = tuple(
            replace(link, capacity_bps=new.capacity_bps, delay_s=new.delay_s, measured=new.measured)
            for link in given.links
            if (new := links[link.source, link.target])
        )
        topology = replace(given, devices=found, links=own)
    else:
        topology = Topology(name, found, tuple(links.values()), *tree)
    write_atomic(path, topology_content(topology, path))
    return topology, path


def _pairs(name: str, agents: Mapping[str, AgentAddress], tree: Tree, path: Path) -> list[tuple[str, str]]:
    """Return the links of a new topology. Raises DeviceError for an unknown device, TopologyError."""
    root, children = tree
    unknown = [device for device in (root, *children) if device and device not in agents]
    if unknown:
        raise DeviceError(
            f"--tree {root}={','.join(children)}: {path} has no {', '.join(unknown)}, expected some of "
            f"{', '.join(agents)}"
        )
    if len(set(children)) < len(children) or root in children:
        raise TopologyError(f"--tree {root}={','.join(children)}: expected each device once")
    return hops(name, [device for device in agents if device not in children], root, children)


def _check_agents(leader: Leader) -> None:
    """Raise DeployError with the names of all agents that do not respond within three seconds."""
    lost = leader.lost()
    if lost:
        addresses = ", ".join(f"{name} ({leader.agents[name].address})" for name in lost)
        raise DeployError(
            f"no answer of {addresses}: start jmsnas-agent there. To see what is wrong: jmsnas doctor"
        )
