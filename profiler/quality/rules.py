"""Rules of the quality gate that set one latency beside another; each gives what it finds, with the numbers.

The rules and the defects behind them were all met in published block tables: negative entries, a table that
is another device's digit for digit, placeholder rows, one block measured twice far apart.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import TypeVar

from jmsnas.profiler.quality.latency_entry import LatencyEntry
from jmsnas.profiler.simulation.roofline import load_simulated_device, simulated_device_names
from jmsnas.units import format_duration

K = TypeVar("K", bound=Hashable)

SEVERITIES = ("error", "warning")
# What two honest measurements of one block may differ by where no interval is given.
_APART = 0.05
# Order is broken beyond doubt, not by a run time's better kernel for the larger block.
_BROKEN = 2.0
# A device file's rates are what large blocks reached: at least half the peak of the processor.
_PEAK_OVER_RATE = 2.0
# No thread of any processor, and no GPU at float32 or float16, comes near.
_ABSURD_THREAD_MACS_PER_S = 10e12
_ABSURD_GPU_MACS_PER_S = 1e15
# Rounded numbers meet by chance; whole tables do not.
_COPIED_BLOCKS, _COPIED_SHARE = 3, 0.05
_PLACEHOLDER_BLOCKS, _PLACEHOLDER_SPREAD = 3, 2.0


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """What a rule found in one table: `rows` are (file, row number from 1) of all rows concerned."""

    rule: str
    severity: str
    table: str
    rows: tuple[tuple[str, int], ...]
    message: str


def make_finding(rule: str, severity: str, rows: Iterable[LatencyEntry], message: str) -> QualityFinding:
    """Make a finding about rows; it is named for the table of the first."""
    places = tuple(dict.fromkeys((reading.table, reading.row) for reading in rows))
    return QualityFinding(rule, severity, places[0][0], places, message)


def group_by(rows: Iterable[LatencyEntry], key: Callable[[LatencyEntry], K]) -> dict[K, list[LatencyEntry]]:
    """Group rows by a key, in order of first appearance."""
    groups: dict[K, list[LatencyEntry]] = defaultdict(list)
    for reading in rows:
        groups[key(reading)].append(reading)
    return groups


def is_positive(reading: LatencyEntry) -> bool:
    """Whether the latency is a number above 0: only such rows are set beside others."""
    return math.isfinite(reading.median_s) and reading.median_s > 0


def _ms(reading: LatencyEntry) -> str:
    return format_duration(reading.median_s)


def positive(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Every latency is a finite number above 0."""
    for found in group_by((r for r in rows if not is_positive(r)), lambda r: r.table).values():
        first = found[0]
        yield make_finding(
            "positive",
            "error",
            found,
            f"{len(found)} rows are not a number above 0; the first is row {first.row}, {first.text}: "
            f"{first.median_s:g} s",
        )


def _clearly_faster(one: LatencyEntry, other: LatencyEntry) -> bool:
    if one.high_s is None or other.low_s is None:
        return one.median_s < other.median_s * (1 - _APART)
    return one.high_s < other.low_s


