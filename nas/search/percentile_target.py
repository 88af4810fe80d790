"""Latency target for a percentile of the measured T: the search bounds the predicted T below it by a margin.

The predicted T is taken as the median of the measured T. Ratios of percentiles 50 to 99 of T to its median
give the margin: they are measured by a deployment, or follow from the prediction intervals of U(.).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from jmsnas.errors import InfeasibleError, InputError
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.nas.derivation.target import LatencyTarget, resolve_target
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.space import Block
from jmsnas.units import format_duration, parse_duration

PERCENTILES = range(50, 100)
# Intervals of U(.) hold 90 % of the values.
_INTERVAL_SIGMAS = 2 * NormalDist().inv_cdf(0.95)


def parse_target(text: str) -> tuple[float, int]:
    """Parse a target such as `5ms` or `5ms@p95` into seconds and the percentile, 50 where none is given.

    Raises UnitError, InputError.
    """
    duration, at, percentile = text.partition("@")
    if at and not (re.fullmatch("p[0-9]{2}", percentile) and int(percentile[1:]) in PERCENTILES):
        raise InputError(f"--t-const {text[:80]}: expected a percentile from p50 to p99, as in 5ms@p95")
    return parse_duration(duration), int(percentile[1:]) if at else 50


def interval_ratios(estimators: Iterable[Estimator], blocks: Sequence[Block]) -> tuple[float, ...]:
    """Compute the ratios of `PERCENTILES` of T to its median from the prediction intervals of U(.).

    Latencies are taken as log-normal, all blocks of T as off by the same share: that of the median block of
    the device with the widest intervals.
    """
    sigma = 0.0
    for estimator in estimators:
        low_s, high_s = estimator.interval_s(blocks)
        sigma = max(sigma, float(np.median(np.log(high_s / low_s))) / _INTERVAL_SIGMAS)
    return tuple(float(np.exp(sigma * NormalDist().inv_cdf(p / 100))) for p in PERCENTILES)


def percentile_target(
    lut: LatencyLUT,
    deadline_s: float,
    percentile: int,
    ratios: Sequence[float],
    known: LatencyTarget | None = None,
) -> LatencyTarget:
    """Resolve the target whose `percentile` of T is to meet `deadline_s`; `known` as in `resolve_target`.

    `ratios` of `PERCENTILES`: see this module. Raises InfeasibleError where no architecture meets it, with
    the percentile and the deadline that can be met.
    """
    known = known or resolve_target(lut)
    bounds_s = [deadline_s / ratio for ratio in ratios]
    bound_s = bounds_s[percentile - PERCENTILES[0]]
    if bound_s < known.fastest_s <= deadline_s:
        reachable = [p for p, own_s in zip(PERCENTILES, bounds_s, strict=True) if own_s >= known.fastest_s]
        least_us = np.ceil(known.fastest_s * deadline_s / bound_s * 1e6)
        raise InfeasibleError(
            f"no architecture meets T_const {format_duration(deadline_s)} at p{percentile}: the spread of T "
            f"leaves {format_duration(bound_s)} for its median, the fastest takes "
            f"{format_duration(known.fastest_s)}. Reachable: --t-const "
            f"{deadline_s * 1e3:.7g}ms@p{reachable[-1]}, or --t-const {least_us / 1e3:.10g}ms@p{percentile}"
        )
    if deadline_s < known.fastest_s:
        bound_s = deadline_s  # not even at the median
    target = resolve_target(lut, bound_s, known)
    return replace(target, percentile=percentile, margin_s=deadline_s - bound_s)
