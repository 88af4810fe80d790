"""Quality rules that compare latencies with each other; each yields findings with the figures.

All of these defects occur in published block tables: negative entries, a table that is an exact copy of
another device's, placeholder rows, one block measured twice with different results.
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
# Relative difference of two valid measurements of one block where no interval is given.
_TOLERANCE = 0.05
# Above this factor a violated order is an error, not a better kernel for the larger block.
_ORDER_ERROR = 2.0
# The rates of a device file are those of large blocks: at least half the peak of the processor.
_PEAK_OVER_RATE = 2.0
# Far above any thread of a processor, and any GPU at float32 or float16.
_IMPOSSIBLE_THREAD_MACS_PER_S = 10e12
_IMPOSSIBLE_GPU_MACS_PER_S = 1e15
# Single rounded numbers are equal by chance; whole tables are not.
_COPIED_BLOCKS, _COPIED_SHARE = 3, 0.05
_PLACEHOLDER_BLOCKS, _PLACEHOLDER_SPREAD = 3, 2.0


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """Defect found by a rule in one table: `rows` are (file, row number from 1) of all rows concerned."""

    rule: str
    severity: str
    table: str
    rows: tuple[tuple[str, int], ...]
    message: str


def make_finding(rule: str, severity: str, rows: Iterable[LatencyEntry], message: str) -> QualityFinding:
    """Make a finding about rows; its table is that of the first row."""
    numbered = tuple(dict.fromkeys((entry.table, entry.row) for entry in rows))
    return QualityFinding(rule, severity, numbered[0][0], numbered, message)


def group_by(rows: Iterable[LatencyEntry], key: Callable[[LatencyEntry], K]) -> dict[K, list[LatencyEntry]]:
    """Group rows by a key, in order of first appearance."""
    groups: dict[K, list[LatencyEntry]] = defaultdict(list)
    for entry in rows:
        groups[key(entry)].append(entry)
    return groups


def is_positive(entry: LatencyEntry) -> bool:
    """Whether the latency is a finite number above 0."""
    return math.isfinite(entry.median_s) and entry.median_s > 0


def runs_on_gpu(entry: LatencyEntry) -> bool:
    """Whether device or setting name a GPU."""
    text = f"{entry.device} {entry.setting}".lower()
    return any(name in text for name in ("gpu", "cuda", "nvidia", "tensorrt"))


def _ms(entry: LatencyEntry) -> str:
    return format_duration(entry.median_s)


def positive(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find latencies that are not finite numbers above 0."""
    for found in group_by((r for r in rows if not is_positive(r)), lambda r: r.table).values():
        first = found[0]
        yield make_finding(
            "positive",
            "error",
            found,
            f"{len(found)} rows are not a number above 0; the first is row {first.row}, {first.label}: "
            f"{first.median_s:g} s",
        )


def _clearly_faster(one: LatencyEntry, other: LatencyEntry) -> bool:
    if one.high_s is None or other.low_s is None:
        return one.median_s < other.median_s * (1 - _TOLERANCE)
    return one.high_s < other.low_s


