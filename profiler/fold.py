"""Bring journal and table together: one table of rows, on one level, written whole."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np

from jmsnas.errors import TableError
from jmsnas.files import storage_error
from jmsnas.profiler.environment import environment_name
from jmsnas.profiler.journal import journal_path, read_journal
from jmsnas.profiler.parquet import read_table, record_row, schema_of, write_table
from jmsnas.profiler.table import SCHEMA_VERSION, Key, LatencyTable, Row

Tell = Callable[[str], None]


def fold_journal(device: str, path: Path, tell: Tell) -> LatencyTable:
    """Put the journal of the table at `path` into that table, remove it, and return the table.

    The caller is the only writer. Measured rows take the place of all simulated ones. A table of another
    schema version is set aside under another name, and `tell` called.

    Raises
    ------
    TableError
        When the table or the journal is damaged, foreign or another device's.
    StorageError
        When the table cannot be written; it and the journal are as they were.
    """
    table = _existing(device, path, tell)
    waiting = journal_path(path)
    journal = read_journal(waiting)
    if journal.broken_line:
        tell(
            f"line {journal.broken_line} of {waiting} is damaged: the {journal.broken_line - 1} lines before "
            "it are kept, what came after is measured again"
        )
    environments = dict(table.environments)
    rows = []
    for record in journal.records:
        if "row" in record:
            rows.append(record_row(record["row"]))
        elif record.get("schema") == SCHEMA_VERSION and record.get("device") == device:
            environments[environment_name(record["environment"])] = record["environment"]
        else:
            raise TableError(
                f"{waiting} is of schema {record.get('schema')} and device {record.get('device')!r}: "
                f"expected schema {SCHEMA_VERSION} and {device!r}. Move it away, then run the same command"
            )
    if rows:
        # What was measured takes the place of all that was only simulated.
        kept = [row for row in table.rows if row.kind == "measured"]
        table = merged(device, [*kept, *rows], environments)
        write_table(path, table)
    try:
        waiting.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(waiting, error) from error
    return table


def _existing(device: str, path: Path, tell: Tell) -> LatencyTable:
    if not path.exists():
        return LatencyTable(device, (), {})
    schema = schema_of(path)
    if schema not in ("", str(SCHEMA_VERSION)):
        names = (path.with_name(f"{path.name}.schema{schema}-{n}") for n in count(1))
        aside = next(name for name in names if not name.exists())
        try:
            os.rename(path, aside)
        except OSError as error:
            raise storage_error(path, error) from error
        tell(
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


def merged(device: str, rows: Iterable[Row], environments: dict[str, dict[str, str]]) -> LatencyTable:
    """Make one table of rows, the later of two for the same block and key, measured ones on one level.

    A host's speed jumps while its ratios stand still, so seconds of rows that ended at different moments
    do not compare. Rows of one key and environment therefore share a level: the median of their
    `reference_s`.
    """
    latest = {(row.key, row.block): row for row in rows}
    groups: dict[tuple[Key, str], list[float]] = {}
    for row in latest.values():
        groups.setdefault((row.key, row.environment), []).append(row.reference_s)
    levels = {group: median(found) for group, found in groups.items()}
    ordered = [
        _at_level(row, levels[row.key, row.environment]) if row.kind == "measured" else row
        for _, row in sorted(latest.items(), key=lambda entry: entry[0])
    ]
    used = {row.environment for row in ordered}
    return LatencyTable(
        device, tuple(ordered), {name: values for name, values in environments.items() if name in used}
    )


def _at_level(row: Row, level_s: float) -> Row:
    return replace(
        row,
        median_s=row.ratio * level_s,
        low_s=row.ratio_low * level_s,
        high_s=row.ratio_high * level_s,
        min_s=min(row.samples) * level_s,
        p90_s=float(np.quantile(row.samples, 0.9)) * level_s,
    )
