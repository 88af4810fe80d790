"""What `jmsnas split` is asked for, as costs and questions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from jmsnas.errors import InputError
from jmsnas.nas.load_model import find_run_folder, load_model, topology_of_run
from jmsnas.nas.search.run_folder import read_result
from jmsnas.nas.split.general_topology import GeneralTopology, load_general_topology
from jmsnas.nas.split.jpeg_size import jpeg_bytes
from jmsnas.nas.split.methods import METHODS, SplitRequest
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.progress import Progress
from jmsnas.units import parse_energy
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class SplitArguments:
    """The options as they were typed; None where they were not."""

    network: str | None
    costs: Path | None
    devices: str | None
    method: str
    objective: str
    policy: str | None
    min_layers: int
    encoding: str | None
    image: Path | None
    size: int
    width: float


def given_problem(
    asked: SplitArguments, workspace: Workspace, progress: Progress
) -> tuple[SplitProblem, Mapping[str, str]]:
    """Read or put together the costs; and the input encoding and policy that come with them.

    Raises
    ------
    InputError
        For none or both of NETWORK and --costs, and for what is wrong with them.
    """
    if (asked.network is None) == (asked.costs is None):
        raise InputError("expected a NETWORK or --costs FILE, one of them. Examples: jmsnas split --help")
    topology = _topology(asked, workspace)
    own = {"input": topology.input_encoding, "policy": topology.policy}
    if asked.costs is not None:
        costs, given = read_problem(asked.costs, topology)
        return costs, {**own, **given}
    model = load_model(workspace, str(asked.network), asked.size, asked.width)
    square = len(model.input_shape) == 3 and model.input_shape[0] == 3
    jpeg = jpeg_bytes(model.input_shape[1], asked.image) if square else None
    costs = problem_of_model(model, topology.devices, topology.links, workspace, jpeg, progress)
    costs = replace(costs, tree=topology.tree, returns=topology.returns)
    if own["policy"] == "strict" and not (costs.is_chain and costs.is_chain_topology) and not costs.fork:
        own["policy"] = "relay"  # a default that fits; asked for by name, strict is refused
    return costs, own


def _topology(asked: SplitArguments, workspace: Workspace) -> GeneralTopology:
    """Find the devices and links: those asked for, else the run's own, else the paper's chain."""
    folder = find_run_folder(workspace, asked.network) if asked.network and asked.devices is None else None
    if folder is None:
        return load_general_topology(asked.devices or "chain", workspace.topologies)
    return topology_of_run(read_result(folder), folder)


def split_requests(
    asked: SplitArguments, own: Mapping[str, str], energy_limit: str | None, time_limit_s: float
) -> tuple[SplitRequest, ...]:
    """Make the questions: one, or one a method for --method all. Raises InputError, UnitError."""
    question = SplitRequest(
        encoding=asked.encoding or own["input"],
        policy=asked.policy or own["policy"],
        min_layers=asked.min_layers,
        objective=asked.objective,
        method="optimal" if asked.method == "all" else asked.method,
        budget_j=parse_energy(energy_limit) if energy_limit is not None else None,
        time_limit_s=time_limit_s,
    )
    return tuple(replace(question, method=name) for name in METHODS) if asked.method == "all" else (question,)
