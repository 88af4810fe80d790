"""The best plans as one link's rate changes: where to switch, and what to choose when the rate is not known.

On a line of devices link m carries one output, that of cut c, so T of the best plan with that cut is a line
in 1/rate: ``T_c(rate) = A_c + B_c / rate``. N + 1 such lines hold every plan that is the best at some rate
or regrets the least over a range; all below is arithmetic on them.
"""

import re
from dataclasses import dataclass

import numpy as np

from jmsnas.errors import InputError, NetworkError, TargetError
from jmsnas.nas.costs import Costs, at_rate
from jmsnas.nas.placement import Placement
from jmsnas.nas.split_chain import chain_split
from jmsnas.nas.split_methods import Question
from jmsnas.units import parse_rate

_ASKED = re.compile(r"rate(?::([\w-]+))?=([-+0-9.eE]+)\.\.([-+0-9.eE]+)\s*([a-zA-Z/]+)")
# T at this rate is A alone, to the last digit that is read.
_ENDLESS_BPS = 1e18


@dataclass(frozen=True, slots=True)
class Line:
    """The best plan that sends output `cut` over the link: T = fixed_s + sent_bits / rate."""

    cut: int
    fixed_s: float
    sent_bits: float
    placement: Placement

    def latency_s(self, rate_bps: float) -> float:
        """T at a rate, seconds."""
        return self.fixed_s + self.sent_bits / rate_bps


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which plan is the best from which rate on, and what to choose for the whole range.

    `switches` are (from_bps, line) with rising rates: the line is the best up to the next one. `worst_case`
    has the least T at the worst rate of the range, `least_regret` the least of what it ever loses to the
    best plan.
    """

    link: str
    low_bps: float
    high_bps: float
    switches: tuple[tuple[float, Line], ...]
    worst_case: Line
    least_regret: Line
    regret_s: float


def rate_lines(costs: Costs, question: Question, link: int = 0) -> tuple[Line, ...]:
    """Give the best plan for each output the link behind device `link` may carry, of a chain over a line.

    Raises
    ------
    NetworkError
        For a graph of devices, or none behind the link.
    TargetError
        When the policy allows no plan at all.
    """
    if not (costs.is_line and costs.is_chain) or link >= costs.M - 1:
        raise NetworkError(
            f"{costs.network} on {', '.join(costs.names)}: a sweep needs a chain of layers over two or more "
            "devices in line"
        )
    epsilon_LM = at_rate(costs, _ENDLESS_BPS, link).epsilon_LM(question.encoding)
    bits_L = costs.epsilon_LM(question.encoding)[:, link] - costs.links[link].delay_s
    bits_L = bits_L * costs.links[link].capacity_bps
    limits = costs.limits(question.encoding, question.policy, question.min_layers)
    lines = []
    for cut in range(costs.N + 1):
        only_LM = epsilon_LM.copy()
        only_LM[np.arange(costs.N + 1) != cut, link] = np.inf
        try:
            fixed_s, placement = chain_split(costs.tau_NM, only_LM, question.policy, limits)
        except TargetError:
            continue
        stays = question.policy == "stop-early" and cut == costs.N
        lines.append(Line(cut, fixed_s, 0.0 if stays else float(bits_L[cut]), placement))
    if not lines:
        raise TargetError(
            f"no split of {costs.network} is allowed by policy {question.policy} and the limits"
        )
    return tuple(lines)


def parse_sweep(text: str, costs: Costs) -> tuple[int, float, float]:
    """Read `rate=1..200Mbit/s`, or `rate:laptop=...` for the link behind laptop; (link, low, high) in bit/s.

    Raises
    ------
    InputError
        When it cannot be read, or a rate is 0.
    """
    match = _ASKED.fullmatch(text.strip())
    if not match:
        raise InputError(f"cannot read --sweep {text!r}: expected a range such as rate=1..200Mbit/s")
    low, high = (parse_rate(f"{number}{match[4]}") for number in (match[2], match[3]))
    if not 0 < low < high:
        raise InputError(f"--sweep {text!r} goes from {low:g} to {high:g} bit/s: expected 0 < low < high")
    if match[1] and match[1] not in costs.names[:-1]:
        raise InputError(
            f"--sweep {text!r}: no link behind {match[1]!r}, expected one of {', '.join(costs.names[:-1])}"
        )
    return (costs.names.index(match[1]) if match[1] else 0), low, high


def sweep(costs: Costs, question: Question, link: int, low_bps: float, high_bps: float) -> Sweep:
    """Find the best plan at every rate of a range, and the plans to choose when the rate is not known."""
    lines = rate_lines(costs, question, link)
    switches = [(low_bps, _best(lines, low_bps))]
    while True:
        at_bps, current = switches[-1]
        # A line that crosses below the current one at a higher rate has fewer fixed seconds, more bits.
        crossings = [
            ((other.sent_bits - current.sent_bits) / (current.fixed_s - other.fixed_s), other.fixed_s, other)
            for other in lines
            if other.fixed_s < current.fixed_s
        ]
        ahead = [crossing for crossing in crossings if crossing[0] > at_bps * (1 + 1e-12)]
        if not ahead or (first := min(ahead, key=lambda its: its[:2]))[0] >= high_bps:
            break
        switches.append((first[0], first[2]))
    ends = (low_bps, high_bps)
    best = [_best(lines, rate).latency_s(rate) for rate in ends]

    def regret(line: Line) -> float:
        # A line less the least of all lines is convex in 1/rate: the most is lost at an end of the range.
        return max(line.latency_s(rate) - least for rate, least in zip(ends, best, strict=True))

    calm = min(lines, key=regret)
    names = (costs.names[link], costs.names[link + 1])
    worst = switches[0][1]
    return Sweep(" -> ".join(names), low_bps, high_bps, tuple(switches), worst, calm, regret(calm))


def _best(lines: tuple[Line, ...], rate_bps: float) -> Line:
    return min(lines, key=lambda line: (line.latency_s(rate_bps), line.fixed_s))
