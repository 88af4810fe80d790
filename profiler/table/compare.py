"""Two latency tables side by side: a ratio with an interval for each block, and one verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from jmsnas.errors import TableError
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey
from jmsnas.space import Block

_FIELDS = ("runtime", "threads", "batch", "dtype", "processor", "layout", "timer")
# How a host is set up, and what of it says nothing where the processors are two anyway.
_SET_UP = ("governor", "power_mode", "boost", "smt")
_SET_UP_OF_ONE_CPU = ("min_frequency_khz", "max_frequency_khz")
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BlockRatio:
    """Seconds of a block in the second table over the first's; `apart`: their intervals do not overlap.

    The interval goes from the least to the largest ratio that the two 95 % intervals allow.
    """

    key: RuntimeKey
    block: Block
    ratio: float
    low: float
    high: float
    disjoint: bool


@dataclass(frozen=True, slots=True)
class TableComparison:
    """What two tables say of the blocks they share.

    Attributes
    ----------
    ratios
        One for each block and key that both have.
    median_ratio
        Median of the ratios: above 1 the second table is slower.
    apart_share
        Share of blocks whose intervals do not overlap.
    level_ratio
        The reference block's own level, second over first (median): how much of `median_ratio` is the speed
        of the host at that moment and not of single blocks.
    only_first, only_second
        Number of rows without a partner.
    environment
        What changed of the hosts: name to (first, second).
    tolerance
        What `median_ratio` may differ from 1 by, either way.
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
    """Set two tables side by side, block by block, under every key they share.

    Parameters
    ----------
    first, second
        Tables, of one device or of two; rows under a key that only one has are counted, not compared.
    tolerance
        Above 0: by which share the median ratio may differ from 1.

    Raises
    ------
    TableError
        When no key is common, when one table measured what the other simulated, when they share no block,
        or when the hosts were set up differently (governor, power mode): such numbers do not compare.
    """
    if not 0 < tolerance < 1:
        raise TableError(f"got tolerance {tolerance}: expected a share between 0 and 1, such as 0.05")
    common = [key for key in first.keys if key in second.keys]
    if not common:
        raise TableError(_no_common_key(first, second))
    left, right = ({(row.key, row.block): row for row in table.rows} for table in (first, second))
    pairs = [(left[place], right[place]) for place in left if place in right]
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
    apart = a.high_s < b.low_s or b.high_s < a.low_s
    return BlockRatio(a.key, a.block, b.median_s / a.median_s, b.low_s / a.high_s, b.high_s / a.low_s, apart)


def _no_common_key(first: LatencyTable, second: LatencyTable) -> str:
    differing = []
    for name in _FIELDS:
        sides = [sorted({str(getattr(key, name)) for key in table.keys}) for table in (first, second)]
        if sides[0] != sides[1]:
            differing.append(f"{name} ({', '.join(sides[0])} against {', '.join(sides[1])})")
    have = " and ".join(", ".join(key.label for key in table.keys) or "none" for table in (first, second))
    return (
        f"the tables do not compare: no key is common, they have {have}; they differ in "
        f"{', '.join(differing) or 'how these go together'}. "
        "Profile both in the same way (--runtime, --threads)"
    )


def _refuse_kinds(pairs: Sequence[tuple[BlockRow, BlockRow]], first: str, second: str) -> None:
    mixed = [(a, b) for a, b in pairs if a.kind != b.kind]
    if mixed:
        a, b = mixed[0]
        raise TableError(
            f"the tables do not compare: {a.block} under {a.key.label} is {a.kind} in the first ({first}) "
            f"and {b.kind} in the second ({second}), as are {len(mixed)} of {len(pairs)} rows. Measure both: "
            "jmsnas profile --measured-only, on that machine"
        )


def _refuse_set_ups(environment: dict[str, tuple[str, str]]) -> None:
    names = _SET_UP if "cpu" in environment else (*_SET_UP, *_SET_UP_OF_ONE_CPU)
    differing = [(name, *environment[name]) for name in names if name in environment]
    known = [f"{name} {was} against {now}" for name, was, now in differing if _UNKNOWN not in (was, now)]
    if known:
        raise TableError(
            f"the tables do not compare: their hosts were set up differently ({', '.join(known)}). "
            "Set both alike, then profile again"
        )


def _environment_changes(
    first: LatencyTable, second: LatencyTable, pairs: Sequence[tuple[BlockRow, BlockRow]]
) -> dict[str, tuple[str, str]]:
    sides: list[dict[str, set[str]]] = [{}, {}]
    for side, table, rows in (
        (sides[0], first, [a for a, _ in pairs]),
        (sides[1], second, [b for _, b in pairs]),
    ):
        for name in dict.fromkeys(row.environment for row in rows):
            for what, value in table.environments.get(name, {}).items():
                side.setdefault(what, set()).add(value)
    changed = {}
    for what in sorted(sides[0].keys() | sides[1].keys()):
        was, now = (" or ".join(sorted(side.get(what, {_UNKNOWN}))) for side in sides)
        if was != now:
            changed[what] = (was, now)
    return changed
