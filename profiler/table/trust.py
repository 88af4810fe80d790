"""Trust level of a measured row (green, yellow, red) with its reason, and its weight in a fit."""

from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.measurement import Z_95
from jmsnas.profiler.table.noise_floor import NoiseFloor

# Fraction of rounds: occasional interrupts affect a few, a process on the same core affects all.
MAX_INTERRUPTED = 0.2
_RED_CI, _YELLOW_CI = 0.10, 0.05
# The speed of a shared host jumps by half; beyond that the seconds are unreliable too.
_DRIFT = 0.6
# Minimum relative standard deviation by trust level, where rows are weighted.
_MIN_NOISE = {"green": 0.0, "yellow": 0.02, "red": 0.1}


def is_disturbed(row: AnyRow) -> bool:
    """Whether the host or another process disturbed the measurement of the row."""
    return bool(row.host_faults) or row.interrupted > MAX_INTERRUPTED


def rate_trust(row: AnyRow, floor: NoiseFloor | None) -> tuple[str, str]:
    """Rate a row with widened interval: (`green`, `yellow` or `red`, reason).

    `floor` is the noise floor of the row's key and environment, None where no row was measured twice.
    """
    if row.kind == "simulated":
        return "red", "simulated, not measured"
    reds = [fault for fault in row.host_faults if "throttles" in fault]
    if row.interrupted > MAX_INTERRUPTED:
        reds.append(f"another process held its core in {row.interrupted:.0%} of the rounds")
    if row.relative_ci > _RED_CI:
        reds.append(f"95 % interval of +-{row.relative_ci:.0%}")
    if reds:
        return "red", "; ".join(reds)
    yellows = list(row.host_faults)
    if row.drift > _DRIFT:
        yellows.append(f"the host's speed changed by {row.drift:.0%} meanwhile")
    if not row.converged:
        yellows.append(f"half width {row.half_width:.1%}, expected 1 %: give a longer --budget")
    if row.relative_ci > _YELLOW_CI:
        yellows.append(f"95 % interval of +-{row.relative_ci:.0%}, expected {_YELLOW_CI:.0%}")
    if floor is None:
        yellows.append("no block was measured in a second process")
    if yellows or floor is None:
        return "yellow", "; ".join(yellows)
    gap = f"{floor.median_gap:.1%} median difference between processes"
    return "green", f"95 % interval of +-{row.relative_ci:.1%}; {gap}"


def relative_noise(row: AnyRow) -> float:
    """Relative standard deviation of a row's seconds, for weighted fits; 0 where simulated.

    Computed from the widened interval, with a minimum that depends on the trust level.
    """
    if row.kind == "simulated":
        return 0.0
    return max(row.relative_ci / Z_95, _MIN_NOISE[row.trust])
