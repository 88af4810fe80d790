"""Read published latency tables as block shapes and seconds, for fitting estimators.

The columns are those of docs/own_tables.md. Only rows of MBConv blocks and identities with a latency above 0
are read: stems, heads and pooling layers have no similar rows in such tables.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import TableError
from jmsnas.estimators.published.shapes import published_shape
from jmsnas.estimators.regression.block_shape import BlockShape
from jmsnas.profiler.exchange.published_setting import PublishedSetting, published_setting
from jmsnas.profiler.quality.read_published import read_published_records

Record = Mapping[str, Any]
_OPS = ("mbconv", "identity")
# Thirty times the largest published table; a fit to more takes hours.
_MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class PublishedRows:
    """Blocks of a published table under one setting, with their latencies.

    Attributes
    ----------
    origin
        Device, processor and runtime that the blocks were measured on.
    records
        The rows of the file, in its order.
    shapes, measured_s
        Block shape and seconds of one call of each row, (rows,).
    left_out
        Number of other rows of the setting, by reason.
    """

    origin: PublishedSetting
    records: tuple[Record, ...]
    shapes: tuple[BlockShape, ...]
    measured_s: FloatArray
    left_out: Counter[str]

    @property
    def sources(self) -> tuple[str, ...]:
        """The distinct sources that the file gives."""
        return tuple(sorted({str(record["source"]) for record in self.records if record.get("source")}))

    @property
    def left_out_summary(self) -> str:
        """The rows left out, for printing: `2 x pool_fc (no MBConv), 1 x no latency above 0`."""
        return ", ".join(f"{count} x {reason}" for reason, count in self.left_out.items())


def read_published(path: Path) -> tuple[PublishedRows, ...]:
    """Read the blocks of a published table, one entry per setting.

    Raises TableError when the file cannot be read, is no latency table of blocks, or a row is invalid.
    """
    records = read_published_records(path)
    if not records or "op" not in records[0]:
        content = "latencies of whole models" if records else "no rows"
        raise TableError(
            f"{path} holds {content}, not blocks: expected rows with the columns of docs/own_tables.md"
        )
    if len(records) > _MAX_ROWS:
        raise TableError(f"{path} has {len(records)} rows: expected at most {_MAX_ROWS} blocks to fit to")
    settings: dict[PublishedSetting, list[tuple[int, Record]]] = {}
    for number, record in enumerate(records, 1):
        try:
            batch = int(record["batch"] or 1)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _invalid_row(path, number, error) from error
        settings.setdefault(published_setting(record, batch), []).append((number, record))
    return tuple(_rows(origin, found, path) for origin, found in settings.items())


def _rows(origin: PublishedSetting, numbered: Sequence[tuple[int, Record]], path: Path) -> PublishedRows:
    kept: list[tuple[int, Record]] = []
    left_out: Counter[str] = Counter()
    for number, record in numbered:
        if reason := _skip_reason(record):
            left_out[reason] += 1
        else:
            kept.append((number, record))
    # FBNet's blocks, the only ones with grouped 1x1 convolutions, expand even to the input's own width.
    always = any((record.get("pw_groups") or 1) != 1 for _, record in kept)
    shapes = []
    for number, record in kept:
        try:
            shapes.append(published_shape(record, always))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _invalid_row(path, number, error) from error
    records = tuple(record for _, record in kept)
    measured_s = np.array([_latency_s(record) for record in records])
    return PublishedRows(origin, records, tuple(shapes), measured_s, left_out)


def _skip_reason(record: Record) -> str:
    """Return why a row cannot be fitted to, empty where it can."""
    if record["op"] not in _OPS:
        return f"{record['op']} (no MBConv)"
    return "" if 0 < _latency_s(record) < math.inf else "no latency above 0"


def _latency_s(record: Record) -> float:
    try:
        return float(record["latency_ms"]) * 1e-3
    except (TypeError, ValueError):
        return math.nan


def _invalid_row(path: Path, number: int, error: Exception) -> TableError:
    return TableError(f"{path} row {number} is invalid: {error}. Expected the columns of docs/own_tables.md")
