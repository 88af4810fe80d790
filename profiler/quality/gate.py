"""Quality gate of latency tables: all quality rules, including those that fit a roofline to the table.

The residuals of a roofline fitted to the table itself show which rows are in another unit and, relative to
those of similar blocks, whether the first rows of a campaign were measured before the device was warm:

    seconds = constant + pointwise MACs / rate + depthwise MACs / rate + numbers moved / bandwidth

fitted by non-negative least squares of relative errors (Lawson and Hanson, 1974).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import nnls

from jmsnas.arrays import FloatArray
from jmsnas.profiler.quality import rules
from jmsnas.profiler.quality.latency_entry import LatencyEntry
from jmsnas.profiler.quality.rules import (
    SEVERITIES,
    QualityFinding,
    group_by,
    is_positive,
    make_finding,
    runs_on_gpu,
)
from jmsnas.units import format_duration

# Limits of plausible latencies: the cost of a call is above the first, a block is far below the second.
_FASTEST_S, _SLOWEST_S = 1e-7, 100.0
# A wrong unit is a factor of 1,000; the difference to it allows for the error of the fit.
_UNIT_FACTOR = 300.0
# Rows with a larger factor to the trend of the others are excluded from the fit.
_OUTLIER_FACTOR = 20.0
_MIN_ROWS = 12
_HEAD, _NEIGHBOURS, _SLOW = 8, 5, 0.05
_MAX_ROWS = 4000
# The profiler's own criterion: 85 % of rows within 1 %.
_UNCONVERGED_SHARE = 0.15
# Accepted on an idle host.
_RED_SHARE = 0.05
# Limits of the throughput of a table's fastest block: few microcontrollers reach the first, no CPU the other.
# A phone's table (about 2 GMAC/s) is outside both when its latencies are wrong by a factor of 1,000.
_MIN_MACS_PER_S, _MAX_CPU_MACS_PER_S = 1e7, 1e12
# Calls of a runtime cost 10 us to 3 ms whatever the block, on faster devices too.
_MAX_CALL_S = 20e-3
_MIN_UNIT_ROWS = 3


def check_quality(rows: Sequence[LatencyEntry]) -> tuple[QualityFinding, ...]:
    """Apply all quality rules to entries of one or several tables, and return the findings, errors first.

    docs/table.md lists the rules. Rows whose latency is not a finite number above 0 are reported once and
    excluded from the other rules.
    """
    good = [entry for entry in rows if is_positive(entry)]
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
    """Find latencies in another unit: implausible, or about 1,000 times off the table's own roofline."""
    for found in group_by(rows, lambda r: r.table).values():
        wrong = [r for r in found if not _in_bounds(r)]
        if wrong:
            yield make_finding(
                "units",
                "error",
                wrong,
                f"{len(wrong)} rows are below {format_duration(_FASTEST_S)} or above {_SLOWEST_S:g} s, which "
                f"no block takes; first row {wrong[0].row}, {wrong[0].label}: {wrong[0].median_s:.3g} s",
            )
    for found in group_by((r for r in rows if r.macs > 0 and _in_bounds(r)), lambda r: r.group).values():
        if len(found) < _MIN_ROWS:
            continue
        off = _log_residual(found)
        far = [(r, math.exp(o)) for r, o in zip(found, off, strict=True) if abs(o) > math.log(_UNIT_FACTOR)]
        if far:
            entry, factor = far[0]
            yield make_finding(
                "units",
                "error",
                (r for r, _ in far),
                f"{len(far)} rows are over {_UNIT_FACTOR:g} times off the roofline fitted to their table, "
                f"probably in another unit; first row {entry.row}, {entry.label}: "
                f"{format_duration(entry.median_s)}, {factor:.3g} times the fitted latency",
            )


def _in_bounds(entry: LatencyEntry) -> bool:
    return _FASTEST_S <= entry.median_s <= _SLOWEST_S


