"""The split of a fixed network by a method's name, an objective and a policy, and what is proven of it."""

from dataclasses import dataclass

import numpy as np

from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.split.baselines import dads, expand_to_units, hivemind, neurosurgeon
from jmsnas.nas.split.hermes import BudgetCosts, hermes
from jmsnas.nas.split.links import Array, LinkArrays
from jmsnas.nas.split.on_chain import allowed_on_chain, split_on_chain
from jmsnas.nas.split.on_mesh import allowed_on_mesh, split_on_mesh
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.solve_dag import solve_dag
from jmsnas.nas.split.solve_device_graph import solve_device_graph
from jmsnas.nas.split.timeline import Timeline, result_device, timeline
from jmsnas.topology import POLICIES

METHODS = ("optimal", "hivemind", "neurosurgeon", "dads", "hermes", "cloud", "device")
OBJECTIVES = ("latency", "throughput", "energy")


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """What is asked of a split.

    Attributes
    ----------
    encoding
        What the raw input is on the wire.
    policy
        `strict`, `relay` or `stop-early`.
    min_layers
        How many units at least stay on the first device.
    objective
        `latency` (T), `throughput` (least seconds between two images) or `energy` (joules of the devices
        whose watts are known).
    budget_j
        Joules an image may cost at most, or None.
    time_limit_s
        Seconds a DAG may be thought about.
    """

    encoding: str = "uint8"
    policy: str = "strict"
    min_layers: int = 0
    objective: str = "latency"
    method: str = "optimal"
    budget_j: float | None = None
    time_limit_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what nobody can answer."""
        for what, value, known in (
            ("--policy", self.policy, POLICIES),
            ("--objective", self.objective, OBJECTIVES),
            ("--method", self.method, METHODS),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}: expected one of {', '.join(known)}")
        if self.min_layers < 0:
            raise InputError(f"got --min-layers {self.min_layers}: expected 0 or more")


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A placement: the device of each unit, how it runs, what is proven, and whether the policy allows it.

    `bound` is a value of the objective that no split is below (None where nothing is known); `proven` says
    whether the answer reaches it.
    """

    request: SplitRequest
    devices: tuple[int, ...]
    timeline: Timeline
    proven: bool
    bound: float | None
    allowed: bool


def split(costs: SplitProblem, request: SplitRequest) -> SplitResult:
    """Split a network as asked.

    Raises
    ------
    TargetError
        When no split meets the policy, the memory or the budget.
    NetworkError
        When the method or policy does not fit the network or its devices.
    InputError
        When the costs lack what the objective needs.
    """
    _refuse(costs, request)
    target = result_device(costs, request.policy)
    devices, bound = _DEVICES.get(request.method, _optimal)(costs, request, target)
    told = timeline(costs, request.encoding, devices, target)
    if not np.isfinite(told.latency_s):
        cannot = next(n for n, m in enumerate(devices) if not np.isfinite(costs.tau_NM[n, m]))
        raise InfeasibleError(
            f"--method {request.method} puts {costs.units[cannot]} on {costs.names[devices[cannot]]}, where "
            "no time of it is given: expected one, or another --method"
        )
    value = objective_value(told, request.objective)
    proven = bound is not None and value <= bound * (1 + 1e-9) + 1e-300
    check = allowed_on_mesh if costs.fork else allowed_on_chain
    allowed = check(costs, request.encoding, request.policy, request.min_layers, devices)
    return SplitResult(request, devices, told, proven, bound, allowed)


def objective_value(told: Timeline, objective: str) -> float:
    """Give what an objective makes least: T, seconds between images, or joules."""
    if objective == "energy":
        return told.energy_j if told.energy_j is not None else np.inf
    return told.latency_s if objective == "latency" else told.period_s


def _refuse(costs: SplitProblem, request: SplitRequest) -> None:
    costs.sent_bytes_L(request.encoding)
    by_tree = costs.fork is not None and request.objective == "latency" and request.budget_j is None
    if request.policy == "strict" and not (costs.is_chain_topology and costs.is_chain) and not by_tree:
        raise TopologyError(
            f"policy strict gives every device of a line a layer of a chain (or, for latency, of a mesh and "
            f"its branches), {costs.network} on {', '.join(costs.names)} is no such thing: expected --policy "
            "relay or stop-early"
        )
    if request.min_layers > costs.N:
        raise InfeasibleError(f"--min-layers {request.min_layers} of a network of {costs.N}: expected fewer")
    energy = request.objective == "energy" or request.budget_j is not None
    if energy and not costs.power_w_M.any():
        raise InputError(
            f"no device of {costs.network} says its power: expected power = '5W' (and send_power) in a "
            "[[device]] of the network or of --costs FILE"
        )
    if request.objective == "energy" and request.budget_j is not None:
        raise InputError("got --objective energy and --energy-limit: expected one of them")
    if costs.limited and not (costs.is_chain_topology and costs.is_chain) and not by_tree:
        raise TopologyError(
            "limits of devices (memory, energy, layers) hold for a chain of layers over devices in line, or "
            "for the latency of branches over a mesh, only: leave them out, or what makes it something else"
        )


