"""Published latency tables as shapes and seconds: what an estimator is fitted to and judged on.

The columns are those of docs/own_tables.md. Rows of MBConv blocks and identities are read: a stem, a head or
a pooling layer has no like in such a table, and a row without a latency above 0 says nothing.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TableError
from jmsnas.estimators.published.shapes import published_shape
from jmsnas.estimators.regression.block_shape import BlockShape
from jmsnas.profiler.exchange.published_setting import PublishedSetting, published_setting
from jmsnas.profiler.quality.read_published import read_published_records

Record = Mapping[str, Any]
_OPS = ("mbconv", "identity")
# Thirty times the largest table that is published; a fit to more takes hours.
_MOST_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class PublishedRows:
    """Blocks of a published table under one setting, and what they took.

    Attributes
    ----------
    origin
        What ran them.
    records
        The rows as they stand in the file, in its order.
    shapes, measured_s
        The same as blocks, and seconds of one call (rows,).
    left_out
        Rows of the setting that are none of these, by reason.
    """

    origin: PublishedSetting
    records: tuple[Record, ...]
    shapes: tuple[BlockShape, ...]
    measured_s: NDArray[np.float64]
    left_out: Counter[str]

    @property
    def setting(self) -> str:
        """What ran them, in words."""
        return str(self.origin)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the figures come from, as the file says, each once."""
        return tuple(sorted({str(record["source"]) for record in self.records if record.get("source")}))

    @property
    def left_out_summary(self) -> str:
        """What is left out, in words: `2 x pool_fc (no MBConv), 1 x no latency above 0`."""
        return ", ".join(f"{count} x {why}" for why, count in self.left_out.items())


def read_published(path: Path) -> tuple[PublishedRows, ...]:
    """Read the blocks of a published table, one entry a setting.

    Raises
    ------
    TableError
        When the file cannot be read, is no latency table of blocks, or a row makes no sense.
    """
    records = read_published_records(path)
    if not records or "op" not in records[0]:
        what = "latencies of whole networks" if records else "no rows"
        raise TableError(
            f"{path} holds {what}, not blocks: expected rows with the columns of docs/own_tables.md"
        )
    if len(records) > _MOST_ROWS:
        raise TableError(f"{path} has {len(records)} rows: expected at most {_MOST_ROWS} blocks to fit to")
    settings: dict[PublishedSetting, list[tuple[int, Record]]] = {}
    for number, record in enumerate(records, 1):
        try:
            batch = int(record["batch"] or 1)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _no_sense(path, number, error) from error
        settings.setdefault(published_setting(record, batch), []).append((number, record))
    return tuple(_rows(origin, found, path) for origin, found in settings.items())


def _rows(origin: PublishedSetting, numbered: Sequence[tuple[int, Record]], path: Path) -> PublishedRows:
    kept: list[tuple[int, Record]] = []
    left_out: Counter[str] = Counter()
    for number, record in numbered:
        why = _why_not(record)
        if why:
            left_out[why] += 1
        else:
            kept.append((number, record))
    # FBNet's blocks, the only ones with grouped 1x1 convolutions, expand even where that widens nothing.
    always = any((record.get("pw_groups") or 1) != 1 for _, record in kept)
    shapes = []
    for number, record in kept:
        try:
            shapes.append(published_shape(record, always))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _no_sense(path, number, error) from error
    records = tuple(record for _, record in kept)
    measured_s = np.array([_latency_s(record) for record in records])
    return PublishedRows(origin, records, tuple(shapes), measured_s, left_out)


def _why_not(record: Record) -> str:
    """Why nothing is learned from a row, empty where something is."""
    if record["op"] not in _OPS:
        return f"{record['op']} (no MBConv)"
    return "" if 0 < _latency_s(record) < math.inf else "no latency above 0"


def _latency_s(record: Record) -> float:
    try:
        return float(record["latency_ms"]) * 1e-3
    except (TypeError, ValueError):
        return math.nan


def _no_sense(path: Path, number: int, error: Exception) -> TableError:
    return TableError(
        f"{path} row {number} makes no sense: {error}. Expected the columns of docs/own_tables.md"
    )
