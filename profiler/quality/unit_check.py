"""Is a whole table in another unit? Its own roofline cannot tell, but the fastest of its blocks can."""

from collections.abc import Iterator, Sequence

from jmsnas.profiler.quality.latency_entry import LatencyEntry
from jmsnas.profiler.quality.rules import QualityFinding, group_by, is_positive, make_finding

_FEWEST_ROWS = 12
# The best that a block of a table reaches: a microcontroller passes the one, no CPU the other. A table of a
# phone (some 2 GMAC/s) is outside both where it is read 1,000 times too slow or too fast.
_SLOWEST_MACS_PER_S, _FASTEST_MACS_PER_S = 1e7, 1e12
_GPU = ("gpu", "cuda", "nvidia", "tensorrt")


def suspicious_unit(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Warn of a table whose fastest block is slower than on any processor, or faster than on any CPU.

    For tables of others; the speed of a device that is known is held against its own figures
    (`gate_rules.throughput`).
    """
    for found in group_by((r for r in rows if is_positive(r) and r.macs > 0), lambda r: r.sweep).values():
        if len(found) < _FEWEST_ROWS:
            continue
        best = max(found, key=lambda r: r.macs / r.median_s)
        rate = best.macs / best.median_s
        words = f"{best.device} {best.setting}".lower()
        fast = rate > _FASTEST_MACS_PER_S * best.threads and not any(word in words for word in _GPU)
        if fast or rate < _SLOWEST_MACS_PER_S:
            than = "faster than any CPU" if fast else "slower than any processor"
            yield make_finding(
                "level",
                "warning",
                found,
                f"the fastest of {len(found)} rows of {best.device} runs at {rate / 1e9:.3g} GMAC/s, {than}: "
                f"is latency_ms in milliseconds? It is row {best.row}, {best.text}",
            )