def _steps(rows: Sequence[LatencyEntry], dimension: str) -> Iterator[tuple[LatencyEntry, LatencyEntry]]:
    """Pairs (smaller, larger) of neighbouring blocks in one dimension that are equal in all others."""
    size: Callable[[LatencyEntry], float] = {
        "kernel": lambda r: float(r.kernel_size),
        "expansion": lambda r: r.expansion,
        "resolution": lambda r: float(r.height * r.width),
    }[dimension]

    def rest(r: LatencyEntry) -> Hashable:
        kernel = 0 if dimension == "kernel" else r.kernel_size
        expansion = 0.0 if dimension == "expansion" else r.expansion
        shape = () if dimension == "resolution" else (r.height, r.width)
        # Squares only: 4x16 and 8x8 have the same size.
        square = r.height == r.width or dimension != "resolution"
        channels = (r.in_channels, r.out_channels, r.stride)
        return (*r.group, r.op, kernel, expansion, r.shortcut, *channels, *shape, r.variant, square)

    for group in group_by(rows, rest).values():
        middles = []
        for _, equal in sorted(group_by(group, size).items()):
            equal.sort(key=lambda r: r.median_s)
            middles.append(equal[(len(equal) - 1) // 2])
        yield from pairwise(middles)


def monotone(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find larger kernels, expansions or resolutions that are faster beyond the intervals."""
    blocks = [r for r in rows if r.op == "mb" or r.op.startswith(("stem", "head"))]
    for dimension in ("kernel", "expansion", "resolution"):
        steps = list(_steps(blocks, dimension))
        pair_counts = Counter(smaller.table for smaller, _ in steps)
        wrong = [pair for pair in steps if _clearly_faster(pair[1], pair[0])]
        by_table: dict[tuple[str, str], list[tuple[LatencyEntry, LatencyEntry]]] = defaultdict(list)
        for smaller, larger in wrong:
            severity = "error" if smaller.median_s > _ORDER_ERROR * larger.median_s else "warning"
            by_table[smaller.table, severity].append((smaller, larger))
        for (table, severity), pairs in by_table.items():
            small, large = max(pairs, key=lambda pair: pair[0].median_s / pair[1].median_s)
            extent = f"to less than 1/{_ORDER_ERROR:g}" if severity == "error" else "beyond the intervals"
            yield make_finding(
                f"monotone-{dimension}",
                severity,
                (r for pair in pairs for r in pair),
                f"a larger {dimension} is faster {extent} in {len(pairs)} of {pair_counts[table]} pairs; "
                f"worst: {large.label} takes {_ms(large)} (row {large.row}), {small.label} {_ms(small)} "
                f"(row {small.row})",
            )


def identity_fastest(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find identities that are slower than an MBConv of the same geometry."""
    geometries = group_by(
        (r for r in rows if r.op in ("mb", "identity")),
        lambda r: (*r.group, r.in_channels, r.out_channels, r.stride, r.height, r.width),
    )
    wrong: dict[str, list[tuple[LatencyEntry, LatencyEntry]]] = defaultdict(list)
    for group in geometries.values():
        others = [r for r in group if r.op == "mb"]
        for entry in group:
            slower = [r for r in others if entry.op == "identity" and _clearly_faster(r, entry)]
            if slower:
                wrong[entry.table].append((entry, min(slower, key=lambda r: r.median_s)))
    for pairs in wrong.values():
        identity, block = pairs[0]
        yield make_finding(
            "identity",
            "error",
            (r for pair in pairs for r in pair),
            f"identity is slower than an MBConv of its geometry at {len(pairs)} geometries; first "
            f"{identity.label} takes {_ms(identity)} (row {identity.row}), {block.label} {_ms(block)}",
        )


def _max_macs_per_s(entry: LatencyEntry) -> tuple[float, str]:
    if entry.device in simulated_device_names():
        runtimes = load_simulated_device(entry.device).runtimes.values()
        rates = [c.macs_per_s.value for costs in runtimes for c in (costs.pointwise, costs.depthwise)]
        return _PEAK_OVER_RATE * max(rates) * entry.threads, f"the peak of {entry.device}"
    if runs_on_gpu(entry):
        return _IMPOSSIBLE_GPU_MACS_PER_S, "any GPU"
    return _IMPOSSIBLE_THREAD_MACS_PER_S * entry.threads, f"any CPU with {entry.threads} thread(s)"


def throughput(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find blocks above the peak throughput of the device (as of a GPU timed without synchronisation)."""
    for found in group_by(rows, lambda r: (r.table, r.device, r.setting)).values():
        limit, owner = _max_macs_per_s(found[0])
        wrong = [r for r in found if r.macs / r.median_s > limit]
        if wrong:
            worst = max(wrong, key=lambda r: r.macs / r.median_s)
            yield make_finding(
                "throughput",
                "error",
                wrong,
                f"{len(wrong)} rows are above {limit / 1e9:g} GMAC/s, more than {owner}; the fastest is row "
                f"{worst.row}, {worst.label}: {worst.macs / worst.median_s / 1e9:.4g} GMAC/s",
            )


def duplicate(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find blocks measured more than once, in one campaign or several, that differ by more than 5 %."""
    repeats = group_by(rows, lambda r: (r.table, r.device, r.setting, r.block))
    pairs: dict[str, list[tuple[LatencyEntry, LatencyEntry]]] = defaultdict(list)
    repeated: Counter[str] = Counter()
    for group in repeats.values():
        least, most = (choose(group, key=lambda r: r.median_s) for choose in (min, max))
        repeated[group[0].table] += len(group) > 1
        if most.median_s > (1 + _TOLERANCE) * least.median_s:
            pairs[least.table].append((least, most))
    for table, found in pairs.items():
        least, most = max(found, key=lambda pair: pair[1].median_s / pair[0].median_s)
        yield make_finding(
            "duplicate",
            "error",
            (r for pair in found for r in pair),
            f"{len(found)} of {repeated[table]} blocks measured more than once differ by over "
            f"{_TOLERANCE:.0%}; worst: {least.label}: {_ms(least)} (row {least.row}) and "
            f"{_ms(most)} (row {most.row}), {most.median_s / least.median_s - 1:.0%} more",
        )


def copied(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find pairs of devices with identical floats for the same blocks."""
    # Simulated devices share constants, such as those of the launching host, and may agree.
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
            certain = len(same) >= _COPIED_BLOCKS
            yield make_finding(
                "copied",
                "error" if certain else "warning",
                (r for pair in same for r in pair),
                f"{one[1]} and {other[1]} ({other[0]}) have identical latencies in {len(same)} of "
                f"{len(common)} common blocks: one is a copy; first {same[0][0].label}: {_ms(same[0][0])}",
            )


def placeholder(rows: Sequence[LatencyEntry]) -> Iterator[QualityFinding]:
    """Find one float used as the latency of several blocks with different work."""
    worked = [r for r in rows if r.macs > 0]
    for found in group_by(worked, lambda r: (*r.group, r.median_s)).values():
        macs = {r.macs for r in found}
        if len(macs) >= _PLACEHOLDER_BLOCKS and max(macs) >= _PLACEHOLDER_SPREAD * min(macs):
            yield make_finding(
                "placeholder",
                "error",
                found,
                f"{len(found)} different blocks, of {min(macs) / 1e6:.3g} to {max(macs) / 1e6:.3g} MMAC, all "
                f"have {_ms(found[0])}: placeholders; first row {found[0].row}, {found[0].label}",
            )
