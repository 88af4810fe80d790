"""Split of a given model by method, objective and policy, with a lower bound where one is known."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.split.baselines import BudgetCosts, dads, expand_to_units, hermes, hivemind, neurosurgeon
from jmsnas.nas.split.chain_and_mesh import allowed_on_mesh, mesh_split, split_on_chain
from jmsnas.nas.split.links import LinkArrays
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.solve_dag import solve_dag
from jmsnas.nas.split.solve_device_graph import solve_device_graph
from jmsnas.nas.split.timeline import Timeline, compute_timeline, objective_value, result_device
from jmsnas.nas.split.violations import limit_violations
from jmsnas.topology import POLICIES

METHODS = ("optimal", "hivemind", "neurosurgeon", "dads", "hermes", "cloud", "device")
OBJECTIVES = ("latency", "throughput", "energy")
# The method of a request that gives the placement itself.
GIVEN = "given"


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """Method, objective and constraints of a split.

    `encoding` is that of the raw input on the links, `min_layers` the fewest units on the first device,
    `budget_j` the most joules per image, `time_limit_s` the seconds to solve a DAG or a serial fan-out, until
    `end_s` of the monotonic clock at most, which several requests share. Objectives are `latency` (T),
    `throughput` (least seconds between two images) and `energy` (joules of the devices with a known power);
    policies and methods are those of `POLICIES` and `METHODS`. With `placement`, the device of each unit,
    that placement is evaluated instead; the method is then `given`.
    """

    encoding: str = "uint8"
    policy: str = "strict"
    min_layers: int = 0
    objective: str = "latency"
    method: str = "optimal"
    budget_j: float | None = None
    time_limit_s: float = 30.0
    placement: tuple[int, ...] | None = None
    end_s: float = field(default=math.inf, compare=False)

    def __post_init__(self) -> None:
        """Refuse unknown names and negative counts."""
        for option, value, known in (
            ("--policy", self.policy, POLICIES),
            ("--objective", self.objective, OBJECTIVES),
            ("--method", self.method, METHODS if self.placement is None else (GIVEN,)),
        ):
            if value not in known:
                raise InputError(f"unknown {option} {value!r}: expected one of {', '.join(known)}")
        if self.min_layers < 0:
            raise InputError(f"got --min-layers {self.min_layers}: expected 0 or more")
        if not self.time_limit_s >= 0:
            raise InputError(f"got --time-limit {self.time_limit_s:g}: expected seconds, 0 or more")

    @property
    def left_s(self) -> float:
        """Seconds that a solver may take from now on."""
        return min(self.time_limit_s, max(0.0, self.end_s - time.monotonic()))


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A placement (the device of each unit), its timeline, and what is proven of it.

    `bound` is a lower bound of the objective (None where none is known), `proven` whether the placement
    reaches it, `violations` what the policy, the limits or the request forbid of it; empty where `allowed`.
    """

    request: SplitRequest
    devices: tuple[int, ...]
    timeline: Timeline
    proven: bool
    bound: float | None
    violations: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the policy, the limits and the request allow the placement."""
        return not self.violations


def split(problem: SplitProblem, request: SplitRequest) -> SplitResult:
    """Split a model over devices, or evaluate the placement that the request gives.

    Raises
    ------
    InfeasibleError
        When no split meets the policy, the limits or the budget.
    TopologyError
        When the method or policy does not fit the model or the topology.
    InputError
        When the problem lacks data that the objective needs.
    """
    _refuse(problem, request)
    target = result_device(problem, request.policy)
    if request.placement is not None:
        devices, bound = request.placement, None
    elif request.method == "optimal":
        devices, bound = _optimal(problem, request, target)
    else:
        devices, bound = _BASELINES[request.method](problem, request, target), None
    timeline = compute_timeline(problem, request.encoding, devices, target)
    if not np.isfinite(timeline.latency_s):
        n = next(n for n, m in enumerate(devices) if not np.isfinite(problem.tau_NM[n, m]))
        given = request.placement is not None
        raise InfeasibleError(
            f"{'the given split' if given else f'--method {request.method}'} puts {problem.units[n]} on "
            f"{problem.names[devices[n]]}, where no time of it is given: expected one, or another "
            f"{'device' if given else '--method'}"
        )
    value = objective_value(timeline, request.objective)
    proven = bound is not None and value <= bound * (1 + 1e-9) + 1e-300
    return SplitResult(
        request, devices, timeline, proven, bound, _violations(problem, request, devices, timeline)
    )


def default_policy(problem: SplitProblem, policy: str) -> tuple[str, str]:
    """Choose the policy where none is given: the topology's, or `relay` where `strict` does not fit.

    Returns the policy, and the reason where it is not the topology's.
    """
    fits = (problem.is_chain and problem.is_chain_topology) or problem.fork
    if policy != "strict" or fits:
        return policy, ""
    cause = "the devices are not a chain" if problem.is_chain else f"{problem.model} has branches"
    return "relay", f"the topology's policy strict needs a chain of layers on a chain of devices, {cause}"


def _violations(
    problem: SplitProblem, request: SplitRequest, devices: tuple[int, ...], timeline: Timeline
) -> tuple[str, ...]:
    found = list(limit_violations(problem, devices, timeline, request.min_layers))
    if problem.fork:
        if allowed_on_mesh(problem, request.encoding, request.policy, request.min_layers, devices):
            found = []
        elif not found:
            found.append(
                f"policy {request.policy} on a mesh: the trunk runs on devices up to the root, each branch "
                "on a child of its own, the tail on the devices after them"
            )
    elif request.policy == "strict":
        idle = [name for m, name in enumerate(problem.names) if m not in devices]
        found += [f"no layer on {', '.join(idle)}, policy strict gives every device one"] if idle else []
    spent_j = timeline.energy_j or 0.0
    if request.budget_j is not None and spent_j > request.budget_j * (1 + 1e-9):
        found.append(f"it uses {spent_j:.6g} J, --energy-limit is {request.budget_j:.6g} J")
    return tuple(found)


def _refuse(problem: SplitProblem, request: SplitRequest) -> None:
    problem.sent_bytes_L(request.encoding)
    both_chains = problem.is_chain_topology and problem.is_chain
    by_mesh = problem.fork is not None and request.objective == "latency" and request.budget_j is None
    solved = request.placement is None
    if solved and request.policy == "strict" and not both_chains and not by_mesh:
        raise TopologyError(
            "policy strict gives every device a layer: expected a chain of layers on a chain of devices (or, "
            f"for latency, branches on a mesh), got {problem.model} on {', '.join(problem.names)}. Use "
            "--policy relay or stop-early"
        )
    if request.min_layers > problem.N:
        raise InfeasibleError(
            f"--min-layers {request.min_layers} of a model of {problem.N} layers: expected fewer"
        )
    energy = request.objective == "energy" or request.budget_j is not None
    if energy and not problem.power_w_M.any():
        raise InputError(
            f"no device of {problem.model} has a power: expected power = '5W' (and send_power) in a "
            "[[device]] of the topology or of --costs FILE"
        )
    if request.objective == "energy" and request.budget_j is not None:
        raise InputError("got --objective energy and --energy-limit: expected one of them")
    if solved and problem.has_limits and not both_chains and not by_mesh:
        raise TopologyError(
            "limits of devices (memory, energy, layers) need a chain of layers on a chain of devices, or the "
            "latency of branches on a mesh: leave the limits out, or change the model or the topology"
        )


def _optimal(
    problem: SplitProblem, request: SplitRequest, target: int | None
) -> tuple[tuple[int, ...], float | None]:
    """Find a placement, and a lower bound of the objective where one is known."""
    if request.budget_j is not None:
        return _hermes(problem, request, target), None
    encoding, min_layers, objective = request.encoding, request.min_layers, request.objective
    if objective != "latency" and not problem.is_chain:
        chain, counts = as_chain(problem)  # optimal among splits at articulation points only: no bound
        devices, _ = _optimal(chain, request, target)
        return expand_to_units(devices, counts), None
    if problem.is_chain and problem.is_chain_topology:
        return split_on_chain(problem, encoding, request.policy, min_layers, objective)
    if problem.fork and objective == "latency":
        mesh = mesh_split(problem, encoding, request.policy, min_layers, request.left_s)
        return mesh.devices, mesh.bound_s
    if objective == "throughput":
        raise TopologyError("--objective throughput needs a chain of devices, each linked to the next")
    latency = objective == "latency"
    run_NM, links = (problem.tau_NM, problem.link_arrays) if latency else _joules(problem)
    return_M, call_M = (problem.return_M, problem.call_M) if latency else (None, None)
    run_NM = run_NM.copy()
    run_NM[:min_layers, 1:] = np.inf
    if problem.is_chain:
        found = solve_device_graph(run_NM, problem.sent_bytes_L(encoding), links, 0, target, return_M, call_M)
        return found.devices, found.latency_s
    dag = replace(problem.dag(encoding), tau_NM=run_NM)
    placed = solve_dag(dag, 0, target, request.left_s, return_M)
    return placed.devices, placed.bound_s


def _joules(problem: SplitProblem) -> tuple[FloatArray, LinkArrays]:
    """Joules of each unit, and links whose "seconds" are the joules of the device that sends."""
    send_w, links = problem.send_power_w_M[:, None], problem.link_arrays
    scaled = [
        np.multiply(part, send_w, out=np.full_like(part, np.inf), where=np.isfinite(part))
        for part in (links.delay_MM, links.per_byte_MM, links.input_per_byte_MM)
    ]
    return problem.joules_NM, LinkArrays(*scaled)


def _hermes(problem: SplitProblem, request: SplitRequest, target: int | None) -> tuple[int, ...]:
    dag = problem.dag(request.encoding)
    sizes = list(enumerate(problem.sent_bytes_L(request.encoding).tolist()))
    before_LMM = np.array([problem.link_arrays.routed_MM(size, n == 0)[1] for n, size in sizes])
    costs, budget = BudgetCosts(np.zeros_like(dag.tau_NM), np.zeros_like(dag.routed_LMM), before_LMM), 0.0
    if request.budget_j is not None:
        run_NM, links = _joules(problem)
        hop_LMM = np.array([links.epsilon_MM(size, n == 0) for n, size in sizes])
        costs, budget = BudgetCosts(run_NM, hop_LMM, before_LMM), request.budget_j
    return hermes(dag, costs, budget, target, problem.return_M, request.left_s)


_BASELINES: dict[str, Callable[[SplitProblem, SplitRequest, int | None], tuple[int, ...]]] = {
    "cloud": lambda problem, request, target: (problem.M - 1,) * problem.N,
    "device": lambda problem, request, target: (0,) * problem.N,
    "neurosurgeon": lambda p, request, target: neurosurgeon(p, request.encoding, request.objective, target),
    "dads": lambda problem, request, target: dads(problem, request.encoding, target),
    "hivemind": lambda problem, request, target: hivemind(problem, request.encoding, target),
    "hermes": _hermes,
}
