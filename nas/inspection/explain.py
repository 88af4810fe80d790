"""Explanation of a split: bottleneck, speed-ups that would meet a deadline, break-even with cloud only."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.split.methods import GIVEN, SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem, as_chain, with_link_rate
from jmsnas.nas.split.rate_sweep import RateLine, find_link, rate_lines
from jmsnas.nas.split.timeline import TimelineStep, compute_timeline

# The largest speed-up that is searched for.
_MAX_FACTOR = 1e4
# Latencies that differ by less are equal: sums of the same terms in another order.
_TIE = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class RequiredSpeedup:
    """A link or device that alone meets the deadline when it is `factor` times as fast; None: never."""

    what: str
    factor: float | None


class CriticalUnit(NamedTuple):
    """A unit of the critical path: its number from 1, its device, and its seconds there."""

    number: int
    device: str
    seconds: float


class Bottleneck(NamedTuple):
    """The longest step of the critical path, and its share of T."""

    step: TimelineStep
    share: float


@dataclass(frozen=True, slots=True)
class SplitExplanation:
    """Bottleneck of a split, what a missed deadline requires, and how the split compares with cloud only.

    Attributes
    ----------
    bottleneck
        The longest step of the critical path.
    changes
        For a missed deadline: each link and device, and how many times faster it alone must be; those that
        the time limit left over are `unfinished`.
    units
        For a missed deadline: the fewest units of the critical path, longest first, that together take at
        least the seconds over the deadline; empty where all together take less.
    cloud_s, device_s
        T of sending the raw input to the last device, and of running everything on the first; infinite where
        a unit cannot run there.
    first_device_s, first_device_devices
        T of the best plan of the policy with a layer on the first device, and its device of each unit;
        infinite and empty where none was found.
    faster_than_cloud
        Whether that plan beats cloud only.
    break_even_bps, faster_above_bps
        The rate of the first link below which, and that above which such a plan beats cloud only; 0 and
        infinite: at no rate, infinite and 0: at any. None: unknown, because the devices are neither a chain
        nor a mesh after one link. On a chain of devices branches are cut at articulation points only.
    """

    bottleneck: Bottleneck
    changes: tuple[RequiredSpeedup, ...]
    unfinished: tuple[str, ...]
    units: tuple[CriticalUnit, ...]
    cloud_s: float
    device_s: float
    first_device_s: float
    first_device_devices: tuple[int, ...]
    faster_than_cloud: bool
    break_even_bps: float | None
    faster_above_bps: float | None


def explain_split(
    problem: SplitProblem, result: SplitResult, deadline_s: float | None = None
) -> SplitExplanation:
    """Explain a split whose objective is latency."""
    request, timeline = replace(result.request, objective="latency", budget_j=None), result.timeline
    solved = replace(request, method="optimal", placement=None)
    longest = max(timeline.critical_path, key=lambda step: step.seconds)
    changes: tuple[RequiredSpeedup, ...] = ()
    unfinished: tuple[str, ...] = ()
    units: tuple[CriticalUnit, ...] = ()
    if deadline_s is not None and timeline.latency_s > deadline_s:
        changes, unfinished = _required_speedups(problem, request, deadline_s)
        units = _units_to_save(problem, result, timeline.latency_s - deadline_s)
    keeping = replace(solved, min_layers=max(1, solved.min_layers))
    own_s, own_devices = _best_plan(problem, keeping)
    below_bps, above_bps = _break_even(problem, keeping)
    cloud_s = single_device_s(problem, request, problem.M - 1)
    return SplitExplanation(
        bottleneck=Bottleneck(longest, longest.seconds / timeline.latency_s if timeline.latency_s else 1.0),
        changes=changes,
        unfinished=unfinished,
        units=units,
        cloud_s=cloud_s,
        device_s=single_device_s(problem, request, 0),
        first_device_s=own_s,
        first_device_devices=own_devices,
        faster_than_cloud=own_s * _TIE < cloud_s,
        break_even_bps=below_bps,
        faster_above_bps=above_bps,
    )


def single_device_s(problem: SplitProblem, request: SplitRequest, device: int) -> float:
    """T of one device alone, in seconds; infinite where it cannot run every unit."""
    given = replace(request, method=GIVEN, placement=(device,) * problem.N, min_layers=0)
    try:
        return split(problem, given).timeline.latency_s
    except InfeasibleError:
        return math.inf


def _required_speedups(
    problem: SplitProblem, request: SplitRequest, deadline_s: float
) -> tuple[tuple[RequiredSpeedup, ...], tuple[str, ...]]:
    """Find by which factor each link or device must be faster; and those that no time was left for."""
    changed = dict[str, Callable[[float], SplitProblem]]()
    for k, link in enumerate(problem.links):

        def faster_link(factor: float, k: int = k, rate: float = link.capacity_bps) -> SplitProblem:
            return with_link_rate(problem, rate * factor, k)

        changed[f"link {link.source} -> {link.target}"] = faster_link
    for m, name in enumerate(problem.names):

        def faster_device(factor: float, m: int = m) -> SplitProblem:
            tau_NM = problem.tau_NM.copy()
            tau_NM[:, m] /= factor
            return replace(problem, tau_NM=tau_NM, low_NM=tau_NM, high_NM=tau_NM)

        changed[f"device {name}"] = faster_device
    found: list[RequiredSpeedup] = []
    for what, faster in changed.items():
        try:
            found.append(RequiredSpeedup(what, _least_factor(faster, request, deadline_s)))
        except TimeoutError:
            break
    return tuple(found), tuple(changed)[len(found) :]


def _least_factor(
    changed: Callable[[float], SplitProblem], request: SplitRequest, deadline_s: float
) -> float | None:
    """Least factor that meets the deadline when the model is split again; None where none does.

    Raises TimeoutError when the time of the request is over.
    """

    def misses(factor: float) -> bool:
        if time.monotonic() >= request.end_s:
            raise TimeoutError
        return split(changed(factor), request).timeline.latency_s > deadline_s

    if misses(_MAX_FACTOR):
        return None
    low, high = 1.0, _MAX_FACTOR
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if misses(middle) else (low, middle)
    return high


def _units_to_save(problem: SplitProblem, result: SplitResult, save_s: float) -> tuple[CriticalUnit, ...]:
    on_path = {n for step in result.timeline.critical_path if not step.target for n in step.units}
    units = [
        (float(problem.tau_NM[n - 1, m]), n, problem.names[m])
        for n, m in enumerate(result.devices, 1)
        if n in on_path
    ]
    found: list[CriticalUnit] = []
    for tau_s, n, name in sorted(units, reverse=True):
        found.append(CriticalUnit(n, name, tau_s))
        if sum(unit.seconds for unit in found) >= save_s:
            return tuple(found)
    return ()


def _best_plan(problem: SplitProblem, request: SplitRequest) -> tuple[float, tuple[int, ...]]:
    try:
        found = split(problem, request)
    except (InfeasibleError, TopologyError):
        return math.inf, ()
    return found.timeline.latency_s, found.devices


def _break_even(problem: SplitProblem, keeping: SplitRequest) -> tuple[float | None, float | None]:
    """Rates of the first link below and above which a plan with layers on the first device beats cloud only.

    `keeping` asks for such plans.
    """
    chain = problem if problem.fork else as_chain(problem)[0]
    if chain is not problem and keeping.min_layers > 1:  # counts units, not the layers of `chain`
        return None, None
    try:
        link = find_link(chain)
        lines = rate_lines(chain, keeping, link)
    except (InputError, TopologyError, InfeasibleError):
        return None, None
    if any(line.cut is None for line in lines):
        return None, None
    cloud = _cloud_line(chain, keeping, link)
    own = [line for line in lines if line.cut]
    below_bps = max((_beaten_below(line, cloud) for line in own), default=0.0)
    above_bps = min((_beaten_above(line, cloud) for line in own), default=math.inf)
    return below_bps, 0.0 if below_bps == math.inf else above_bps


def _beaten_below(line: RateLine, cloud: RateLine) -> float:
    """Rate below which a line beats cloud only; infinite: at any rate, 0: at none."""
    saved_bits, more_s = cloud.sent_bits - line.sent_bits, line.fixed_s - cloud.fixed_s
    if more_s > 0:
        return max(0.0, saved_bits / more_s)
    return math.inf if saved_bits > 0 or (saved_bits == 0 and more_s < 0) else 0.0


def _beaten_above(line: RateLine, cloud: RateLine) -> float:
    """Rate above which a line that sends more bits than cloud only beats it; infinite: at none."""
    more_bits, saved_s = line.sent_bits - cloud.sent_bits, cloud.fixed_s - line.fixed_s
    return more_bits / saved_s if more_bits > 0 and saved_s > 0 else math.inf


def _cloud_line(problem: SplitProblem, request: SplitRequest, link: int) -> RateLine:
    own, everywhere = problem.links[link], (problem.M - 1,) * problem.N
    timeline = compute_timeline(problem, request.encoding, everywhere, problem.M - 1)
    ends = {own.source, own.target}
    steps = (*timeline.steps, *timeline.return_steps)
    bits = sum(8 * step.sent_bytes for step in steps if {step.device, step.target} == ends)
    return RateLine(0, timeline.latency_s - bits / own.capacity_bps, bits, everywhere)
