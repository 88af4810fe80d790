"""Schema of a latency table, and conversion of rows to and from plain records (Parquet, journal, CSV)."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from jmsnas.errors import JmsnasError, TableError
from jmsnas.profiler.table.latency_table import KEY_FIELDS, AnyRow, BlockRow, PartRow, RuntimeKey
from jmsnas.space import Block, Candidate, Layer, Part

_CANDIDATE = ("op", "kernel_size", "expansion", "shortcut")
_LAYER = ("in_channels", "out_channels", "stride", "height", "width", "role", "hidden_channels")
_SECONDS = (
    "median_s",
    "low_s",
    "high_s",
    "ratio",
    "ratio_low",
    "ratio_high",
    "reference_s",
    "min_s",
    "p90_s",
    "drift",
    "interrupted",
)
_TEXTS = ("environment", "measured_at", "source", "trust", "trust_reason")
_PLAIN = ("kind", *_SECONDS, "rounds", "converged", *_TEXTS, "energy_j")
_LISTS = ("samples", "process_rounds", "host_faults", "stages", "stages_s")

_TYPES = {
    **dict.fromkeys(("device", "runtime"), pa.string()),
    **dict.fromkeys(("threads", "batch"), pa.int32()),
    **dict.fromkeys(("dtype", "processor", "layout", "timer", "candidate", "op"), pa.string()),
    **dict.fromkeys(("kernel_size", "expansion"), pa.int32()),
    "shortcut": pa.bool_(),
    **dict.fromkeys(
        ("in_channels", "out_channels", "hidden_channels", "stride", "height", "width"), pa.int32()
    ),
    **dict.fromkeys(("role", "kind"), pa.string()),
    **dict.fromkeys(_SECONDS, pa.float64()),
    "rounds": pa.int32(),
    "converged": pa.bool_(),
    **dict.fromkeys(_TEXTS, pa.string()),
    "energy_j": pa.float64(),
    "samples": pa.list_(pa.float64()),
    "process_rounds": pa.list_(pa.int32()),
    "host_faults": pa.list_(pa.string()),
    "part_blocks": pa.list_(pa.string()),
    "stages": pa.list_(pa.string()),
    "stages_s": pa.list_(pa.float64()),
}
_NULLABLE = ("energy_j",)
SCHEMA = pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind in _TYPES.items()])


def row_to_record(row: AnyRow) -> dict[str, Any]:
    """Convert a row to a record of plain numbers and strings, as in the Parquet file and in the journal."""
    if isinstance(row.block, Block):
        candidate, layer, blocks = row.block.candidate, row.block.layer, []
        columns = {"candidate": candidate.name, **{name: getattr(candidate, name) for name in _CANDIDATE}}
    else:
        # The geometry columns of a part are those of its first block; `part_blocks` lists all blocks.
        layer, blocks = row.block.blocks[0].layer, [str(block) for block in row.block.blocks]
        columns = {"candidate": "part", "op": "part", "kernel_size": 0, "expansion": 0, "shortcut": False}
    return {
        "device": row.device,
        **{name: getattr(row.key, name) for name in KEY_FIELDS},
        **columns,
        **{name: getattr(layer, name) for name in _LAYER},
        "part_blocks": blocks,
        **{name: getattr(row, name) for name in _PLAIN},
        **{name: list(getattr(row, name)) for name in _LISTS},
    }


def row_from_record(record: dict[str, Any], name: str = "a row") -> AnyRow:
    """Convert a record to a row, called `name` in messages.

    Raises TableError when a column is missing or the values are inconsistent.
    """
    try:
        key = RuntimeKey(*(record[column] for column in KEY_FIELDS))
        values: dict[str, Any] = {column: record[column] for column in _PLAIN}
        values |= {column: tuple(record[column]) for column in _LISTS}
        if record["op"] == "part":
            part = Part(tuple(Block.parse(text) for text in record["part_blocks"]))
            return PartRow(record["device"], key, part, **values)
        candidate = Candidate(*(record[column] for column in ("kernel_size", "expansion", "shortcut", "op")))
        if candidate.name != record["candidate"]:
            raise TableError(f"it is named {record['candidate']!r} but has the columns of {candidate.name!r}")
        layer = Layer(*(record[column] for column in _LAYER))
        return BlockRow(record["device"], key, Block(candidate, layer), **values)
    except KeyError as error:
        raise TableError(f"{name} lacks the column {error}") from error
    except (JmsnasError, TypeError, ValueError) as error:
        raise TableError(f"{name} is invalid: {error}") from error


def separate_parts(rows: Iterable[AnyRow]) -> tuple[tuple[BlockRow, ...], tuple[PartRow, ...]]:
    """Separate rows of blocks from rows of parts."""
    rows = tuple(rows)
    blocks = tuple(row for row in rows if isinstance(row, BlockRow))
    return blocks, tuple(row for row in rows if isinstance(row, PartRow))
