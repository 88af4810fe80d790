"""The quality gate: is a latency table worth fitting to? Every rule, and those that need the table's own fit.

A roofline fitted to the table itself says which rows are in another unit, and, corrected by the nearest
blocks, whether the first rows of a campaign were taken before the device was warm:

    seconds = constant + pointwise MACs / rate + depthwise MACs / rate + numbers moved / bandwidth

by least squares of relative errors, no constant below 0 (NNLS of Lawson and Hanson, 1974).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from jmsnas.profiler.quality import rules
from jmsnas.profiler.quality.latency_entry import LatencyEntry
from jmsnas.profiler.quality.rules import SEVERITIES, QualityFinding, group_by, is_positive, make_finding
from jmsnas.units import format_duration

Array = NDArray[np.float64]

# No block is that fast or that slow: one is below the cost of a call, the other a minute and a half.
_FASTEST_S, _SLOWEST_S = 1e-7, 100.0
# A factor of 1,000 is a wrong unit; half of it in logarithms and half as much again is the fit's own doubt.
_UNIT_FACTOR = 300.0
# Rows further off than this do not take part in the fit.
_OUTLIER_FACTOR = 20.0
_FEWEST_ROWS = 12
_HEAD, _NEIGHBOURS, _SLOW = 8, 5, 0.05
_MOST_ROWS = 4000
# The profiler's own bar: 85 % of rows within 1 %.
_UNCONVERGED_SHARE = 0.15
# And for a host on which nothing else runs.
_RED_SHARE = 0.05


def check_quality(rows: Sequence[LatencyEntry]) -> tuple[QualityFinding, ...]:
    """Put readings of one or several tables through every rule; errors first.

    `read_entries` makes readings of a file. docs/table.md lists the rules. Rows
    whose latency is no number above 0 are reported once and take no part in the other rules.
    """
    good = [reading for reading in rows if is_positive(reading)]
    found = [
        *rules.positive(rows),
        *units(good),
        *rules.throughput(good),
        *rules.copied(good),
        *rules.placeholder(good),
        *rules.duplicate(good),
        *rules.identity_fastest(good),
        *rules.monotone(good),
        *cold_start(good),
        *unconverged(good),
        *distrusted(good),
        *simulated(rows),
    ]
    return tuple(sorted(found, key=lambda entry: SEVERITIES.index(entry.severity)))


def units(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """No latency is in another unit: out of all bounds, or about 1,000 times off the table's own roofline."""
    for found in group_by(rows, lambda r: r.table).values():
        wrong = [r for r in found if not _in_bounds(r)]
        if wrong:
            yield make_finding(
                "units",
                "error",
                wrong,
                f"{len(wrong)} rows are below {format_duration(_FASTEST_S)} or above {_SLOWEST_S:g} s, which "
                f"no block takes; first row {wrong[0].row}, {wrong[0].text}: {wrong[0].median_s:.3g} s",
            )
    for found in group_by((r for r in rows if r.macs > 0 and _in_bounds(r)), lambda r: r.sweep).values():
        if len(found) < _FEWEST_ROWS:
            continue
        off = _log_residual(found)
        far = [(r, math.exp(o)) for r, o in zip(found, off, strict=True) if abs(o) > math.log(_UNIT_FACTOR)]
        if far:
            reading, factor = far[0]
            yield make_finding(
                "units",
                "error",
                (r for r, _ in far),
                f"{len(far)} rows are over {_UNIT_FACTOR:g} times off the roofline of their own table: "
                f"another unit? First row {reading.row}, {reading.text}: "
                f"{format_duration(reading.median_s)}, {factor:.3g} times what the others say",
            )


def _in_bounds(reading: LatencyEntry) -> bool:
    return _FASTEST_S <= reading.median_s <= _SLOWEST_S


