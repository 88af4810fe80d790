"""Make the split problem and the split requests of `jmsnas split` from its arguments."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from jmsnas.cli.split_arguments import SplitArguments
from jmsnas.cli.topology_warnings import warn_of_figures, warn_of_lines
from jmsnas.errors import InputError
from jmsnas.nas.derivation.candidate_costs import read_candidates
from jmsnas.nas.derivation.derive_costs import DerivedCosts, derive_from_costs
from jmsnas.nas.graph.model import Model
from jmsnas.nas.inspection.given_split import parse_cuts, parse_places
from jmsnas.nas.load_model import load_model, load_problem, topology_for_split
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.methods import GIVEN, METHODS, SplitRequest, default_policy
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.progress import Progress
from jmsnas.topology import POLICIES
from jmsnas.units import parse_duration, parse_energy
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class SplitInput:
    """The split problem, its model (None for a table of costs), and the options' values and defaults.

    `policy_reason` says why the policy is not the topology's own; empty where it is, or was asked for.
    `derived` are the candidates chosen for --t-const, of which the problem is.
    """

    problem: SplitProblem
    model: Model | None
    encoding: str
    policy: str
    policy_reason: str = ""
    derived: DerivedCosts | None = None


def load_input(args: SplitArguments, workspace: Workspace, progress: Progress) -> SplitInput:
    """Load the split problem, and the requested or default input encoding and policy.

    Raises InputError for none or both of MODEL and --costs, an invalid model, topology or costs file, and
    options that exclude each other.
    """
    if (args.model is None) == (args.costs is None):
        raise InputError("expected a MODEL or --costs FILE, one of them. Examples: jmsnas split --help")
    _refuse_excluded(args)
    topology = topology_for_split(workspace, args.model, args.topology)
    warn_of_figures(workspace, topology.devices, topology.links)
    warn_of_lines(topology.links)
    if args.costs is None:
        model = load_model(workspace, str(args.model), args.size, args.width)
        problem = load_problem(model, topology, workspace, args.image, progress)
        return _with_defaults(args, problem, topology, {}, model)
    if args.size is not None or args.image is not None or args.width != 1.0:
        raise InputError("--size, --width and --image belong to a MODEL: leave them out with --costs")
    if args.t_const is None:
        problem, own = read_problem(args.costs, topology)
        return _with_defaults(args, problem, topology, own)
    t_const_s = parse_duration(args.t_const)
    costs, own = read_candidates(args.costs, topology)
    loaded = _with_defaults(args, costs.problem, topology, own)
    if loaded.policy not in POLICIES:
        raise InputError(f"unknown --policy {loaded.policy!r}: expected one of {', '.join(POLICIES)}")
    derived = derive_from_costs(costs, t_const_s, loaded.encoding, loaded.policy, args.min_layers)
    return replace(loaded, problem=derived.problem, derived=derived)


def _with_defaults(
    args: SplitArguments,
    problem: SplitProblem,
    topology: GeneralTopology,
    own: Mapping[str, str],
    model: Model | None = None,
) -> SplitInput:
    default = problem.known_encoding(topology.input_encoding) if model else topology.input_encoding
    encoding = args.encoding or own.get("input", default)
    if asked := args.policy or own.get("policy"):
        return SplitInput(problem, model, encoding, asked)
    return SplitInput(problem, model, encoding, *default_policy(problem, topology.policy))


def _refuse_excluded(args: SplitArguments) -> None:
    given = {
        "--cuts": args.cuts is not None,
        "--place": bool(args.place),
        "--method": args.method != "optimal",
    }
    if sum(given.values()) > 1:
        names = [name for name, there in given.items() if there]
        raise InputError(f"got {' and '.join(names)}: expected one of them")
    given |= {
        "--objective": args.objective != "latency",
        "--energy-limit": args.energy_limit is not None,
    }
    barred = ["a MODEL"] * (args.model is not None) + [name for name, there in given.items() if there]
    if args.t_const is not None and barred:
        raise InputError(f"--t-const chooses candidates of --costs FILE by T: leave out {', '.join(barred)}")
    others = given | {
        "--explain": args.explain,
        "--deadline": args.deadline is not None,
        "--sweep": args.sweep is not None,
        "--pictures": args.pictures is not None,
    }
    if args.list_layers and (names := [name for name, there in others.items() if there]):
        raise InputError(f"--list prints the layers only: leave out {', '.join(names)}")


def split_requests(args: SplitArguments, loaded: SplitInput) -> tuple[SplitRequest, ...]:
    """Make one request, or one per method for --method all. Raises InputError, UnitError."""
    loaded.problem.sent_bytes_L(loaded.encoding)  # one of several requests would report it as its own
    placement = None
    if args.cuts is not None:
        placement = parse_cuts(loaded.problem, args.cuts)
    elif args.place:
        placement = parse_places(loaded.problem, args.place)
    request = SplitRequest(
        encoding=loaded.encoding,
        policy=loaded.policy,
        min_layers=args.min_layers,
        objective=args.objective,
        method=GIVEN if placement is not None else "optimal" if args.method == "all" else args.method,
        budget_j=parse_energy(args.energy_limit) if args.energy_limit is not None else None,
        time_limit_s=args.time_limit,
        placement=placement,
        end_s=time.monotonic() + args.time_limit,
    )
    return tuple(replace(request, method=name) for name in METHODS) if args.method == "all" else (request,)
