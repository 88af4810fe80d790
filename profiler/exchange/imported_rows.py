"""Rows of kind `imported` of a latency table, from latencies of another tool.

How they were measured is unknown: no row is green, and none is converged.
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
_UNKNOWN = "imported: how it was measured is unknown"
OF_NO_RUN = "imported: a mean of 0 runs"


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """Common fields of imported rows, and whether to average (`force`) or refuse duplicate blocks.

    `source` is the origin: the file, a digest of it, and the device it names.
    """

    device: str
    key: RuntimeKey
    source: str
    force: bool


# Rows, and the number of skipped entries by reason.
ImportedRows = tuple[list[AnyRow], Counter[str]]


def imported_rows(entries: Sequence[LutEntry], target: ImportTarget) -> ImportedRows:
    """Convert look-up table entries to rows, join the pieces of heads, and count the pieces left over.

    Raises TableError when a block occurs twice with different latencies and `target.force` is not set, or
    there are too many pieces of heads.
    """
    by_block: dict[Block | HeadPiece, list[MeanLatency]] = {}
    for blocks, latency in entries:
        for block in blocks:
            latencies = by_block.setdefault(block, [])
            if latency not in latencies:
                latencies.append(latency)
    duplicates = {block: latencies for block, latencies in by_block.items() if len(latencies) > 1}
    if duplicates and not target.force:
        raise TableError(_duplicates_message(duplicates))
    rows: list[AnyRow] = []
    pieces: dict[HeadPiece, MeanLatency] = {}
    for block, latencies in by_block.items():
        if isinstance(block, HeadPiece):
            pieces[block] = _mean(latencies)
        else:
            row = _imported_row(target, block, _mean(latencies))
            rows.append(
                _red(row, "occurs twice in the file, this is the mean") if len(latencies) > 1 else row
            )
    joined: set[Block | HeadPiece] = set()
    for chain, head, latency in join_heads(pieces):
        names = " + ".join(piece.layer_type for piece in chain)
        rows.append(_imported_row(replace(target, source=f"{target.source}; {names}"), head, latency))
        joined |= set(chain)
    alone = (of[0] for of, _ in entries if isinstance(of[0], HeadPiece) and of[0] not in joined)
    return rows, Counter(f"{piece.layer_type} alone" for piece in alone)


def _duplicates_message(duplicates: dict[Block | HeadPiece, list[MeanLatency]]) -> str:
    seconds = {block: [latency.mean_s for latency in of] for block, of in duplicates.items()}
    spread = {block: max(of) / min(of) - 1 for block, of in seconds.items()}
    worst = max(spread, key=lambda block: spread[block])
    both = f"{format_duration(min(seconds[worst]))} and {format_duration(max(seconds[worst]))}"
    count = f"{len(duplicates)} blocks occur" if len(duplicates) > 1 else "a block occurs"
    return (
        f"{count} twice with different latencies; worst: {worst}: {both}, {spread[worst]:.0%} more. Keep "
        "one of each, or import their mean with those rows marked red: --force"
    )


def _mean(latencies: Sequence[MeanLatency]) -> MeanLatency:
    """Mean of the latencies of one block, with an interval that contains all of them."""
    if len(latencies) == 1:
        return latencies[0]
    mean_s = fmean(latency.mean_s for latency in latencies)
    reach = (abs(latency.mean_s - mean_s) + (latency.half_s or 0.0) for latency in latencies)
    return MeanLatency(mean_s, max(reach), sum(latency.runs for latency in latencies))


def _imported_row(target: ImportTarget, block: Block, latency: MeanLatency) -> BlockRow:
    relative = (latency.half_s or 0.0) / latency.mean_s
    low_s, high_s = latency.mean_s / (1 + relative), latency.mean_s * (1 + relative)
    # There is no reference measurement: a reference of one second makes the ratio equal to the seconds.
    trust, reason = ("red", OF_NO_RUN) if latency.of_no_run else ("yellow", _UNKNOWN)
    return BlockRow(
        device=target.device, key=target.key, block=block, kind="imported",
        median_s=latency.mean_s, low_s=low_s, high_s=high_s,
        ratio=latency.mean_s, ratio_low=low_s, ratio_high=high_s, reference_s=1.0,
        min_s=latency.mean_s, p90_s=latency.mean_s, rounds=latency.runs, converged=False,
        environment=IMPORTED_ENVIRONMENT, measured_at="unknown", source=target.source,
        trust=trust, trust_reason=reason,
    )  # fmt: skip


def import_exported_row(row: AnyRow, name: str, target: ImportTarget) -> AnyRow:
    """Convert a row of an exported JMSNAS table to an imported row, which is never green.

    Raises TableError when it is simulated or of another device; `name` is the file's name in messages.
    """
    if row.kind == "simulated":
        raise TableError(
            f"{name} has simulated rows ({row.block}), which are no measurements of a device: export a "
            "measured table, or simulate here with jmsnas profile"
        )
    if row.device not in (target.device, "local"):
        raise TableError(f"{name} is a table of {row.device}, got --device {target.device}: give that name")
    measured = f"imported; rated {row.trust} where it was measured: {row.trust_reason}"
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
    """Set the trust level of rows with errors to red; findings number the rows of `table` from 1."""
    rules: dict[int, list[str]] = {}
    for entry in errors:
        for name, number in entry.rows:
            if name == table:
                rules.setdefault(number, []).append(entry.rule)
    return tuple(
        _red(row, f"fails the quality gate: {', '.join(rules[number])}") if number in rules else row
        for number, row in enumerate(rows, 1)
    )


def _red(row: BlockRow, why: str) -> BlockRow:
    return replace(row, trust="red", trust_reason=f"imported; {why}")
