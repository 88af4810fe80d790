"""The best plans as one link's rate changes: where to switch, and what to choose when the rate is not known.

T of each plan that can be the best is a line in 1/rate (rate_lines.py), so all here is arithmetic, exact.
"""

import itertools
import re
from dataclasses import dataclass

import numpy as np

from jmsnas.errors import InputError
from jmsnas.nas.split.methods import SplitRequest
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.rate_lines import RateLine, rate_lines
from jmsnas.units import parse_rate

_ASKED = re.compile(r"rate(?::([\w-]+)(?::([\w-]+))?)?=([-+0-9.eE]+)\.\.([-+0-9.eE]+)\s*([a-zA-Z/]+)")


@dataclass(frozen=True, slots=True)
class RateSweep:
    """Which plan is the best from which rate on, and what to choose for the whole range.

    `switches` are (from_bps, line) with rising rates: the line is the best up to the next one. `worst_case`
    has the least T at the worst rate of the range, `least_regret` the least of what it ever loses to the
    best plan.
    """

    link: str
    low_bps: float
    high_bps: float
    switches: tuple[tuple[float, RateLine], ...]
    worst_case: RateLine
    least_regret: RateLine
    regret_s: float


def parse_rate_sweep(text: str, costs: SplitProblem) -> tuple[int, float, float]:
    """Read `rate=1..200Mbit/s`, or `rate:laptop=...` for the link behind laptop, `rate:laptop:mbs1=...`.

    Gives the place of the link among those of the costs, and the rates in bits per second.

    Raises
    ------
    InputError
        When it cannot be read, a rate is 0, or there is no such link, or several.
    """
    match = _ASKED.fullmatch(text.strip())
    if not match:
        raise InputError(f"cannot read --sweep {text!r}: expected a range such as rate=1..200Mbit/s")
    low, high = (parse_rate(f"{number}{match[5]}") for number in (match[3], match[4]))
    if not 0 < low < high:
        raise InputError(f"--sweep {text!r} goes from {low:g} to {high:g} bit/s: expected 0 < low < high")
    return find_link(costs, match[1], match[2]), low, high


def find_link(costs: SplitProblem, source: str | None = None, target: str | None = None) -> int:
    """Find the one link behind a device (None: the first), to `target` where that is said.

    Gives its place among those of the costs. Raises InputError.
    """
    source = source or costs.names[0]
    found = [k for k, its in enumerate(costs.links) if its.source == source and target in (None, its.target)]
    if len(found) == 1:
        return found[0]
    if found:
        ways = ", ".join(f"rate:{source}:{costs.links[k].target}" for k in found)
        raise InputError(f"several links are behind {source!r}: expected one of {ways}")
    sources = dict.fromkeys(its.source for its in costs.links)
    known = [its.target for its in costs.links if its.source == source] if target else list(sources)
    raise InputError(
        f"no link behind {source!r}{f' to {target!r}' if target else ''}, expected one of "
        f"{', '.join(known) or 'none: a network of one device has no link'}"
    )


def sweep_rate(
    costs: SplitProblem, request: SplitRequest, link: int, low_bps: float, high_bps: float
) -> RateSweep:
    """Find the best plan at every rate of a range, and the plans to choose when the rate is not known."""
    lines = rate_lines(costs, request, link)
    switches = [(low_bps, _best(lines, low_bps))]
    while True:
        at_bps, current = switches[-1]
        ahead = [
            (rate, other)
            for other in lines
            if (rate := _overtakes(other, current, at_bps)) is not None and rate < high_bps
        ]
        if not ahead:
            break
        # Of several that pass at one rate, the one that is the best just behind it.
        first = min(rate for rate, _ in ahead)
        level = [other for rate, other in ahead if rate <= first * (1 + 1e-12)]
        switches.append((first, min(level, key=lambda its: (its.latency_s(first * (1 + 1e-9)), its.fixed_s))))
    # T of a line less that of the best is straight between these rates: the most is lost at one of them.
    bends = [its.sent_bits / its.floor_s for its in lines if its.floor_s]
    rates = [low_bps, high_bps, *(bps for bps, _ in switches), *(r for r in bends if low_bps < r < high_bps)]
    best = [_best(lines, rate).latency_s(rate) for rate in rates]

    def regret(line: RateLine) -> float:
        return max(line.latency_s(rate) - least for rate, least in zip(rates, best, strict=True))

    calm = min(lines, key=regret)
    name = f"{costs.links[link].source} -> {costs.links[link].target}"
    # T falls with the rate: the worst case is the lowest one.
    return RateSweep(name, low_bps, high_bps, tuple(switches), switches[0][1], calm, regret(calm))


def _overtakes(other: RateLine, current: RateLine, at_bps: float) -> float | None:
    """Least rate above `at_bps` behind which `other` is below `current`; None where there is none."""
    bends = sorted(its.sent_bits / its.floor_s for its in (other, current) if its.floor_s)
    edges = [at_bps, *(rate for rate in bends if rate > at_bps), np.inf]
    for left, right in itertools.pairwise(edges):
        ahead = other.latency_s(left) - current.latency_s(left)
        later = other.latency_s(right) - current.latency_s(right)
        tiny = 1e-13 * current.latency_s(left)
        if later < -tiny and (ahead > tiny or left > at_bps):
            # Straight in 1/rate between the two.
            share = max(ahead, 0.0) / (max(ahead, 0.0) - later)
            inverse = (1 - share) / left + share / right
            rate = 1 / inverse if inverse else np.inf
            return float(rate) if rate > at_bps * (1 + 1e-12) else None
    return None


def _best(lines: tuple[RateLine, ...], rate_bps: float) -> RateLine:
    return min(lines, key=lambda its: (its.latency_s(rate_bps), its.latency_s(rate_bps * (1 + 1e-9))))
