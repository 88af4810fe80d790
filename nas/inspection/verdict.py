"""T of device only, cloud only and the optimum of each policy, by input encoding, and the fastest of them."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jmsnas.errors import JmsnasError
from jmsnas.nas.split.methods import GIVEN, SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.violations import limit_violations
from jmsnas.topology import POLICIES

DEVICE_ONLY, CLOUD_ONLY = "device only", "cloud only"
# Latencies that differ by less are equal: sums of the same terms in another order.
_TIE = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to run a model, with its T.

    `name` is `device only` (the result stays there, whatever the encoding), `cloud only`, the policy of which
    it is the optimum, or the method of another split (`given`: by its placement). `latency_s` and `devices`
    (the name of each unit's device) are None and empty where it is impossible or not allowed, and `reason`
    says why. `bound_s`: lower bound of T of the policy, below `latency_s` where the optimum is not proven.
    """

    name: str
    encoding: str
    latency_s: float | None
    devices: tuple[str, ...] = ()
    bound_s: float | None = None
    reason: str = ""

    @property
    def is_split(self) -> bool:
        """Whether layers run on two devices or more."""
        return len(set(self.devices)) > 1


@dataclass(frozen=True, slots=True)
class SlowerAlternative:
    """An alternative, and by how much its T exceeds that of the fastest: in seconds, and as a share of it."""

    alternative: Alternative
    more_s: float
    more_share: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The fastest alternatives, all that tie, and the others that are possible, fastest first."""

    fastest: tuple[Alternative, ...]
    others: tuple[SlowerAlternative, ...]


def rank(alternatives: Iterable[Alternative]) -> Ranking:
    """Find the alternatives of least T, and by how much the others are slower."""
    possible = [(k.latency_s, k) for k in alternatives if k.latency_s is not None]
    least_s = min((seconds for seconds, _ in possible), default=0.0)
    others = sorted((pair for pair in possible if pair[0] > least_s * _TIE), key=lambda pair: pair[0])
    return Ranking(
        tuple(k for seconds, k in possible if seconds <= least_s * _TIE),
        tuple(
            SlowerAlternative(k, seconds - least_s, seconds / least_s - 1 if least_s else None)
            for seconds, k in others
        ),
    )


def list_alternatives(
    problem: SplitProblem, request: SplitRequest, known: SplitResult | None = None
) -> tuple[Alternative, ...]:
    """Compute T of device only, cloud only, and the optimum of each policy, for every encoding of the input.

    Limits of devices, `min_layers` and `budget_j` of the request hold for all. All solvers together take
    about `time_limit_s`. `known` is a result that need not be computed again; the split of another method
    than `optimal` is an alternative of its own, under the policy of the request.
    """
    request = replace(request, method="optimal", placement=None, objective="latency")
    deadline_s, found = time.monotonic() + request.left_s, list[Alternative]()
    for encoding in problem.input_bytes:
        own = replace(request, encoding=encoding)
        found.append(_single_device(problem, own, DEVICE_ONLY, 0, "stop-early"))
        found.append(_single_device(problem, own, CLOUD_ONLY, problem.M - 1, "relay"))
        placements = [(0,) * problem.N, (problem.M - 1,) * problem.N]
        for policy in POLICIES:
            left_s = max(deadline_s - time.monotonic(), 0.0)
            asked = replace(own, policy=policy, time_limit_s=left_s)
            if known is not None and known.request == replace(asked, time_limit_s=known.request.time_limit_s):
                result: SplitResult | str = known
            else:
                result = _solved(problem, asked)
            if isinstance(result, SplitResult):
                result = _best(problem, result, placements)
                placements.append(result.devices)
            found.append(_alternative(problem, policy, encoding, result))
        if known is not None and known.request.method != "optimal":
            other = _solved(problem, replace(own, method=GIVEN, placement=known.devices))
            found.append(_alternative(problem, known.request.method, encoding, other))
    return tuple(found)


def _solved(problem: SplitProblem, request: SplitRequest) -> SplitResult | str:
    try:
        return split(problem, request)
    except JmsnasError as error:
        return str(error)


def _single_device(
    problem: SplitProblem, request: SplitRequest, name: str, device: int, policy: str
) -> Alternative:
    """Compute T of one device alone; the policy decides only where the result is needed."""
    cannot = [
        unit
        for unit, seconds in zip(problem.units, problem.tau_NM[:, device], strict=True)
        if seconds == math.inf
    ]
    if cannot:
        reason = f"{problem.names[device]} cannot run {cannot[0]}"
        return Alternative(name, request.encoding, None, reason=reason)
    given = replace(request, method=GIVEN, placement=(device,) * problem.N, policy=policy)
    result = _solved(problem, given)
    if isinstance(result, str):
        return Alternative(name, request.encoding, None, reason=result)
    limits = limit_violations(problem, result.devices, result.timeline, request.min_layers)
    over_budget = tuple(reason for reason in result.violations if "--energy-limit" in reason)
    return _alternative(problem, name, request.encoding, replace(result, violations=limits + over_budget))


def _best(problem: SplitProblem, result: SplitResult, placements: Sequence[tuple[int, ...]]) -> SplitResult:
    """Choose the fastest of a result that is not proven and of other placements that its policy allows."""
    if result.proven:
        return result
    best = result
    for placement in placements:
        other = _solved(problem, replace(result.request, method=GIVEN, placement=placement))
        if isinstance(other, SplitResult) and other.allowed:
            faster = other.timeline.latency_s < best.timeline.latency_s or not best.allowed
            best = replace(other, request=result.request, bound=result.bound) if faster else best
    return best


def _alternative(problem: SplitProblem, name: str, encoding: str, result: SplitResult | str) -> Alternative:
    if isinstance(result, str):
        return Alternative(name, encoding, None, reason=result)
    if not result.allowed:
        return Alternative(name, encoding, None, reason="; ".join(result.violations))
    latency_s = result.timeline.latency_s
    solved = name in POLICIES
    bound_s = (latency_s if result.proven else result.bound) if solved else latency_s
    return Alternative(name, encoding, latency_s, tuple(problem.names[m] for m in result.devices), bound_s)
