"""Make the split problem and the split requests of `jmsnas split` from its arguments."""

from collections.abc import Mapping
from dataclasses import replace

from jmsnas.cli.split import SplitArguments
from jmsnas.errors import InputError
from jmsnas.nas.load_model import load_model, load_problem, topology_for_split
from jmsnas.nas.split.methods import METHODS, SplitRequest
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.progress import Progress
from jmsnas.units import parse_energy
from jmsnas.workspace import Workspace


def problem_from_arguments(
    args: SplitArguments, workspace: Workspace, progress: Progress
) -> tuple[SplitProblem, Mapping[str, str]]:
    """Load the split problem, and the default `input` and `policy` of its topology or file.

    Raises InputError for none or both of MODEL and --costs, or an invalid model, topology or costs file.
    """
    if (args.model is None) == (args.costs is None):
        raise InputError("expected a MODEL or --costs FILE, one of them. Examples: jmsnas split --help")
    topology = topology_for_split(workspace, args.model, args.topology)
    defaults = {"input": topology.input_encoding, "policy": topology.policy}
    if args.costs is not None:
        if args.size is not None or args.image is not None or args.width != 1.0:
            raise InputError("--size, --width and --image belong to a MODEL: leave them out with --costs")
        problem, given = read_problem(args.costs, topology)
        return problem, {**defaults, **given}
    model = load_model(workspace, str(args.model), args.size, args.width)
    problem, policy = load_problem(model, topology, workspace, args.image, progress)
    return problem, {**defaults, "policy": policy}


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
