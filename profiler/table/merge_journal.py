"""Bring journal and table together: one table of rows, on one level, judged, written whole."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np

from jmsnas.errors import TableError
from jmsnas.files import storage_error
from jmsnas.profiler.host.environment import environment_id
from jmsnas.profiler.table.journal import journal_path, read_journal
from jmsnas.profiler.table.latency_table import SCHEMA_VERSION, AnyRow, LatencyTable, R, RuntimeKey
from jmsnas.profiler.table.noise_floor import NoiseFloor, noise_floor, widened_interval
from jmsnas.profiler.table.parquet import read_metadata, read_table, write_table
from jmsnas.profiler.table.pool_rows import pool_rows
from jmsnas.profiler.table.schema import row_from_record, separate_parts
from jmsnas.profiler.table.trust import rate_trust
from jmsnas.space import BlockOrPart

Warn = Callable[[str], None]


def merge_journal(device: str, path: Path, warn: Warn) -> LatencyTable:
    """Put the journal of the table at `path` into that table, remove it, and return the table.

    The caller is the only writer. Measured rows take the place of all others; what several processes
    measured is pooled. A table of another schema version is set aside under another name, and `tell` called.

    Raises
    ------
    TableError
        When the table or the journal is damaged, foreign or another device's.
    StorageError
        When the table cannot be written; it and the journal are as they were.
    """
    table = _existing(device, path, warn)
    waiting = journal_path(path)
    journal = read_journal(waiting)
    if journal.broken_line:
        warn(
            f"line {journal.broken_line} of {waiting} is damaged: the {journal.broken_line - 1} lines before "
            "it are kept, what came after is measured again"
        )
    environments = dict(table.environments)
    latest: dict[tuple[str, RuntimeKey, BlockOrPart], AnyRow] = {}
    for record in journal.records:
        if "row" in record:
            row = row_from_record(record["row"])
            # A process hands a block out again when it knows it better: its last word counts.
            latest[str(record.get("process", "")), row.key, row.block] = row
        elif record.get("schema") == SCHEMA_VERSION and record.get("device") == device:
            environments[environment_id(record["environment"])] = record["environment"]
        else:
            raise TableError(
                f"{waiting} is of schema {record.get('schema')} and device {record.get('device')!r}: "
                f"expected schema {SCHEMA_VERSION} and {device!r}. Move it away, then run the same command"
            )
    # A process killed between writing the table and removing the journal leaves both.
    sha256 = hashlib.sha256(repr(journal.records).encode()).hexdigest()
    if latest and read_metadata(path, "jmsnas.journal_sha256") != sha256:
        # What was measured takes the place of all that was only simulated, or that others measured.
        kept = [row for row in table.all_rows if row.kind == "measured"]
        table = merge_rows(device, [*kept, *latest.values()], environments)
        write_table(path, table, sha256)
    try:
        waiting.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(waiting, error) from error
    return table


def _existing(device: str, path: Path, warn: Warn) -> LatencyTable:
    if not path.exists():
        return LatencyTable(device, (), {})
    schema = read_metadata(path, "jmsnas.schema")
    if schema not in ("", str(SCHEMA_VERSION)):
        names = (path.with_name(f"{path.name}.schema{schema}-{n}") for n in count(1))
        aside = next(name for name in names if not name.exists())
        try:
            os.rename(path, aside)
        except OSError as error:
            raise storage_error(path, error) from error
        warn(
            f"{path} has schema {schema}, this version writes {SCHEMA_VERSION}: it now lies at {aside.name}, "
            "and all is measured anew"
        )
        return LatencyTable(device, (), {})
    table = read_table(path)
    if table.device != device:
        raise TableError(
            f"{path} is a table of {table.device}: expected {device}. Move it away, then run the same command"
        )
    return table


def merge_rows(device: str, rows: Iterable[AnyRow], environments: dict[str, dict[str, str]]) -> LatencyTable:
    """Make one table of rows in the order of time: pooled, on one level, widened and judged.

    A host's speed jumps while its ratios stand still, so seconds of rows that ended at different moments
    do not compare. Measured rows of one key and environment therefore share a level: the median of their
    `reference_s`.
    """
    blocks, parts = separate_parts(rows)
    pool = LatencyTable(device, _pooled(blocks), environments, _pooled(parts))
    settings = pool.settings
    levels = {setting: median(row.reference_s for row in of) for setting, of in settings.items()}
    floors = {setting: noise_floor(of) for setting, of in settings.items()}

    def settled(row: R) -> R:
        if row.kind == "measured":
            row = _at_level(row, levels[row.key, row.environment], floors[row.key, row.environment])
        mark, reason = rate_trust(row, floors.get((row.key, row.environment)))
        return replace(row, trust=mark, trust_reason=reason)

    used = {row.environment for row in pool.all_rows}
    return LatencyTable(
        device,
        tuple(settled(row) for row in sorted(pool.rows, key=lambda row: (row.key, row.block))),
        {name: values for name, values in environments.items() if name in used},
        tuple(settled(row) for row in sorted(pool.parts, key=lambda row: (row.key, str(row.block)))),
    )


def _pooled(rows: Sequence[R]) -> tuple[R, ...]:
    found: dict[tuple[RuntimeKey, BlockOrPart], R] = {}
    for row in rows:
        before = found.get((row.key, row.block))
        found[row.key, row.block] = pool_rows(before, row) if before else row
    return tuple(found.values())


def _at_level(row: R, level_s: float, floor: NoiseFloor | None) -> R:
    low, high = widened_interval(row, floor)
    return replace(
        row,
        median_s=row.ratio * level_s,
        low_s=low * level_s,
        high_s=high * level_s,
        min_s=min(row.samples) * level_s,
        p90_s=float(np.quantile(row.samples, 0.9)) * level_s,
    )
