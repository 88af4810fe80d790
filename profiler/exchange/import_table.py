"""Bring in a latency table that others measured: a look-up table in YAML or JSON, CSV, or published Parquet.

docs/own_tables.md describes the files.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jmsnas.errors import DeviceError, TableError
from jmsnas.profiler.exchange import lut_csv
from jmsnas.profiler.exchange.imported_rows import (
    IMPORTED_ENVIRONMENT,
    ImportedRows,
    ImportTarget,
    import_exported_row,
    imported_rows,
    mark_red,
)
from jmsnas.profiler.exchange.lut_csv import CsvRecord
from jmsnas.profiler.exchange.lut_keys import LutEntry, is_mobilenetv3_key, parse_key
from jmsnas.profiler.exchange.lut_yaml import read_lut
from jmsnas.profiler.quality.gate import check_quality
from jmsnas.profiler.quality.latency_entry import LatencyEntry, entries_of_table
from jmsnas.profiler.quality.read_published import read_published_records
from jmsnas.profiler.quality.rules import QualityFinding, copied
from jmsnas.profiler.quality.unit_check import suspicious_unit
from jmsnas.profiler.simulation.roofline import processor_of
from jmsnas.profiler.table.journal import journal_path, table_lock
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_metadata, read_table, write_table
from jmsnas.profiler.table.schema import separate_parts
from jmsnas.workspace import Workspace

# The largest table that is published has a few thousand entries of 150 bytes.
_MAX_BYTES = 8 << 20
_YAML = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What of a file of latencies is to become which table.

    Attributes
    ----------
    device
        What the table shall be named; not `local`, which is this host.
    stated
        Fields of the key (`runtime`, `threads` and so on) by name, where they are not what the file says, or
        the usual ones where it says nothing.
    only
        Part of the name of one device, processor, run time or campaign, where a published table has several.
    column
        Of a look-up table, which number of an entry is the latency.
    force
        Take what the quality gate finds an error in, and the mean of a block that stands twice; such rows
        are red.
    """

    device: str
    stated: Mapping[str, Any] = field(default_factory=dict)
    only: str | None = None
    column: str = "mean"
    force: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What came of an import.

    Attributes
    ----------
    table, path
        The table, and where it lies now.
    setting
        What the file says its rows were measured on; empty where it does not say.
    left_out
        Why entries of the file are in no row, and how many: no block here is one of them.
    findings
        What the quality gate says of the table.
    """

    table: LatencyTable
    path: Path
    setting: str
    left_out: Counter[str]
    findings: tuple[QualityFinding, ...]


def import_table(file: Path, wanted: ImportRequest, workspace: Workspace) -> ImportResult:
    """Read a file of latencies and write it as the table of a device, unless the quality gate finds an error.

    Raises
    ------
    DeviceError
        For a name that cannot be.
    TableError
        When the file cannot be read, does not pass the gate, or a measured table would be overwritten.
    MeasurementError
        When another process writes that table.
    StorageError
        When it cannot be written.
    """
    path, device = workspace.table(wanted.device), wanted.device
    if device == "local":
        raise DeviceError("local is this host, which is measured: give another name with --device")
    content = _content(file)
    digest = hashlib.sha256(content).hexdigest()
    source = f"imported: {file.name}, {digest[:12]}"
    usual = RuntimeKey(processor=processor_of(device))
    target = ImportTarget(device, replace(usual, **wanted.stated), source, wanted.force)
    setting, (rows, left_out) = _read(file, content, wanted, target)
    blocks, parts = separate_parts(rows)
    if not blocks:
        why = "; ".join(f"{count} x {why}" for why, count in left_out.items()) or "it has none"
        raise TableError(f"{file} has no block that JMSNAS knows ({why}): see docs/own_tables.md")
    environment = {"host": "imported", "file": file.name, "sha256": digest}
    table = LatencyTable(device, blocks, {IMPORTED_ENVIRONMENT: environment}, parts)
    readings = entries_of_table(table, str(file))
    beside = copied([*readings, *_others(workspace, device)])
    findings = (
        *check_quality(readings),
        *suspicious_unit(readings),
        *(entry for entry in beside if str(file) in dict(entry.rows)),
    )
    errors = [entry for entry in findings if entry.severity == "error"]
    if errors and not wanted.force:
        said = "; ".join(f"{entry.rule}: {entry.message}" for entry in errors)
        raise TableError(
            f"{file} does not pass the quality gate, nothing was written. {said}. Put it right, or take it "
            "as it is, those rows marked red: --force"
        )
    table = replace(table, rows=mark_red(table.rows, errors, str(file)))
    with table_lock(path):
        _refuse_measured(path, device)
        write_table(path, table)
    return ImportResult(table, path, setting, left_out, findings)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TableError(f"cannot read {file}: {error.strerror or error}") from error
    if len(content) > _MAX_BYTES:
        raise TableError(f"{file} is larger than {_MAX_BYTES} bytes: expected a latency table")
    return content


def _read(
    file: Path, content: bytes, wanted: ImportRequest, target: ImportTarget
) -> tuple[str, ImportedRows]:
    """Give what the file says of itself, and its rows."""
    name, ending = str(file), file.suffix.lower()
    if ending == ".parquet":
        if read_metadata(file, "jmsnas.schema"):
            raise TableError(
                f"{name} is a table of JMSNAS already: fit to it with jmsnas fit-estimator --table {name}"
            )
        published = read_published_records(file)
        if not published or "op" not in published[0]:
            what = "whole networks" if published else "no rows"
            raise TableError(f"{name} holds {what}, not blocks: expected rows with the column op")
        return _published(lut_csv.to_csv_records(published), name, wanted, target)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{name} is not a text in UTF-8: {error.reason} at byte {error.start}") from error
    if ending in _YAML:
        figures = read_lut(text, name, wanted.column)
        v3 = any(map(is_mobilenetv3_key, figures))
        return "", _rows(((parse_key(key, v3), figure) for key, figure in figures.items()), name, target)
    if ending != ".csv":
        raise TableError(f"{name} has no known ending: expected .csv, .parquet or {', '.join(_YAML)}")
    records = lut_csv.read_csv_records(text, name)
    if lut_csv.is_exported_table(records):
        return "", (
            [import_exported_row(row, name, target) for row in lut_csv.rows_of_export(records, name)],
            Counter(),
        )
    return _published(records, name, wanted, target)


def _published(
    records: Sequence[CsvRecord], name: str, wanted: ImportRequest, target: ImportTarget
) -> tuple[str, ImportedRows]:
    setting, chosen = lut_csv.select_setting(records, name, wanted.only)
    by_batch, left_out = lut_csv.published_entries(chosen, name)
    rows: list[AnyRow] = []
    for batch, entries in sorted(by_batch.items()):
        key = replace(setting.key, **wanted.stated, batch=batch)
        source = f"{target.source}; {setting}"
        found, alone = _rows(entries, name, replace(target, key=key, source=source))
        rows, left_out = rows + found, left_out + alone
    return str(setting), (rows, left_out)


def _rows(entries: Iterable[LutEntry], name: str, target: ImportTarget) -> ImportedRows:
    try:
        return imported_rows(tuple(entries), target)
    except TableError as error:
        raise TableError(f"{name}: {error}") from error


def _others(workspace: Workspace, device: str) -> list[LatencyEntry]:
    """Rows of the other devices here: one device's figures under another's name are found beside them."""
    found: list[LatencyEntry] = []
    for other in workspace.tables:
        if other != device:
            with suppress(TableError):  # one that cannot be read is told of where it is used
                found += entries_of_table(read_table(workspace.table(other)), str(workspace.table(other)))
    return found


def _refuse_measured(path: Path, device: str) -> None:
    measured = 0
    if path.exists():
        measured = sum(row.kind == "measured" for row in read_table(path).all_rows)
    if measured or journal_path(path).exists():
        what = f"{measured} measured rows" if measured else "what jmsnas profile has begun to measure"
        raise TableError(
            f"{path} holds {what}, which an import never replaces. Give another name than "
            f"--device {device}, or move that file away"
        )
