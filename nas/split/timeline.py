"""One placement of a network as it runs: who computes what when, what is sent where, what it costs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TopologyError
from jmsnas.nas.split.problem import SplitProblem


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """Units computed in a row on a device, or an output sent over one link.

    `target` is empty where it computes; `units` are numbers from 1 (of what is sent: the one output; 0 is the
    raw input); `low_s` and `high_s` bound its seconds, `sent_bytes` is what crosses the link.
    """

    device: str
    target: str
    units: tuple[int, ...]
    start_s: float
    seconds: float
    low_s: float
    high_s: float
    sent_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """All steps of a placement, T, seconds between two images, and joules (None where watts are not known).

    `critical` are the steps that make up T: each begins when the one before it ends. `back` brings the result
    to the first device where it goes back: part of T, not of the period or of the joules.
    """

    steps: tuple[TimelineStep, ...]
    critical_path: tuple[TimelineStep, ...]
    latency_s: float
    low_s: float
    high_s: float
    period_s: float
    energy_j: float | None
    return_steps: tuple[TimelineStep, ...] = ()


def result_device(costs: SplitProblem, policy: str) -> int | None:
    """Give the device that needs the result: the last one, or None where it may stay."""
    return None if policy == "stop-early" else costs.M - 1


def timeline(costs: SplitProblem, encoding: str, devices: Sequence[int], target: int | None) -> Timeline:
    """Play one image through a placement; the rules are those of dag.py. Raises NetworkError."""
    finish, steps, critical = _play(costs, costs.tau_NM, encoding, devices, target)
    bounds = [_play(costs, tau_NM, encoding, devices, target)[0] for tau_NM in (costs.low_NM, costs.high_NM)]
    back = _back(costs, devices[-1] if target is None else target, finish)
    back_s = sum(step.seconds for step in back)
    return Timeline(
        steps,
        (*critical, *back),
        finish + back_s,
        bounds[0] + back_s,
        bounds[1] + back_s,
        _period(steps),
        _energy(costs, steps),
        back,
    )


def _back(costs: SplitProblem, device: int, at_s: float) -> tuple[TimelineStep, ...]:
    """Bring the result from a device to the first, over the same links the other way."""
    if not costs.returns:
        return ()
    links, size, found = costs.arrays, float(costs.output_bytes_N[-1]), []
    epsilon_MM = links.epsilon_MM(size)
    for b, a in itertools.pairwise(reversed(links.route(0, device, size))):
        seconds = float(epsilon_MM[a, b])
        share = float(links.per_byte_MM[a, b] / links.input_per_byte_MM[a, b])
        names = costs.names[b], costs.names[a]
        found.append(TimelineStep(*names, (costs.N,), at_s, seconds, seconds, seconds, size * share))
        at_s += seconds
    return tuple(found)


def _play(
    costs: SplitProblem,
    tau_NM: NDArray[np.float64],
    encoding: str,
    devices: Sequence[int],
    target: int | None,
) -> tuple[float, tuple[TimelineStep, ...], tuple[TimelineStep, ...]]:
    links, sent_bytes_L = costs.arrays, costs.sent_bytes_L(encoding)
    place, finish = [0, *devices], [0.0]
    free: dict[int, tuple[float, TimelineStep | None]] = {}
    arrived: dict[tuple[int, int], tuple[float, TimelineStep | None]] = {(0, 0): (0.0, None)}
    steps: list[TimelineStep] = []
    cause: dict[int, TimelineStep | None] = {}
    copies_to = _copies(costs, devices)

    def bring(i: int, m: int) -> tuple[float, TimelineStep | None]:
        if (i, m) not in arrived:
            epsilon_MM = links.epsilon_MM(float(sent_bytes_L[i]), i == 0)
            way = links.route(place[i], m, float(sent_bytes_L[i]), i == 0)
            if not way:
                raise TopologyError(
                    f"no way leads from {costs.names[place[i]]} to {costs.names[m]}: expected a link"
                )
            at, last = finish[i], arrived[i, place[i]][1]
            for a, b in itertools.pairwise(way):
                together = copies_to.get((i, a), ())
                for c in () if (i, b) in arrived else together if b in together else (b,):
                    seconds = float(epsilon_MM[a, c])
                    names = (costs.names[a], costs.names[c])
                    share = links.per_byte_MM[a, c] / links.input_per_byte_MM[a, c] if i else 1.0
                    sent = TimelineStep(
                        *names, (i,), at, seconds, seconds, seconds, float(sent_bytes_L[i]) * float(share)
                    )
                    steps.append(sent)
                    cause[id(sent)] = last
                    at, last = at + seconds, sent
                    arrived[i, c] = (at, last)
                at, last = arrived[i, b]
        return arrived[i, m]

    for n, outputs in enumerate(costs.inputs, 1):
        m = devices[n - 1]
        ready = [*(bring(i, m) for i in outputs), free.get(m, (0.0, None))]
        start_s, after = max(ready, key=lambda event: event[0])
        seconds, low, high = (float(part[n - 1, m]) for part in (tau_NM, costs.low_NM, costs.high_NM))
        step = TimelineStep(costs.names[m], "", (n,), start_s, seconds, low, high)
        steps.append(step)
        cause[id(step)] = after
        finish.append(start_s + seconds)
        free[m] = arrived[n, m] = (finish[-1], step)
    end_s, last = (finish[-1], steps[-1]) if target is None else bring(costs.N, target)
    chain = []
    while last is not None:
        chain.append(last)
        last = cause[id(last)]
    return end_s, _joined(steps), _joined(chain[::-1])


def _copies(costs: SplitProblem, devices: Sequence[int]) -> dict[tuple[int, int], tuple[int, ...]]:
    """Give the children that a root sends the trunk's output to one by one (serial fan-out)."""
    fork, tree = costs.fork, costs.tree
    if not fork or not tree or tree.fan_out != "serial":
        return {}
    used = {devices[branch.start] for branch in fork.branches}
    children = tuple(m for m, name in enumerate(costs.names) if name in tree.children and m in used)
    return {(fork.trunk.stop, costs.names.index(tree.root)): children}


def _joined(steps: Sequence[TimelineStep]) -> tuple[TimelineStep, ...]:
    """Tell units that follow one another on a device as one step."""
    found: list[TimelineStep] = []
    for step in steps:
        before = found[-1] if found else None
        if before and not step.target and not before.target and step.device == before.device:
            seconds = step.start_s + step.seconds - before.start_s
            found[-1] = TimelineStep(
                step.device, "", before.units + step.units, before.start_s, seconds,
                before.low_s + step.low_s, before.high_s + step.high_s,
            )  # fmt: skip
        else:
            found.append(step)
    return tuple(found)


def _period(steps: Sequence[TimelineStep]) -> float:
    """Busy seconds an image of the busiest device or link."""
    busy: dict[tuple[str, str], float] = {}
    for step in steps:
        busy[step.device, step.target] = busy.get((step.device, step.target), 0.0) + step.seconds
    return max(busy.values())


def _energy(costs: SplitProblem, steps: Sequence[TimelineStep]) -> float | None:
    """Joules of the devices whose watts are given, one image; None where no device's are."""
    if not costs.power_w_M.any():
        return None
    total_j = 0.0
    for step in steps:
        watts_M = costs.send_power_w_M if step.target else costs.power_w_M
        total_j += float(watts_M[costs.names.index(step.device)]) * step.seconds
    return total_j
