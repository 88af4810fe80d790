"""Compare two latency tables block by block: ratios with intervals, and whether the median differs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from jmsnas.errors import TableError
from jmsnas.profiler.table.latency_table import KEY_FIELDS, BlockRow, LatencyTable, RuntimeKey
from jmsnas.space import Block

# Environment entries that must agree; the second line only where both tables are of the same processor.
_SET_UP = ("governor", "power_mode", "boost", "smt")
_SET_UP_OF_ONE_CPU = ("min_frequency_khz", "max_frequency_khz")
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BlockRatio:
    """Latency ratio of a block, second table over first; `disjoint` if their intervals do not overlap.

    The interval goes from the smallest to the largest ratio that the two 95 % intervals allow.
    """

    key: RuntimeKey
    block: Block
    ratio: float
    low: float
    high: float
    disjoint: bool


@dataclass(frozen=True, slots=True)
class TableComparison:
    """Comparison of two latency tables over the blocks they share.

    Attributes
    ----------
    ratios
        One for each block and key that both tables have.
    median_ratio
        Median of the ratios; above 1 the second table is slower.
    disjoint_share
        Fraction of blocks whose intervals do not overlap.
    level_ratio
        Median latency ratio of the reference block, second over first: the part of `median_ratio` that is due
        to the host's momentary speed rather than to single blocks.
    only_first, only_second
        Number of rows that only one table has.
    environment
        Entries in which the environments differ: name to (first, second).
    tolerance
        Accepted relative difference of `median_ratio` from 1, either way.
    """

    ratios: tuple[BlockRatio, ...]
    median_ratio: float
    disjoint_share: float
    level_ratio: float
    only_first: int
    only_second: int
    environment: dict[str, tuple[str, str]]
    tolerance: float

    @property
    def differ(self) -> bool:
        """Whether the median ratio or its inverse exceeds 1 + tolerance."""
        return max(self.median_ratio, 1 / self.median_ratio) > 1 + self.tolerance


def compare_tables(first: LatencyTable, second: LatencyTable, tolerance: float = 0.05) -> TableComparison:
    """Compare two tables block by block, under every key they share.

    Rows under a key that only one table has are counted, not compared. `tolerance` is the accepted relative
    difference of the median ratio from 1. Raises TableError when no key is common, one table is measured
    where the other is simulated, they share no block, or the hosts were set up differently (governor, power
    mode).
    """
    if not 0 < tolerance < 1:
        raise TableError(f"got tolerance {tolerance}: expected a fraction between 0 and 1, such as 0.05")
    common = [key for key in first.keys if key in second.keys]
    if not common:
        raise TableError(_no_common_key(first, second))
    left, right = ({(row.key, row.block): row for row in table.rows} for table in (first, second))
    pairs = [(left[index], right[index]) for index in left if index in right]
    if not pairs:
        raise TableError(
            f"the tables of {first.device} and {second.device} share no block under "
            f"{', '.join(key.label for key in common)}: profile both with the same --space"
        )
    _refuse_kinds(pairs, first.device, second.device)
    environment = _environment_changes(first, second, pairs)
    _refuse_set_ups(environment)
    ratios = tuple(_ratio(a, b) for a, b in pairs)
    return TableComparison(
        ratios=ratios,
        median_ratio=median(found.ratio for found in ratios),
        disjoint_share=sum(found.disjoint for found in ratios) / len(ratios),
        level_ratio=median(b.reference_s / a.reference_s for a, b in pairs),
        only_first=len(left) - len(pairs),
        only_second=len(right) - len(pairs),
        environment=environment,
        tolerance=tolerance,
    )


def _ratio(a: BlockRow, b: BlockRow) -> BlockRatio:
    disjoint = a.high_s < b.low_s or b.high_s < a.low_s
    return BlockRatio(
        a.key, a.block, b.median_s / a.median_s, b.low_s / a.high_s, b.high_s / a.low_s, disjoint
    )


def _no_common_key(first: LatencyTable, second: LatencyTable) -> str:
    differing = []
    for name in KEY_FIELDS:
        sides = [sorted({str(getattr(key, name)) for key in table.keys}) for table in (first, second)]
        if sides[0] != sides[1]:
            differing.append(f"{name} ({', '.join(sides[0])} against {', '.join(sides[1])})")
    have = " and ".join(", ".join(key.label for key in table.keys) or "none" for table in (first, second))
    return (
        f"the tables cannot be compared: no key is common, they have {have}; they differ in "
        f"{', '.join(differing) or 'the combination of these settings'}. "
        "Profile both with the same settings (--runtime, --threads)"
    )


def _refuse_kinds(pairs: Sequence[tuple[BlockRow, BlockRow]], first: str, second: str) -> None:
    mixed = [(a, b) for a, b in pairs if a.kind != b.kind]
    if mixed:
        a, b = mixed[0]
        raise TableError(
            f"the tables cannot be compared: {a.block} for {a.key.label} is {a.kind} in the first ({first}) "
            f"and {b.kind} in the second ({second}), as are {len(mixed)} of {len(pairs)} rows. Measure both: "
            "jmsnas profile --measured-only, on that machine"
        )


def _refuse_set_ups(environment: dict[str, tuple[str, str]]) -> None:
    names = _SET_UP if "cpu" in environment else (*_SET_UP, *_SET_UP_OF_ONE_CPU)
    differing = [(name, *environment[name]) for name in names if name in environment]
    known = [f"{name} {was} against {now}" for name, was, now in differing if _UNKNOWN not in (was, now)]
    if known:
        raise TableError(
            f"the tables cannot be compared: their hosts were set up differently ({', '.join(known)}). "
            "Set both up in the same way, then profile again"
        )


def _environment_changes(
    first: LatencyTable, second: LatencyTable, pairs: Sequence[tuple[BlockRow, BlockRow]]
) -> dict[str, tuple[str, str]]:
    sides = (
        _entries(first, {a.environment for a, _ in pairs}),
        _entries(second, {b.environment for _, b in pairs}),
    )
    changed = {}
    for entry in sorted(sides[0].keys() | sides[1].keys()):
        was, now = (" or ".join(sorted(side.get(entry, {_UNKNOWN}))) for side in sides)
        if was != now:
            changed[entry] = (was, now)
    return changed


def _entries(table: LatencyTable, environments: set[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for name in environments:
        for entry, value in table.environments.get(name, {}).items():
            found[entry].add(value)
    return found