def cold_start(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find campaigns whose first 8 rows are slower, relative to similar blocks, than any 8 later rows."""
    measured = (r for r in rows if r.macs > 0 and _in_bounds(r) and not r.simulated)
    for found in group_by(measured, lambda r: r.group).values():
        ordered = sorted(found, key=lambda r: r.measured_at)[:_MAX_ROWS]
        if len(ordered) < 4 * _HEAD:
            continue
        excess = _excess_over_similar(ordered)
        whole = len(ordered) // _HEAD
        windows = np.median(excess[: whole * _HEAD].reshape(whole, _HEAD), axis=1)
        slow = float(np.expm1(windows[0]))
        # The error of the fit in other windows, of either sign, may be due to geometry in the first rows too.
        if slow > _SLOW and windows[0] > np.abs(windows[1:]).max():
            yield make_finding(
                "cold-start",
                "warning",
                ordered[:_HEAD],
                f"the first {_HEAD} rows of {ordered[0].setting} are {slow:.0%} slower (median) than "
                f"similar blocks, more than any {_HEAD} rows after them: the device may have been cold",
            )


def unconverged(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find groups with more than 15 % unconverged rows."""
    for found in group_by((r for r in rows if r.converged is not None), lambda r: r.group).values():
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
    """Find groups with more than 5 % red rows: the host throttled, or another process held the core."""
    for found in group_by(rows, lambda r: r.group).values():
        red = [r for r in found if r.red_reason]
        if len(red) > _RED_SHARE * len(found):
            yield make_finding(
                "distrusted",
                "warning",
                red,
                f"{len(red)} of {len(found)} rows of {found[0].setting} are red "
                f"({len(red) / len(found):.0%}, expected at most {_RED_SHARE:.0%}); first row "
                f"{red[0].row}, {red[0].label}: {red[0].red_reason}. "
                "Run jmsnas profile again on a quiet, cool host",
            )


def simulated(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Report the number of simulated rows of each table."""
    for table, found in group_by(rows, lambda r: r.table).items():
        made = [r for r in found if r.simulated]
        if made:
            yield make_finding(
                "simulated",
                "warning",
                made,
                f"{len(made)} of {len(found)} rows of {table} are simulated, not measured",
            )


def suspicious_unit(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find tables of other tools in a wrong unit, from the throughput of their fastest block."""
    for found in group_by((r for r in rows if is_positive(r) and r.macs > 0), lambda r: r.group).values():
        if len(found) < _MIN_UNIT_ROWS:
            continue
        best = max(found, key=lambda r: r.macs / r.median_s)
        rate, call_s = best.macs / best.median_s, _call_cost_s(found)
        fast = rate > _MAX_CPU_MACS_PER_S * best.threads and not runs_on_gpu(best)
        what = f"the fastest of {len(found)} rows of {best.device} reaches {rate / 1e9:.3g} GMAC/s, "
        what += "faster than any CPU" if fast else "slower than any processor"
        if not fast and rate >= _MIN_MACS_PER_S:
            what = f"{len(found)} rows of {best.device} take {format_duration(call_s)} whatever their size"
        if fast or rate < _MIN_MACS_PER_S or call_s > _MAX_CALL_S:
            yield make_finding(
                "level",
                "warning",
                found,
                f"{what}; check that latency_ms is in milliseconds. It is row {best.row}, {best.label}",
            )


def _call_cost_s(rows: Sequence[LatencyEntry]) -> float:
    """Cost of a call by a fit to the rows, in seconds; 0 where they are of similar size."""
    y = np.array([r.median_s for r in rows])
    work = np.array([[1.0, r.macs, r.moved] for r in rows])
    if np.ptp(np.log2(work[:, 1])) < 1:
        return 0.0
    return float(nnls(work / np.maximum(work.max(axis=0), 1.0) / y[:, None], np.ones(len(y)))[0][0])


def _log_residual(rows: Sequence[LatencyEntry]) -> FloatArray:
    """Natural logarithm of latency over the roofline fitted to the rows without outliers."""
    y = np.array([r.median_s for r in rows])
    depthwise = np.array([_depthwise_macs(r) for r in rows])
    macs, moved = (np.array([getattr(r, name) for r in rows]) for name in ("macs", "moved"))
    work = np.stack([np.ones(len(rows)), macs - depthwise, depthwise, moved], axis=1)
    work /= np.maximum(work.max(axis=0), 1.0)
    keep = np.abs(_deviation_from_line(np.log(macs), np.log(y))) < math.log(_OUTLIER_FACTOR)
    # Rows are divided by their latency, so that relative errors are squared and summed.
    weights, _ = nnls(work[keep] / y[keep, None], np.ones(keep.sum()))
    fitted = work @ weights
    # Without a constant the fit of a row with almost no work would be near 0.
    return np.asarray(np.log(y / np.maximum(fitted, 0.1 * y.min())))


def _depthwise_macs(entry: LatencyEntry) -> float:
    """MACs of the depthwise convolution of one image, which are several times slower than the others."""
    if entry.op != "mb":
        return 0.0
    after = -(-entry.height // entry.stride) * -(-entry.width // entry.stride)
    return min(after * entry.in_channels * entry.expansion * entry.kernel_size**2, entry.macs)


def _deviation_from_line(x: FloatArray, y: FloatArray) -> FloatArray:
    """Deviation of y from a robust line: medians of slopes and of offsets (Theil), breakdown point 25 %."""
    order, half = np.argsort(x, kind="stable"), len(x) // 2
    low, high = order[:half], order[len(x) - half :]
    run = x[high] - x[low]
    slopes = (y[high] - y[low])[run > 0] / run[run > 0]
    slope = float(np.clip(np.median(slopes), 0.0, 1.0)) if len(slopes) else 0.0
    off = y - slope * x
    return np.asarray(off - np.median(off))


def _excess_over_similar(rows: Sequence[LatencyEntry]) -> FloatArray:
    """Residual of each row minus the median residual of similar blocks that were measured at other times."""
    residual = _log_residual(rows)
    shapes = np.log1p(
        [[r.macs, r.moved, r.kernel_size, r.expansion, r.in_channels, r.out_channels, r.height] for r in rows]
    )
    index = np.arange(len(rows))
    excess = np.empty(len(rows))
    for i in index:
        distance = np.abs(shapes - shapes[i]).sum(axis=1)
        distance[np.abs(index - i) < _HEAD] = np.inf
        nearest = np.argpartition(distance, _NEIGHBOURS)[:_NEIGHBOURS]
        excess[i] = residual[i] - np.median(residual[nearest])
    return excess
