"""How far a row can be trusted, in a colour and in words: for people, and for fit-estimator to weigh by."""

from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.noise_floor import NoiseFloor

# Share of the rounds: an interrupt now and then hits a few, a process on the same core hits all.
MAX_INTERRUPTED = 0.2
_RED_DOUBT, _YELLOW_DOUBT = 0.10, 0.05
# A shared host jumps by half; beyond that not even the level in seconds is worth much.
_DRIFT = 0.6
# What a mark adds to a row's own interval where rows are weighed: a reason for doubt is worth a few percent.
_NOISE = {"green": 0.0, "yellow": 0.02, "red": 0.1}
# Half widths of 95 % intervals in standard deviations of a normal law.
_SDS_A_HALF_WIDTH = 1.96


def is_disturbed(row: AnyRow) -> bool:
    """Whether the host or another process was in the way while the row was measured."""
    return bool(row.host_faults) or row.interrupted > MAX_INTERRUPTED


def rate_trust(row: AnyRow, floor: NoiseFloor | None) -> tuple[str, str]:
    """Give (`green`, `yellow` or `red`, why) of a row whose interval is widened already.

    `floor` is the noise floor of the rows of its key and environment, None where nothing was measured twice.
    """
    if row.kind == "simulated":
        return "red", "simulated, not measured"
    reds = [fault for fault in row.host_faults if "throttles" in fault]
    if row.interrupted > MAX_INTERRUPTED:
        reds.append(f"something else held its core in {row.interrupted:.0%} of the rounds")
    if row.relative_ci > _RED_DOUBT:
        reds.append(f"known within {row.relative_ci:.0%} only")
    if reds:
        return "red", "; ".join(reds)
    yellows = list(row.host_faults)
    if row.drift > _DRIFT:
        yellows.append(f"the host's speed moved by {row.drift:.0%} meanwhile")
    if not row.converged:
        yellows.append(f"half width {row.half_width:.1%}, expected 1 %: give a longer --budget")
    if row.relative_ci > _YELLOW_DOUBT:
        yellows.append(f"known within {row.relative_ci:.0%}, expected {_YELLOW_DOUBT:.0%}")
    if floor is None:
        yellows.append("no block was measured in a second process")
    if yellows:
        return "yellow", "; ".join(yellows)
    assert floor is not None  # else it is yellow
    return "green", f"within {row.relative_ci:.1%}; another process finds blocks {floor.median_gap:.1%} apart"


def relative_noise(row: AnyRow) -> float:
    """Standard deviation of a row's seconds, as a share: what a fit weighs it by; 0 where simulated.

    From its widened interval, and no less than its mark stands for.
    """
    if row.kind == "simulated":
        return 0.0
    return max(row.relative_ci / _SDS_A_HALF_WIDTH, _NOISE[row.trust])
