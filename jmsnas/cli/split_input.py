"""Make the split problem and the split requests of `jmsnas split` from its arguments."""

from collections.abc import Mapping
from dataclasses import replace

from jmsnas.cli.split import SplitArguments
from jmsnas.errors import InputError
from jmsnas.nas.load_model import find_run_folder, load_model
from jmsnas.nas.run_result import read_result
from jmsnas.nas.split.general_topology import GeneralTopology, general_topology, load_general_topology
from jmsnas.nas.split.jpeg_size import jpeg_bytes
from jmsnas.nas.split.methods import METHODS, SplitRequest
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.progress import Progress
from jmsnas.units import parse_energy
from jmsnas.workspace import Workspace


def load_problem(
    args: SplitArguments, workspace: Workspace, progress: Progress
) -> tuple[SplitProblem, Mapping[str, str]]:
    """Load the split problem, and the default `input` and `policy` of its topology or file.

    Raises InputError for none or both of MODEL and --costs, or an invalid model, topology or costs file.
    """
    if (args.model is None) == (args.costs is None):
        raise InputError("expected a MODEL or --costs FILE, one of them. Examples: jmsnas split --help")
    topology = _topology(args, workspace)
    defaults = {"input": topology.input_encoding, "policy": topology.policy}
    if args.costs is not None:
        problem, given = read_problem(args.costs, topology)
        return problem, {**defaults, **given}
    model = load_model(workspace, str(args.model), args.size, args.width)
    is_image = len(model.input_shape) == 3 and model.input_shape[0] == 3
    jpeg = jpeg_bytes(model.input_shape[1], args.image) if is_image else None
    problem = problem_of_model(model, topology, workspace, jpeg, progress)
    strict_fits = (problem.is_chain and problem.is_chain_topology) or problem.fork
    if defaults["policy"] == "strict" and not strict_fits:
        defaults["policy"] = "relay"  # as a default only: --policy strict is refused by the solver
    return problem, defaults


def _topology(args: SplitArguments, workspace: Workspace) -> GeneralTopology:
    """Load --topology; by default the topology of the run MODEL, else the paper's chain."""
    folder = find_run_folder(workspace, args.model) if args.model and args.topology is None else None
    if folder is None:
        return load_general_topology(args.topology or "chain", workspace.topologies)
    return general_topology(read_result(folder).topology)


def split_requests(args: SplitArguments, defaults: Mapping[str, str]) -> tuple[SplitRequest, ...]:
    """Make one request, or one per method for --method all. Raises InputError, UnitError."""
    request = SplitRequest(
        encoding=args.encoding or defaults["input"],
        policy=args.policy or defaults["policy"],
        min_layers=args.min_layers,
        objective=args.objective,
        method="optimal" if args.method == "all" else args.method,
        budget_j=parse_energy(args.energy_limit) if args.energy_limit is not None else None,
        time_limit_s=args.time_limit,
    )
    return tuple(replace(request, method=name) for name in METHODS) if args.method == "all" else (request,)