def cold_start(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """The first 8 rows of a campaign are not slower, beside their neighbours, than any 8 later ones."""
    measured = (r for r in rows if r.macs > 0 and _in_bounds(r) and not r.simulated)
    for found in group_by(measured, lambda r: r.sweep).values():
        ordered = sorted(found, key=lambda r: r.moment)[:_MOST_ROWS]
        if len(ordered) < 4 * _HEAD:
            continue
        beside = _beside_neighbours(ordered)
        whole = len(ordered) // _HEAD
        windows = np.median(beside[: whole * _HEAD].reshape(whole, _HEAD), axis=1)
        slow = float(np.expm1(windows[0]))
        # What the fit gets wrong elsewhere, either way, is what geometry alone may do to the first rows.
        if slow > _SLOW and windows[0] > np.abs(windows[1:]).max():
            yield make_finding(
                "cold-start",
                "warning",
                ordered[:_HEAD],
                f"the first {_HEAD} rows of {ordered[0].setting} are {slow:.0%} slower (median) than their "
                f"nearest blocks say, unlike any {_HEAD} rows after them: was the device warm?",
            )


def unconverged(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """At most 15 % of a sweep's rows are unconverged."""
    for found in group_by((r for r in rows if r.converged is not None), lambda r: r.sweep).values():
        open_rows = [r for r in found if not r.converged]
        if len(open_rows) > _UNCONVERGED_SHARE * len(found):
            yield make_finding(
                "unconverged",
                "warning",
                open_rows,
                f"{len(open_rows)} of {len(found)} rows of {found[0].setting} did not converge "
                f"({len(open_rows) / len(found):.0%}, expected at most {_UNCONVERGED_SHARE:.0%}): "
                "give jmsnas profile a larger --budget",
            )


def distrusted(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """At most 5 % of a sweep's rows are red: the host throttled, or something else held the core."""
    for found in group_by(rows, lambda r: r.sweep).values():
        red = [r for r in found if r.distrust]
        if len(red) > _RED_SHARE * len(found):
            yield make_finding(
                "distrusted",
                "warning",
                red,
                f"{len(red)} of {len(found)} rows of {found[0].setting} are red "
                f"({len(red) / len(found):.0%}, expected at most {_RED_SHARE:.0%}); first row "
                f"{red[0].row}, {red[0].text}: {red[0].distrust}. "
                "Run jmsnas profile again on a quiet, cool host",
            )


def simulated(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Rows that no device was measured for are counted."""
    for table, found in group_by(rows, lambda r: r.table).items():
        made = [r for r in found if r.simulated]
        if made:
            yield make_finding(
                "simulated",
                "warning",
                made,
                f"{len(made)} of {len(found)} rows of {table} are simulated, not measured",
            )


def _log_residual(rows: Sequence[LatencyEntry]) -> Array:
    """Natural logarithm of latency over the roofline fitted to those rows that are not far off."""
    y = np.array([r.median_s for r in rows])
    depthwise = np.array([_depthwise_macs(r) for r in rows])
    macs, moved = (np.array([getattr(r, name) for r in rows]) for name in ("macs", "moved"))
    work = np.stack([np.ones(len(rows)), macs - depthwise, depthwise, moved], axis=1)
    work /= np.maximum(work.max(axis=0), 1.0)
    keep = np.abs(_off_line(np.log(macs), np.log(y))) < math.log(_OUTLIER_FACTOR)
    # Rows divided by their latency: the squares of relative errors are summed.
    weights, _ = nnls(work[keep] / y[keep, None], np.ones(keep.sum()))
    fitted = work @ weights
    # A row for which the fit has no constant and next to no work would be infinitely off.
    return np.asarray(np.log(y / np.maximum(fitted, 0.1 * y.min())))


def _depthwise_macs(reading: LatencyEntry) -> float:
    """MACs of the depthwise convolution, which run several times slower than the others; batch included."""
    if reading.op != "mb":
        return 0.0
    after = -(-reading.height // reading.stride) * -(-reading.width // reading.stride)
    return min(after * reading.in_channels * reading.expansion * reading.kernel_size**2, reading.macs)


def _off_line(x: Array, y: Array) -> Array:
    """Distance from a line that no quarter of the rows can bend: medians of slopes and of offsets (Theil)."""
    order, half = np.argsort(x, kind="stable"), len(x) // 2
    low, high = order[:half], order[len(x) - half :]
    run = x[high] - x[low]
    slopes = (y[high] - y[low])[run > 0] / run[run > 0]
    slope = float(np.clip(np.median(slopes), 0.0, 1.0)) if len(slopes) else 0.0
    off = y - slope * x
    return np.asarray(off - np.median(off))


def _beside_neighbours(rows: Sequence[LatencyEntry]) -> Array:
    """Residual of each row less the median of its nearest blocks', none of them measured next to it."""
    residual = _log_residual(rows)
    shapes = np.log1p(
        [[r.macs, r.moved, r.kernel_size, r.expansion, r.in_channels, r.out_channels, r.height] for r in rows]
    )
    index = np.arange(len(rows))
    beside = np.empty(len(rows))
    for i in index:
        distance = np.abs(shapes - shapes[i]).sum(axis=1)
        distance[np.abs(index - i) < _HEAD] = np.inf
        nearest = np.argpartition(distance, _NEIGHBOURS)[:_NEIGHBOURS]
        beside[i] = residual[i] - np.median(residual[nearest])
    return beside
