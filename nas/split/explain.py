"""Why T is what it is, what would have to change to meet a deadline, and whether a split pays at all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.split.methods import SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem, as_chain, with_link_rate
from jmsnas.nas.split.rate_lines import RateLine, rate_lines
from jmsnas.nas.split.rate_sweep import find_link
from jmsnas.nas.split.timeline import TimelineStep, timeline

# What is looked for: a factor that somebody could still buy.
_MOST = 1e4


@dataclass(frozen=True, slots=True)
class RequiredSpeedup:
    """A link or device that alone meets the deadline where it is `factor` times as fast; None: never."""

    what: str
    factor: float | None


@dataclass(frozen=True, slots=True)
class SplitExplanation:
    """What an answer is made of.

    Attributes
    ----------
    bottleneck
        The longest step of the critical path, and its share of T.
    changes
        For a deadline that is missed: each link and device, and how many times faster it alone must be.
    units
        For a deadline that is missed: the fewest units of the critical path that together take the seconds
        that are too many, the longest first, as (number, device, seconds); empty where all are too few.
    cloud_s, device_s
        T of sending the raw input to the last device, and of running everything on the first; infinite where
        a unit cannot run there.
    pays
        Whether the best plan with a layer on the first device beats cloud only.
    break_even_bps
        The rate of the first link below which it does; 0 where never, infinite where always; None where the
        devices stand neither in line nor in a mesh behind one link. Branches over devices in line are cut
        where all of the network passes one output.
    """

    bottleneck: tuple[TimelineStep, float]
    changes: tuple[RequiredSpeedup, ...]
    units: tuple[tuple[int, str, float], ...]
    cloud_s: float
    device_s: float
    pays: bool
    break_even_bps: float | None


def explain_split(
    costs: SplitProblem, answer: SplitResult, deadline_s: float | None = None
) -> SplitExplanation:
    """Explain an answer whose objective is latency; see `SplitExplanation`."""
    request, told = replace(answer.request, objective="latency", budget_j=None), answer.timeline
    alone = replace(request, method="cloud", min_layers=0)
    cloud_s, device_s = _alone_s(costs, alone), _alone_s(costs, replace(alone, method="device"))
    longest = max(told.critical_path, key=lambda step: step.seconds)
    missed = deadline_s is not None and told.latency_s > deadline_s
    changes = _changes(costs, request, deadline_s) if missed and deadline_s is not None else ()
    units = _units(costs, answer, told.latency_s - deadline_s) if missed and deadline_s is not None else ()
    own_s, break_even = _break_even(costs, request)
    return SplitExplanation(
        (longest, longest.seconds / told.latency_s),
        changes,
        units,
        cloud_s,
        device_s,
        own_s < cloud_s,
        break_even,
    )


def _alone_s(costs: SplitProblem, request: SplitRequest) -> float:
    """T of one device alone, seconds; infinite where it cannot run every unit."""
    try:
        return split(costs, request).timeline.latency_s
    except InfeasibleError:
        return math.inf


def _changes(costs: SplitProblem, request: SplitRequest, deadline_s: float) -> tuple[RequiredSpeedup, ...]:
    found = []
    for k, link in enumerate(costs.links):

        def faster_link(factor: float, k: int = k, rate: float = link.capacity_bps) -> SplitProblem:
            return with_link_rate(costs, rate * factor, k)

        found.append(
            RequiredSpeedup(f"link {link.source} -> {link.target}", _least(faster_link, request, deadline_s))
        )
    for m, name in enumerate(costs.names):

        def faster_device(factor: float, m: int = m) -> SplitProblem:
            tau_NM = costs.tau_NM.copy()
            tau_NM[:, m] /= factor
            return replace(costs, tau_NM=tau_NM, low_NM=tau_NM, high_NM=tau_NM)

        found.append(RequiredSpeedup(f"device {name}", _least(faster_device, request, deadline_s)))
    return tuple(found)


def _least(
    changed: Callable[[float], SplitProblem], request: SplitRequest, deadline_s: float
) -> float | None:
    """Least factor that meets the deadline when the network is split anew; None where none does."""

    def misses(factor: float) -> bool:
        return split(changed(factor), request).timeline.latency_s > deadline_s

    if misses(_MOST):
        return None
    low, high = 1.0, _MOST
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if misses(middle) else (low, middle)
    return high


def _units(costs: SplitProblem, answer: SplitResult, too_many_s: float) -> tuple[tuple[int, str, float], ...]:
    on_path = {n for step in answer.timeline.critical_path if not step.target for n in step.units}
    seconds = [
        (float(costs.tau_NM[n - 1, m]), n, costs.names[m])
        for n, m in enumerate(answer.devices, 1)
        if n in on_path
    ]
    found: list[tuple[int, str, float]] = []
    for tau_s, n, name in sorted(seconds, reverse=True):
        found.append((n, name, tau_s))
        if sum(its[2] for its in found) >= too_many_s:
            return tuple(found)
    return ()


def _break_even(costs: SplitProblem, request: SplitRequest) -> tuple[float, float | None]:
    """T of the best plan with a layer on the first device, and the rate at which it equals cloud only."""
    keeping = replace(request, method="optimal", min_layers=max(1, request.min_layers))
    own_s = split(costs, keeping).timeline.latency_s
    chain = costs if costs.fork else as_chain(costs)[0]
    try:
        link = find_link(chain)
        lines = rate_lines(chain, keeping, link)
    except (InputError, TopologyError, InfeasibleError):
        return own_s, None
    if any(line.cut is None for line in lines):
        return own_s, None
    cloud = _cloud_line(chain, request, link)
    rates = [_beaten_below(line, cloud) for line in lines if line.cut]
    return own_s, max(rates, default=0.0)


def _beaten_below(line: RateLine, cloud: RateLine) -> float:
    """Rate below which a line beats cloud only."""
    if line.fixed_s <= cloud.fixed_s:
        return math.inf if line.sent_bits <= cloud.sent_bits else 0.0
    return max(0.0, (cloud.sent_bits - line.sent_bits) / (line.fixed_s - cloud.fixed_s))


def _cloud_line(costs: SplitProblem, request: SplitRequest, link: int) -> RateLine:
    its, everywhere = costs.links[link], (costs.M - 1,) * costs.N
    told = timeline(costs, request.encoding, everywhere, costs.M - 1)
    ends = {its.source, its.target}
    bits = sum(
        8 * step.sent_bytes
        for step in (*told.steps, *told.return_steps)
        if {step.device, step.target} == ends
    )
    return RateLine(0, told.latency_s - bits / its.capacity_bps, bits, everywhere)
