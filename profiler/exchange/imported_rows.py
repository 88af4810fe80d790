"""What others say of blocks, as rows of a kind of their own: `imported`.

They are not simulated, but nothing is known of how they were measured: no row is green, and none converged.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from jmsnas.errors import TableError
from jmsnas.profiler.exchange.lut_keys import HeadPiece, LutEntry, MeanLatency, join_heads
from jmsnas.profiler.quality.rules import QualityFinding
from jmsnas.profiler.table.latency_table import AnyRow, BlockRow, RuntimeKey
from jmsnas.space import Block
from jmsnas.units import format_duration

IMPORTED_ENVIRONMENT = "imported"
_UNKNOWN = "imported: nothing is known of how it was measured"


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """What imported rows stand under.

    Attributes
    ----------
    device, key
        Whose they are, and how the blocks are said to have been run.
    source
        Where they come from: the file, a digest of it, and what it says of itself.
    force
        Whether a block with two latencies is taken, as their mean; else it is refused.
    """

    device: str
    key: RuntimeKey
    source: str
    force: bool


# Rows, and why entries of a file are in none.
ImportedRows = tuple[list[AnyRow], Counter[str]]


def imported_rows(entries: Sequence[LutEntry], target: ImportTarget) -> ImportedRows:
    """Make rows of blocks, put heads together of their pieces, and count the pieces that stand in none.

    Raises
    ------
    TableError
        When a block stands twice with different latencies and `target.force` is not set, or there are more
        pieces of heads than a table has.
    """
    by_meaning: dict[Block | HeadPiece, list[MeanLatency]] = {}
    for meanings, figure in entries:
        for meaning in meanings:
            told = by_meaning.setdefault(meaning, [])
            if figure not in told:
                told.append(figure)
    twice = {meaning: told for meaning, told in by_meaning.items() if len(told) > 1}
    if twice and not target.force:
        raise TableError(_said_twice(twice))
    rows: list[AnyRow] = []
    pieces: dict[HeadPiece, MeanLatency] = {}
    for meaning, told in by_meaning.items():
        if isinstance(meaning, HeadPiece):
            pieces[meaning] = _mean(told)
        else:
            row = _row(target, meaning, _mean(told))
            rows.append(_red(row, "stands twice in the file, this is the mean") if len(told) > 1 else row)
    joined: set[Block | HeadPiece] = set()
    for chain, head, figure in join_heads(pieces):
        words = " + ".join(piece.word for piece in chain)
        rows.append(_row(replace(target, source=f"{target.source}; {words}"), head, figure))
        joined |= set(chain)
    alone = (of[0] for of, _ in entries if isinstance(of[0], HeadPiece) and of[0] not in joined)
    return rows, Counter(f"{piece.word} alone" for piece in alone)


def _said_twice(twice: dict[Block | HeadPiece, list[MeanLatency]]) -> str:
    apart = {each: _most_s(told) / _least_s(told) - 1 for each, told in twice.items()}
    worst = max(apart, key=lambda each: apart[each])
    both = f"{format_duration(_least_s(twice[worst]))} and {format_duration(_most_s(twice[worst]))}"
    count = f"{len(twice)} blocks stand" if len(twice) > 1 else "a block stands"
    return (
        f"{count} twice with different latencies; at worst {worst}: {both}, {apart[worst]:.0%} apart. Keep "
        "one of each, or take their mean, those rows marked red: --force"
    )


def _least_s(told: Sequence[MeanLatency]) -> float:
    return min(figure.mean_s for figure in told)


def _most_s(told: Sequence[MeanLatency]) -> float:
    return max(figure.mean_s for figure in told)


def _mean(told: Sequence[MeanLatency]) -> MeanLatency:
    """Take the mean of what is said of one block, wide enough to hold each."""
    if len(told) == 1:
        return told[0]
    mean_s = fmean(figure.mean_s for figure in told)
    reach = (abs(figure.mean_s - mean_s) + (figure.half_s or 0.0) for figure in told)
    return MeanLatency(mean_s, max(reach), sum(figure.runs for figure in told))


def _row(target: ImportTarget, block: Block, figure: MeanLatency) -> BlockRow:
    share = (figure.half_s or 0.0) / figure.mean_s
    low_s, high_s = figure.mean_s / (1 + share), figure.mean_s * (1 + share)
    # Nothing was measured beside it: the reference stands for one second, so that a ratio is its seconds.
    return BlockRow(
        device=target.device, key=target.key, block=block, kind="imported",
        median_s=figure.mean_s, low_s=low_s, high_s=high_s,
        ratio=figure.mean_s, ratio_low=low_s, ratio_high=high_s, reference_s=1.0,
        min_s=figure.mean_s, p90_s=figure.mean_s, rounds=figure.runs, converged=False,
        environment=IMPORTED_ENVIRONMENT, measured_at="unknown", source=target.source,
        trust="yellow", trust_reason=_UNKNOWN,
    )  # fmt: skip


def import_exported_row(row: AnyRow, name: str, target: ImportTarget) -> AnyRow:
    """Make a row of our own export an imported one: it is as good as it says, and never green.

    Raises
    ------
    TableError
        When it is simulated, or another device's; `name` is what messages call the file.
    """
    if row.kind == "simulated":
        raise TableError(
            f"{name} holds simulated rows ({row.block}), which are no latencies of a device: export a "
            "measured table, or simulate here with jmsnas profile"
        )
    if row.device not in (target.device, "local"):
        raise TableError(f"{name} is a table of {row.device}, got --device {target.device}: give that name")
    measured = f"imported; where it was measured {row.trust}: {row.trust_reason}"
    return replace(
        row,
        device=target.device,
        kind="imported",
        environment=IMPORTED_ENVIRONMENT,
        source=f"{target.source}; {row.source}",
        samples=(),
        process_rounds=(),
        trust="red" if row.trust == "red" else "yellow",
        trust_reason=row.trust_reason if row.kind == "imported" else measured,
    )


def mark_red(rows: Sequence[BlockRow], errors: Sequence[QualityFinding], table: str) -> tuple[BlockRow, ...]:
    """Mark the rows red that errors are about; a finding numbers the rows of `table` from 1."""
    rules: dict[int, list[str]] = {}
    for entry in errors:
        for name, number in entry.rows:
            if name == table:
                rules.setdefault(number, []).append(entry.rule)
    return tuple(
        _red(row, f"against the quality gate: {', '.join(rules[number])}") if number in rules else row
        for number, row in enumerate(rows, 1)
    )


def _red(row: BlockRow, why: str) -> BlockRow:
    return replace(row, trust="red", trust_reason=f"imported; {why}")
