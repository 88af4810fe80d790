"""Agents and a leader for the tests: real gRPC servers on loopback, in this process or in their own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from jmsnas.deploy.agent.agent import Agent, AgentSettings
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.parts.export import ExportedModel, export_model
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.certificates import LEADER, make_certificates
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.identity import fingerprint, read_identity
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

CHAIN = ("pi4", "laptop", "jetson", "cloud")
DEVICES = ("pi4", "laptop", "cloud")
_NAMES = ("stem", "mb_k3_e3", "identity", "mb_k3_e3_skip", "mb_k5_e3", "mb_k3_e3_skip")


@dataclass
class Fleet:
    """Certificates of devices, agents in this process, and a leader."""

    folder: Path
    agents: dict[str, Agent]
    leader: Leader

    def new_leader(self) -> Leader:
        return Leader(self.folder / "certs" / LEADER, self.leader.agents)


def blocks() -> list[Block]:
    """Six layers of the digits space."""
    layers = load_space("digits").layers
    return [Block.parse(f"{name} {layer}") for name, layer in zip(_NAMES, layers, strict=False)]


def network(seed: int = 0) -> nn.Sequential:
    """Build their modules, weights drawn from `seed`."""
    return nn.Sequential(*(seeded_module(block, seed) for block in blocks()))


@cache
def exported(seed: int = 0) -> ExportedModel:
    """Export the model of `network`."""
    return replace(export_model(network(seed), (1, 1, 8, 8)), blocks=tuple(blocks()))


def images(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    drawn = np.random.default_rng(seed).standard_normal((count, 1, 1, 8, 8)).astype(np.float32)
    return [drawn[n] for n in range(count)]


def pieces(
    cuts: Sequence[int] = (2, 4, 6), devices: Sequence[str] = DEVICES, wires: Sequence[str] = ()
) -> tuple[PartSpec, ...]:
    """Return the parts of a chain; `wires` are the number formats of what leaves each device."""
    starts, wires = (0, *cuts[:-1]), wires or ("float32",) * len(cuts)
    last = max(m for m, (start, cut) in enumerate(zip(starts, cuts, strict=True)) if cut > start)
    return tuple(
        PartSpec(device, "chain", start + 1, cut, (NextHop(devices[m + 1], wires[m]),) if m < last else ())
        for m, (device, start, cut) in enumerate(zip(devices, starts, cuts, strict=True))
        if m <= last
    )


@contextmanager
def fleet(folder: Path, devices: Sequence[str] = DEVICES, plain: bool = False) -> Iterator[Fleet]:
    """Start agents in this process, and end them."""
    make_certificates(folder / "certs", tuple(devices))
    agents, addresses = {}, {}
    try:
        for name in devices:
            agents[name], addresses[name] = start_agent(folder, name, plain)
        leader = Leader(folder / "certs" / LEADER, addresses, plain)
        yield Fleet(folder, agents, leader)
        leader.close()
    finally:
        for agent in agents.values():
            agent.stop(0.2)


def start_agent(
    folder: Path, name: str, plain: bool = False, listen: str = "127.0.0.1:0"
) -> tuple[Agent, AgentAddress]:
    log: list[str] = []
    settings = AgentSettings(folder / "certs" / name, folder / "agents" / name, listen, plain=plain)
    agent = Agent(settings, log.append)
    where = agent.start()
    return agent, AgentAddress(
        name, where, fingerprint(read_identity(folder / "certs" / name).certificate_pem)
    )


def segments(seed: int = 0) -> Mapping[str, ExportedModel]:
    return {"chain": exported(seed)}


# The agent where nothing can be imported but what requirements-agent.txt names.
RESTRICTED_AGENT = """
import importlib.abc, sys
allowed = {'jmsnas', 'numpy', 'onnxruntime', 'grpc', 'cryptography', 'msgspec', 'flatbuffers',
    'cython_runtime', 'typing_extensions'}
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith('_'):
            raise ImportError(f'{top} is not on the board')
sys.meta_path.insert(0, Block())
from jmsnas.deploy.agent.agent import main
sys.exit(main(sys.argv[1:]))
"""


def write_devices(workspace: Workspace, found: Fleet) -> None:
    write_addresses(workspace, found.leader.agents.values())


def write_addresses(workspace: Workspace, agents: Iterable[AgentAddress]) -> None:
    entry = '[[device]]\nname = "{}"\naddress = "{}"\nfingerprint = "{}"\n'
    workspace.devices_file.write_text("".join(entry.format(a.name, a.address, a.fingerprint) for a in agents))