def _steps(rows: Sequence[LatencyEntry], what: str) -> Iterator[tuple[LatencyEntry, LatencyEntry]]:
    """Pairs (smaller, larger) of neighbours in one respect that are equal in all others."""
    size: Callable[[LatencyEntry], float] = {
        "kernel": lambda r: float(r.kernel_size),
        "expansion": lambda r: r.expansion,
        "resolution": lambda r: float(r.height * r.width),
    }[what]

    def rest(r: LatencyEntry) -> Hashable:
        kernel = 0 if what == "kernel" else r.kernel_size
        expansion = 0.0 if what == "expansion" else r.expansion
        shape = () if what == "resolution" else (r.height, r.width)
        # Squares only: 4x16 and 8x8 are of one size, and neither is larger.
        square = r.height == r.width or what != "resolution"
        channels = (r.in_channels, r.out_channels, r.stride)
        return (*r.sweep, r.op, kernel, expansion, r.shortcut, *channels, *shape, r.variant, square)

    for group in group_by(rows, rest).values():
        middles = []
        for _, equal in sorted(group_by(group, size).items()):
            equal.sort(key=lambda r: r.median_s)
            middles.append(equal[(len(equal) - 1) // 2])
        yield from pairwise(middles)


def monotone(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """A larger kernel, expansion or resolution, all else equal, is not faster beyond the intervals."""
    blocks = [r for r in rows if r.op == "mb" or r.op.startswith(("stem", "head"))]
    for what in ("kernel", "expansion", "resolution"):
        steps = list(_steps(blocks, what))
        of_table = Counter(smaller.table for smaller, _ in steps)
        wrong = [pair for pair in steps if _clearly_faster(pair[1], pair[0])]
        by_table: dict[tuple[str, str], list[tuple[LatencyEntry, LatencyEntry]]] = defaultdict(list)
        for smaller, larger in wrong:
            severity = "error" if smaller.median_s > _BROKEN * larger.median_s else "warning"
            by_table[smaller.table, severity].append((smaller, larger))
        for (table, severity), pairs in by_table.items():
            small, large = max(pairs, key=lambda pair: pair[0].median_s / pair[1].median_s)
            how = f"to less than 1/{_BROKEN:g}" if severity == "error" else "beyond the intervals"
            yield make_finding(
                f"monotone-{what}",
                severity,
                (r for pair in pairs for r in pair),
                f"a larger {what} is faster {how} in {len(pairs)} of {of_table[table]} pairs; at worst "
                f"{large.text} takes {_ms(large)} (row {large.row}), {small.text} {_ms(small)} "
                f"(row {small.row})",
            )


def identity_fastest(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Identity is faster than any MBConv of the same geometry."""
    places = group_by(
        (r for r in rows if r.op in ("mb", "identity")),
        lambda r: (*r.sweep, r.in_channels, r.out_channels, r.stride, r.height, r.width),
    )
    wrong: dict[str, list[tuple[LatencyEntry, LatencyEntry]]] = defaultdict(list)
    for group in places.values():
        others = [r for r in group if r.op == "mb"]
        for reading in group:
            slower = [r for r in others if reading.op == "identity" and _clearly_faster(r, reading)]
            if slower:
                wrong[reading.table].append((reading, min(slower, key=lambda r: r.median_s)))
    for pairs in wrong.values():
        identity, block = pairs[0]
        yield make_finding(
            "identity",
            "error",
            (r for pair in pairs for r in pair),
            f"identity is slower than an MBConv of its geometry at {len(pairs)} geometries; first "
            f"{identity.text} takes {_ms(identity)} (row {identity.row}), {block.text} {_ms(block)}",
        )


def _most_macs_per_s(reading: LatencyEntry) -> tuple[float, str]:
    if reading.device in simulated_device_names():
        runtimes = load_simulated_device(reading.device).runtimes.values()
        rates = [of_class.macs_per_s.value for costs in runtimes for of_class in costs.classes.values()]
        peak = _PEAK_OVER_RATE * max(rate for rate in rates if math.isfinite(rate))
        return peak * reading.threads, f"the peak of {reading.device}"
    words = f"{reading.device} {reading.setting}".lower()
    if any(word in words for word in ("gpu", "cuda", "nvidia", "tensorrt")):
        return _ABSURD_GPU_MACS_PER_S, "any GPU"
    return _ABSURD_THREAD_MACS_PER_S * reading.threads, f"any CPU with {reading.threads} thread(s)"


def throughput(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """No block runs faster than the device can multiply (a GPU timed without synchronising does)."""
    for found in group_by(rows, lambda r: (r.table, r.device, r.setting)).values():
        most, whose = _most_macs_per_s(found[0])
        wrong = [r for r in found if r.macs / r.median_s > most]
        if wrong:
            worst = max(wrong, key=lambda r: r.macs / r.median_s)
            yield make_finding(
                "throughput",
                "error",
                wrong,
                f"{len(wrong)} rows are above {most / 1e9:g} GMAC/s, more than {whose}; the fastest is row "
                f"{worst.row}, {worst.text}: {worst.macs / worst.median_s / 1e9:.4g} GMAC/s",
            )


def duplicate(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """A block that stands twice has one latency (within 5 %), in one campaign and in two."""
    twice = group_by(rows, lambda r: (r.table, r.device, r.setting, r.block))
    pairs: dict[str, list[tuple[LatencyEntry, LatencyEntry]]] = defaultdict(list)
    repeated: Counter[str] = Counter()
    for group in twice.values():
        least, most = (choose(group, key=lambda r: r.median_s) for choose in (min, max))
        repeated[group[0].table] += len(group) > 1
        if most.median_s > (1 + _APART) * least.median_s:
            pairs[least.table].append((least, most))
    for table, found in pairs.items():
        least, most = max(found, key=lambda pair: pair[1].median_s / pair[0].median_s)
        yield make_finding(
            "duplicate",
            "error",
            (r for pair in found for r in pair),
            f"{len(found)} of {repeated[table]} blocks measured more than once are over {_APART:.0%} apart; "
            f"at worst {least.text}: {_ms(least)} (row {least.row}) and {_ms(most)} (row {most.row}), "
            f"{most.median_s / least.median_s - 1:.0%} apart",
        )


def copied(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """No two devices have the same floats for the same blocks."""
    # Simulated devices share constants, as of the host that launches, and may well agree.
    devices = group_by((r for r in rows if not r.simulated), lambda r: (r.table, r.device))
    values = {name: group_by(found, lambda r: r.block) for name, found in devices.items()}
    for one, other in combinations(values, 2):
        if one[1] == other[1]:
            continue
        common = [block for block in values[one] if block in values[other]]
        same = []
        for block in common:
            pairs = product(values[one][block], values[other][block])
            same += [(a, b) for a, b in pairs if a.median_s == b.median_s][:1]
        if same and len(same) >= _COPIED_SHARE * len(common):
            sure = len(same) >= _COPIED_BLOCKS
            yield make_finding(
                "copied",
                "error" if sure else "warning",
                (r for pair in same for r in pair),
                f"{one[1]} and {other[1]} ({other[0]}) have identical latencies in {len(same)} of "
                f"{len(common)} common blocks: one is a copy; first {same[0][0].text}: {_ms(same[0][0])}",
            )


def placeholder(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """No float stands for many blocks of different work."""
    worked = [r for r in rows if r.macs > 0]
    for found in group_by(worked, lambda r: (*r.sweep, r.median_s)).values():
        macs = {r.macs for r in found}
        if len(macs) >= _PLACEHOLDER_BLOCKS and max(macs) >= _PLACEHOLDER_SPREAD * min(macs):
            yield make_finding(
                "placeholder",
                "error",
                found,
                f"{len(found)} different blocks, of {min(macs) / 1e6:.3g} to {max(macs) / 1e6:.3g} MMAC, all "
                f"have {_ms(found[0])}: placeholders; first row {found[0].row}, {found[0].text}",
            )