def _optimal(
    costs: SplitProblem, request: SplitRequest, target: int | None
) -> tuple[tuple[int, ...], float | None]:
    if request.budget_j is not None:
        return _within_budget(costs, request, target), None
    if request.objective != "latency" and not costs.is_chain:
        chain, counts = as_chain(costs)  # the bound holds among splits at the waists only
        devices, _ = _optimal(chain, request, target)
        return expand_to_units(devices, counts), None
    if costs.is_chain and costs.is_chain_topology:
        return split_on_chain(costs, request.encoding, request.policy, request.min_layers, request.objective)
    if costs.fork and request.objective == "latency":
        return split_on_mesh(costs, request.encoding, request.policy, request.min_layers)
    if request.objective == "throughput":
        raise TopologyError("--objective throughput needs devices in line, each linked to the next")
    sent_bytes_L, arrays, run_NM = costs.sent_bytes_L(request.encoding), costs.arrays, costs.tau_NM
    if request.objective == "energy":
        run_NM, arrays = _joules(costs, arrays)
    back_M = costs.back_M if request.objective == "latency" else None
    run_NM = run_NM.copy()
    run_NM[: request.min_layers, 1:] = np.inf
    if costs.is_chain:
        found = solve_device_graph(run_NM, sent_bytes_L, arrays, 0, target, back_M)
        return found.devices, found.latency_s
    dag = costs.dag(request.encoding)
    held = type(dag)(run_NM, dag.routed_LMM, dag.inputs)
    placed = solve_dag(held, 0, target, request.time_limit_s, back_M)
    return placed.devices, placed.bound_s


def _joules(costs: SplitProblem, arrays: LinkArrays) -> tuple[Array, LinkArrays]:
    """Joules of each unit, and links whose seconds are the joules of the device that sends."""
    send_w = costs.send_power_w_M[:, None]
    scaled = [np.where(np.isfinite(part), part * send_w, np.inf) for part in _parts(arrays)]
    return costs.joules_NM, LinkArrays(*scaled)


def _parts(arrays: LinkArrays) -> tuple[Array, Array, Array]:
    return arrays.delay_MM, arrays.per_byte_MM, arrays.input_per_byte_MM


def _prices(costs: SplitProblem, encoding: str) -> BudgetCosts:
    run_NM, links = _joules(costs, costs.arrays)
    sent_bytes_L = costs.sent_bytes_L(encoding)
    bring = [links.routed_MM(float(size), n == 0)[0] for n, size in enumerate(sent_bytes_L)]
    return BudgetCosts(run_NM, np.array(bring))


def _within_budget(costs: SplitProblem, request: SplitRequest, target: int | None) -> tuple[int, ...]:
    prices = _prices(costs, request.encoding)
    budget = np.inf if request.budget_j is None else request.budget_j
    return hermes(costs.dag(request.encoding), prices, budget, target, costs.back_M)


def _hermes(costs: SplitProblem, request: SplitRequest, target: int | None) -> tuple[tuple[int, ...], None]:
    if request.budget_j is None:
        dag = costs.dag(request.encoding)
        free = BudgetCosts(np.zeros_like(dag.tau_NM), np.zeros_like(dag.routed_LMM))
        return hermes(dag, free, 0.0, target, costs.back_M), None
    return _within_budget(costs, request, target), None


_DEVICES = {
    "cloud": lambda costs, request, target: ((costs.M - 1,) * costs.N, None),
    "device": lambda costs, request, target: ((0,) * costs.N, None),
    "neurosurgeon": lambda costs, request, target: (
        neurosurgeon(costs, request.encoding, request.objective, target),
        None,
    ),
    "dads": lambda costs, request, target: (dads(costs, request.encoding, target), None),
    "hivemind": lambda costs, request, target: (hivemind(costs, request.encoding, target), None),
    "hermes": _hermes,
}
