"""Hermes (Kao et al., IEEE TMC 2017): least latency under a cost budget, to within a share epsilon.

For each unit and device the least cost by time is kept: a list of (seconds, cost) that no other beats in
both, one for each step of time (the paper's quantisation). A unit that takes several outputs waits for the
last and pays for all. Exact up to the steps for trees; where an output is taken by several units, the
devices of outputs that all of the network passes through are fixed one after another, as in the paper's
serial trees. Unlike dag.py it lets a device do two things at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.dag import Dag, articulation_points
from jmsnas.nas.split.links import Array


@dataclass(frozen=True, slots=True)
class BudgetCosts:
    """What a budget is spent on: the cost of unit n on device m, and of bringing output n from a to b."""

    run_NM: Array
    bring_LMM: Array


# Seconds, cost, and the plan behind it: (unit, device) and the plans it rests on.
_Label = tuple[float, float, tuple[Any, ...]]
_Front = list[_Label]


def hermes(
    dag: Dag,
    prices: BudgetCosts,
    budget: float,
    target: int | None,
    back_M: Array | None = None,
    epsilon: float = 0.01,
    source: int = 0,
) -> tuple[int, ...]:
    """Find a placement whose latency is within a share `epsilon` of the least under the budget.

    `back_M`: seconds from the device where the result stays to where it goes back to.

    Raises
    ------
    NetworkError
        For a network whose branches share more than their beginning.
    TargetError
        When no placement costs so little.
    """
    ends = articulation_points(dag)
    alone_s = dag.tau_NM.sum(axis=0) + dag.routed_LMM[0, source]
    step_s = epsilon * float(alone_s.min()) / (4 * dag.N)
    fronts: dict[int, _Front] = {source: [(0.0, 0.0, ())]}
    for entry, exit_ in zip(ends, ends[1:], strict=False):
        _refuse_shared(dag, entry, exit_)
        found: dict[int, list[_Label]] = {m: [] for m in range(dag.M)}
        for a, before in fronts.items():
            for b, front in _stretch(dag, prices, entry, exit_, a, budget, step_s).items():
                found[b] += [_both(x, y, x[0] + y[0]) for x in before for y in front]
        fronts = {m: _pruned(labels, budget, step_s) for m, labels in found.items() if labels}
    last: list[_Label] = []
    for m, front in fronts.items():
        back_s = 0.0 if back_M is None else float(back_M[m])
        stays = [(seconds + back_s, paid, plan) for seconds, paid, plan in front]
        last += stays if target is None else _brought(dag, prices, dag.N, m, target, front)
    best = min((label for label in last if label[1] <= budget * (1 + 1e-12)), default=None)
    if best is None:
        raise InfeasibleError(f"no placement costs {budget:g} or less. Expected a larger --energy-limit")
    return _devices(best[2], dag.N)


def _stretch(
    dag: Dag, prices: BudgetCosts, entry: int, exit_: int, a: int, budget: float, step_s: float
) -> dict[int, _Front]:
    """Fronts of the exit on each device, counted from when output `entry` was made on `a`."""
    made: dict[int, dict[int, _Front]] = {entry: {a: [(0.0, 0.0, ())]}}
    for n in range(entry + 1, exit_ + 1):
        made[n] = {}
        for m in np.flatnonzero(np.isfinite(dag.tau_NM[n - 1])).tolist():
            front: _Front = [(0.0, 0.0, ())]
            for i in dag.inputs[n - 1]:
                reached = (_brought(dag, prices, i, p, m, its) for p, its in made[i].items())
                arrived = _pruned((label for labels in reached for label in labels), budget, step_s)
                pairs = (_both(x, y, max(x[0], y[0])) for x in front for y in arrived)
                front = _pruned(pairs, budget, step_s)
            tau_s, cost = float(dag.tau_NM[n - 1, m]), float(prices.run_NM[n - 1, m])
            made[n][m] = [(time + tau_s, paid + cost, ((n, m), plan)) for time, paid, plan in front]
    return made[exit_]


def _brought(dag: Dag, prices: BudgetCosts, i: int, a: int, b: int, front: _Front) -> _Front:
    seconds, cost = float(dag.routed_LMM[i, a, b]), float(prices.bring_LMM[i, a, b])
    return [(time + seconds, paid + cost, plan) for time, paid, plan in front] if np.isfinite(seconds) else []


def _both(one: _Label, other: _Label, seconds: float) -> _Label:
    return (seconds, one[1] + other[1], (None, one[2], other[2]))


def _pruned(labels: Iterable[_Label], budget: float, step_s: float) -> _Front:
    """Keep what nothing beats in seconds and cost, one a step of time, within the budget."""
    kept: _Front = []
    for label in sorted(labels, key=lambda label: label[:2]):
        if label[1] > budget * (1 + 1e-12) or (kept and label[1] >= kept[-1][1]):
            continue
        if kept and step_s and kept[-1][0] // step_s == label[0] // step_s and len(kept) > 1:
            kept[-1] = label
        else:
            kept.append(label)
    return kept


def _devices(plan: Sequence[Any], N: int) -> tuple[int, ...]:
    found: dict[int, int] = {}
    left: list[Sequence[Any]] = [plan]
    while left:
        its = left.pop()
        if its:
            head, *rest = its
            if head is not None:
                found[head[0]] = head[1]
            left += rest
    return tuple(found[n] for n in range(1, N + 1))


def _refuse_shared(dag: Dag, entry: int, exit_: int) -> None:
    takers: dict[int, int] = {}
    for outputs in dag.inputs[entry:exit_]:
        for i in outputs:
            takers[i] = takers.get(i, 0) + (i != entry)
    shared = [i for i, count in takers.items() if count > 1]
    if shared:
        raise TopologyError(
            f"hermes needs branches that share only their beginning, got an output of unit {shared[0]} that "
            f"{takers[shared[0]]} units take inside a branch: use --method optimal"
        )
