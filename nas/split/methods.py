"""The split of a fixed network by a method's name, an objective and a policy, and what is proven of it."""

from dataclasses import dataclass

import numpy as np

from jmsnas.errors import InputError, NetworkError, TargetError
from jmsnas.nas.split.baselines import dads, expanded, hivemind, neurosurgeon
from jmsnas.nas.split.hermes import Prices, hermes
from jmsnas.nas.split.links import Array, Links
from jmsnas.nas.split.on_chain import line_allowed, on_line
from jmsnas.nas.split.on_mesh import on_tree, tree_allowed
from jmsnas.nas.split.problem import Costs, chained
from jmsnas.nas.split.solve_dag import best_dag
from jmsnas.nas.split.solve_device_graph import best_on_graph
from jmsnas.nas.split.timeline import Timeline, target_of, timeline
from jmsnas.topology import POLICIES

METHODS = ("optimal", "hivemind", "neurosurgeon", "dads", "hermes", "cloud", "device")
OBJECTIVES = ("latency", "throughput", "energy")


@dataclass(frozen=True, slots=True)
class Question:
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
class Answer:
    """A placement: the device of each unit, how it runs, what is proven, and whether the policy allows it.

    `bound` is a value of the objective that no split is below (None where nothing is known); `proven` says
    whether the answer reaches it.
    """

    question: Question
    devices: tuple[int, ...]
    told: Timeline
    proven: bool
    bound: float | None
    allowed: bool


def split(costs: Costs, question: Question) -> Answer:
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
    _refuse(costs, question)
    target = target_of(costs, question.policy)
    devices, bound = _DEVICES.get(question.method, _optimal)(costs, question, target)
    told = timeline(costs, question.encoding, devices, target)
    if not np.isfinite(told.latency_s):
        cannot = next(n for n, m in enumerate(devices) if not np.isfinite(costs.tau_NM[n, m]))
        raise TargetError(
            f"--method {question.method} puts {costs.units[cannot]} on {costs.names[devices[cannot]]}, where "
            "no time of it is given: expected one, or another --method"
        )
    value = value_of(told, question.objective)
    proven = bound is not None and value <= bound * (1 + 1e-9) + 1e-300
    check = tree_allowed if costs.fork else line_allowed
    allowed = check(costs, question.encoding, question.policy, question.min_layers, devices)
    return Answer(question, devices, told, proven, bound, allowed)


def value_of(told: Timeline, objective: str) -> float:
    """Give what an objective makes least: T, seconds between images, or joules."""
    if objective == "energy":
        return told.energy_j if told.energy_j is not None else np.inf
    return told.latency_s if objective == "latency" else told.period_s


def _refuse(costs: Costs, question: Question) -> None:
    costs.sent_L(question.encoding)
    by_tree = costs.fork is not None and question.objective == "latency" and question.budget_j is None
    if question.policy == "strict" and not (costs.is_line and costs.is_chain) and not by_tree:
        raise NetworkError(
            f"policy strict gives every device of a line a layer of a chain (or, for latency, of a mesh and "
            f"its branches), {costs.network} on {', '.join(costs.names)} is no such thing: expected --policy "
            "relay or stop-early"
        )
    if question.min_layers > costs.N:
        raise TargetError(f"--min-layers {question.min_layers} of a network of {costs.N}: expected fewer")
    energy = question.objective == "energy" or question.budget_j is not None
    if energy and not costs.power_w_M.any():
        raise InputError(
            f"no device of {costs.network} says its power: expected power = '5W' (and send_power) in a "
            "[[device]] of the network or of --costs FILE"
        )
    if question.objective == "energy" and question.budget_j is not None:
        raise InputError("got --objective energy and --energy-limit: expected one of them")
    if costs.limited and not (costs.is_line and costs.is_chain) and not by_tree:
        raise NetworkError(
            "limits of devices (memory, energy, layers) hold for a chain of layers over devices in line, or "
            "for the latency of branches over a mesh, only: leave them out, or what makes it something else"
        )


def _optimal(costs: Costs, question: Question, target: int | None) -> tuple[tuple[int, ...], float | None]:
    if question.budget_j is not None:
        return _within_budget(costs, question, target), None
    if question.objective != "latency" and not costs.is_chain:
        chain, counts = chained(costs)  # the bound holds among splits at the waists only
        devices, _ = _optimal(chain, question, target)
        return expanded(devices, counts), None
    if costs.is_chain and costs.is_line:
        return on_line(costs, question.encoding, question.policy, question.min_layers, question.objective)
    if costs.fork and question.objective == "latency":
        return on_tree(costs, question.encoding, question.policy, question.min_layers)
    if question.objective == "throughput":
        raise NetworkError("--objective throughput needs devices in line, each linked to the next")
    sent_L, arrays, run_NM = costs.sent_L(question.encoding), costs.arrays, costs.tau_NM
    if question.objective == "energy":
        run_NM, arrays = _joules(costs, arrays)
    back_M = costs.back_M if question.objective == "latency" else None
    run_NM = run_NM.copy()
    run_NM[: question.min_layers, 1:] = np.inf
    if costs.is_chain:
        found = best_on_graph(run_NM, sent_L, arrays, 0, target, back_M)
        return found.devices, found.latency_s
    dag = costs.dag(question.encoding)
    held = type(dag)(run_NM, dag.routed_LMM, dag.takes)
    placed = best_dag(held, 0, target, question.time_limit_s, back_M)
    return placed.devices, placed.bound_s


def _joules(costs: Costs, arrays: Links) -> tuple[Array, Links]:
    """Joules of each unit, and links whose seconds are the joules of the device that sends."""
    send_w = costs.send_power_w_M[:, None]
    scaled = [np.where(np.isfinite(part), part * send_w, np.inf) for part in _parts(arrays)]
    return costs.joules_NM, Links(*scaled)


def _parts(arrays: Links) -> tuple[Array, Array, Array]:
    return arrays.delay_MM, arrays.per_byte_MM, arrays.input_per_byte_MM


def _prices(costs: Costs, encoding: str) -> Prices:
    run_NM, links = _joules(costs, costs.arrays)
    sent_L = costs.sent_L(encoding)
    bring = [links.routed_MM(float(size), n == 0)[0] for n, size in enumerate(sent_L)]
    return Prices(run_NM, np.array(bring))


def _within_budget(costs: Costs, question: Question, target: int | None) -> tuple[int, ...]:
    prices = _prices(costs, question.encoding)
    budget = np.inf if question.budget_j is None else question.budget_j
    return hermes(costs.dag(question.encoding), prices, budget, target, costs.back_M)


def _hermes(costs: Costs, question: Question, target: int | None) -> tuple[tuple[int, ...], None]:
    if question.budget_j is None:
        dag = costs.dag(question.encoding)
        free = Prices(np.zeros_like(dag.tau_NM), np.zeros_like(dag.routed_LMM))
        return hermes(dag, free, 0.0, target, costs.back_M), None
    return _within_budget(costs, question, target), None


_DEVICES = {
    "cloud": lambda costs, question, target: ((costs.M - 1,) * costs.N, None),
    "device": lambda costs, question, target: ((0,) * costs.N, None),
    "neurosurgeon": lambda costs, question, target: (
        neurosurgeon(costs, question.encoding, question.objective, target),
        None,
    ),
    "dads": lambda costs, question, target: (dads(costs, question.encoding, target), None),
    "hivemind": lambda costs, question, target: (hivemind(costs, question.encoding, target), None),
    "hermes": _hermes,
}
