"""Split methods of other papers, over the same problem: each returns the device of every unit.

* neurosurgeon (Kang et al., ASPLOS 2017, section 5): two devices, the best single cut of N + 1, by latency
  or by the energy of the device.
* dads (Hu et al., INFOCOM 2019, lightly loaded): two devices, a DAG; the minimum cut of a graph whose cuts
  are the sums of edge time, transmission and cloud time.
* hivemind (Wang et al., JSAC 2021): several cuts of a chain over a chain of devices, as a shortest path.
* hermes (Kao et al., IEEE TMC 2017): least latency under a cost budget, to within a share epsilon.
"""

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, dijkstra, maximum_flow

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.dag import Dag, articulation_points
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.timeline import compute_timeline, objective_value

# The flows of scipy are 32-bit integers: the total cost is scaled to this many units.
_FLOW_UNITS = 2**30


def expand_to_units(devices: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Give every unit the device of the chain layer it belongs to (see `as_chain`)."""
    return tuple(m for m, count in zip(devices, counts, strict=True) for _ in range(count))


def neurosurgeon(problem: SplitProblem, encoding: str, objective: str, target: int | None) -> tuple[int, ...]:
    """Try all cuts between the first and the last device; branches are cut at articulation points only.

    `objective` is `latency` or `energy` (joules of the devices with a known power). Raises TopologyError.
    """
    chain, counts = as_chain(problem)
    plans = [(0,) * k + (chain.M - 1,) * (chain.N - k) for k in range(chain.N + 1)]
    by = "energy" if objective == "energy" else "latency"
    best = min(plans, key=lambda plan: objective_value(compute_timeline(chain, encoding, plan, target), by))
    return expand_to_units(best, counts)


def dads(problem: SplitProblem, encoding: str, target: int | None) -> tuple[int, ...]:
    """Find the minimum cut between the first and the last device: units cut from the source run on the last.

    An output that several units read is sent once: each unit has an auxiliary node (section IV-B). The result
    is sent too where the last device needs it.
    """
    dag = problem.dag(encoding)
    last, N = problem.M - 1, problem.N
    source, sink = 0, 2 * N + 2
    edges: list[tuple[int, int, float]] = []
    for n in range(1, N + 1):
        edges += [(source, n, float(dag.tau_NM[n - 1, last])), (n, sink, float(dag.tau_NM[n - 1, 0]))]
    for i in range(N + 1):
        readers = [n for n, outputs in enumerate(dag.inputs, 1) if i in outputs]
        auxiliary, seconds = N + 1 + i, float(dag.routed_LMM[i, 0, last])
        edges.append((source if i == 0 else i, auxiliary, seconds))
        edges += [(auxiliary, n, np.inf) for n in readers]
        # Nothing is sent back: an output of the last device is not read on the first.
        edges += [(n, i, np.inf) for n in readers if i > 0]
    if target is not None:
        edges.append((N, sink, float(dag.routed_LMM[N, 0, last])))
    else:
        edges.append((source, N, float(problem.return_M[last])))
    total = sum(seconds for _, _, seconds in edges if np.isfinite(seconds))
    scale = _FLOW_UNITS / total if total else 1.0
    capacity = {(a, b): 0 for a, b, _ in edges}
    for a, b, seconds in edges:
        capacity[a, b] = min(2**31 - 1, capacity[a, b] + round(min(seconds * scale, 2**30)))
    rows, columns = zip(*capacity, strict=True)
    graph = coo_array(
        (np.array(list(capacity.values()), dtype=np.int32), (rows, columns)), (sink + 1,) * 2
    ).tocsr()
    left = graph > maximum_flow(graph, source, sink).flow
    near = set(breadth_first_order(left, source, return_predecessors=False).tolist())
    return tuple(0 if n in near else last for n in range(1, N + 1))


def hivemind(problem: SplitProblem, encoding: str, target: int | None) -> tuple[int, ...]:
    """Find the shortest path through (layer, device) on a chain; relays are allowed. Raises TopologyError."""
    if not problem.is_chain_topology:
        hops = ", ".join(f"{link.source} -> {link.target}" for link in problem.links)
        raise TopologyError(
            f"hivemind needs a chain of devices, got links {hops}: expected each device linked to "
            "the next. For other topologies use --method optimal or hermes"
        )
    chain, counts = as_chain(problem)
    N, M = chain.N, chain.M
    epsilon_LM = chain.epsilon_LM(encoding)
    # Node n * M + m: output n is on device m. Edges: run the next layer there, or send to the next device.
    n_, m_ = np.meshgrid(range(N), range(M), indexing="ij")
    runs = ((n_ * M + m_).ravel(), ((n_ + 1) * M + m_).ravel(), chain.tau_NM.ravel())
    n_, m_ = np.meshgrid(range(N + 1), range(M - 1), indexing="ij")
    sends = ((n_ * M + m_).ravel(), (n_ * M + m_ + 1).ravel(), epsilon_LM[:, :-1].ravel())
    starts, ends, seconds = (np.concatenate(pair) for pair in zip(runs, sends, strict=True))
    graph = coo_array((np.maximum(seconds, 1e-300), (starts, ends)), ((N + 1) * M,) * 2).tocsr()
    cost, before = dijkstra(graph, indices=0, return_predecessors=True)
    finals = N * M + np.arange(M)
    node = int(finals[(cost[finals] + chain.return_M).argmin()] if target is None else finals[target])
    devices: list[int] = []
    while before[node] >= 0:
        if node // M > before[node] // M:
            devices.append(node % M)
        node = int(before[node])
    return expand_to_units(devices[::-1], counts)


@dataclass(frozen=True, slots=True)
class BudgetCosts:
    """Costs that hermes limits: of unit n on device m, and of sending output n over the link from a to b.

    `before_LMM` are the predecessors on the route of output n from device a to b.
    """

    run_NM: FloatArray
    hop_LMM: FloatArray
    before_LMM: IntArray

    def sent(self, output: int, source: int, targets: Iterable[int]) -> float:
        """Cost of bringing an output from a device to others, over each link once."""
        hops = set()
        for target in targets:
            while target != source:
                before = int(self.before_LMM[output, source, target])
                hops.add((before, target))
                target = before
        return float(sum(self.hop_LMM[output][hop] for hop in sorted(hops)))


class _Label(NamedTuple):
    """A partial placement, as a linked list: ((unit, device), earlier), or (None, one, other) for a join.

    `fetched` are the devices that the segment's first input has been sent to, where several units read it.
    """

    seconds: float
    cost: float
    placement: tuple[Any, ...]
    fetched: frozenset[int] = frozenset()


_Front = list[_Label]
_EMPTY = _Label(0.0, 0.0, ())
# Share of the least latency that the steps of time may cost.
_EPSILON = 0.01


def hermes(
    dag: Dag,
    costs: BudgetCosts,
    budget: float,
    target: int | None,
    return_M: FloatArray,
    time_limit_s: float = math.inf,
) -> tuple[int, ...]:
    """Find a placement whose latency is within 1 % of the least under the budget.

    For each unit and device the Pareto front of (seconds, cost) is kept, one entry per step of time (the
    paper's quantisation). A unit with several inputs waits for the last and pays for all; an output that
    several units read on one device is sent there once. Exact up to the steps for trees; where several units
    read an output, the devices of the articulation points are fixed one after another, as in the paper's
    serial trees. Unlike dag.py it lets a device run two units at once.

    `return_M`: seconds to send the result back from the device where it ends up. Raises TopologyError for a
    model whose branches share more than their first input, InfeasibleError when no placement is within the
    budget, or `time_limit_s` is over.
    """
    end_s = time.monotonic() + time_limit_s
    ends = articulation_points(dag)
    single_device_s = dag.tau_NM.sum(axis=0) + dag.routed_LMM[0, 0]
    step_s = _EPSILON * float(single_device_s.min()) / (4 * dag.N)
    fronts: dict[int, _Front] = {0: [_EMPTY]}
    for entry, exit_ in zip(ends, ends[1:], strict=False):
        _refuse_shared(dag, entry, exit_)
        found: dict[int, list[_Label]] = {m: [] for m in range(dag.M)}
        for a, before in fronts.items():
            if time.monotonic() > end_s:
                raise InfeasibleError("hermes was not done within --time-limit: expected a longer one")
            for b, front in _segment_fronts(dag, costs, entry, exit_, a, budget, step_s).items():
                found[b] += [
                    _Label(x.seconds + y.seconds, x.cost + y.cost, (None, x.placement, y.placement))
                    for x in before
                    for y in front
                ]
        fronts = {m: _pruned(labels, budget, step_s) for m, labels in found.items() if labels}
    last: list[_Label] = []
    for m, front in fronts.items():
        stays = [label._replace(seconds=label.seconds + float(return_M[m])) for label in front]
        last += stays if target is None else _sent(dag, costs, dag.N, m, target, front)
    within = (label for label in last if label.cost <= budget * (1 + 1e-12))
    best = min(within, key=lambda label: label[:2], default=None)
    if best is None:
        raise InfeasibleError(f"no placement costs {budget:g} or less: expected a larger --energy-limit")
    return _devices(best.placement, dag.N)


def _segment_fronts(
    dag: Dag, costs: BudgetCosts, entry: int, exit_: int, a: int, budget: float, step_s: float
) -> dict[int, _Front]:
    """Fronts of the exit on each device, counted from when output `entry` is ready on device `a`."""
    made: dict[int, dict[int, _Front]] = {entry: {a: [_EMPTY]}}
    several = sum(entry in outputs for outputs in dag.inputs[entry:exit_]) > 1

    @functools.cache
    def missing(there: frozenset[int], wanted: frozenset[int]) -> float:
        return costs.sent(entry, a, there | wanted) - costs.sent(entry, a, there)

    for n in range(entry + 1, exit_ + 1):
        made[n] = {}
        for m in np.flatnonzero(np.isfinite(dag.tau_NM[n - 1])).tolist():
            front: _Front = [_EMPTY]
            for i in dag.inputs[n - 1]:
                sent = (_sent(dag, costs, i, b, m, labels) for b, labels in made[i].items())
                arrived = _pruned((label for labels in sent for label in labels), budget, step_s, missing)
                if several and i == entry and m != a:
                    arrived = [label._replace(fetched=frozenset([m])) for label in arrived]
                pairs = (_joined(missing, x, y) for x in front for y in arrived)
                front = _pruned(pairs, budget, step_s, missing)
            tau_s, cost = float(dag.tau_NM[n - 1, m]), float(costs.run_NM[n - 1, m])
            made[n][m] = [
                _Label(label.seconds + tau_s, label.cost + cost, ((n, m), label.placement), label.fetched)
                for label in front
            ]
    return made[exit_]


def _sent(dag: Dag, costs: BudgetCosts, i: int, a: int, b: int, front: _Front) -> _Front:
    seconds = float(dag.routed_LMM[i, a, b])
    if not np.isfinite(seconds):
        return []
    cost = costs.sent(i, a, [b])
    return [label._replace(seconds=label.seconds + seconds, cost=label.cost + cost) for label in front]


def _joined(missing: Callable[[frozenset[int], frozenset[int]], float], one: _Label, other: _Label) -> _Label:
    """Join two inputs of a unit: it waits for the later, and pays once for a link that both used."""
    cost, fetched = one.cost + other.cost, one.fetched | other.fetched
    if one.fetched and other.fetched:
        cost += missing(one.fetched, other.fetched) - missing(frozenset(), other.fetched)
    return _Label(max(one.seconds, other.seconds), cost, (None, one.placement, other.placement), fetched)


def _pruned(
    labels: Iterable[_Label],
    budget: float,
    step_s: float,
    missing: Callable[[frozenset[int], frozenset[int]], float] | None = None,
) -> _Front:
    """Keep the Pareto-optimal labels in seconds and cost, one per step of time, within the budget.

    `missing` is the cost of sending the first input to the devices of a second set, where it is on those of a
    first: a label is dropped for one that costs less even if it has to pay that.
    """
    fronts: dict[frozenset[int], _Front] = {}
    for label in sorted(labels, key=lambda label: label[:2]):
        kept = fronts.setdefault(label.fetched, [])
        if label.cost > budget * (1 + 1e-12) or (kept and label.cost >= kept[-1].cost):
            continue
        # Of each front the last label is the cheapest, and faster than this one.
        if missing and any(
            front[-1].cost + missing(fetched, label.fetched) <= label.cost
            for fetched, front in fronts.items()
            if front
        ):
            continue
        same_step = kept and step_s and kept[-1].seconds // step_s == label.seconds // step_s
        if same_step and len(kept) > 1:
            kept[-1] = label
        else:
            kept.append(label)
    return [label for kept in fronts.values() for label in kept]


def _devices(placement: tuple[Any, ...], N: int) -> tuple[int, ...]:
    """Collect the device of each unit from a linked list of placements."""
    found: dict[int, int] = {}
    open_ = [placement]
    while open_:
        if last := open_.pop():
            head, *rest = last
            if head is not None:
                found[head[0]] = head[1]
            open_ += rest
    return tuple(found[n] for n in range(1, N + 1))


def _refuse_shared(dag: Dag, entry: int, exit_: int) -> None:
    readers = Counter(i for outputs in dag.inputs[entry:exit_] for i in outputs if i != entry)
    shared = [i for i, count in readers.items() if count > 1]
    if shared:
        raise TopologyError(
            f"hermes needs branches that share only their first input, got an output of unit {shared[0]} "
            f"that {readers[shared[0]]} units read inside a branch: use --method optimal"
        )
