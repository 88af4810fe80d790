"""Import a latency table of another tool: a look-up table in YAML or JSON, CSV, or published Parquet.

docs/own_tables.md describes the formats.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from jmsnas.errors import DeviceError, TableError
from jmsnas.files import read_bytes
from jmsnas.profiler.exchange import lut_csv
from jmsnas.profiler.exchange.imported_rows import (
    IMPORTED_ENVIRONMENT,
    OF_NO_RUN,
    ImportedRows,
    ImportTarget,
    import_exported_row,
    imported_rows,
    mark_red,
)
from jmsnas.profiler.exchange.lut_csv import CsvRecord
from jmsnas.profiler.exchange.lut_keys import LutEntry, is_mobilenetv3_key, parse_key
from jmsnas.profiler.exchange.lut_yaml import read_lut
from jmsnas.profiler.quality.gate import check_quality, suspicious_unit
from jmsnas.profiler.quality.latency_entry import LatencyEntry, entries_of_table
from jmsnas.profiler.quality.read_published import read_published_records
from jmsnas.profiler.quality.rules import QualityFinding, copied, make_finding
from jmsnas.profiler.simulation.roofline import (
    block_latency_s,
    load_simulated_device,
    processor_of,
    simulated_device_names,
)
from jmsnas.profiler.table.journal import journal_path, table_lock
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_metadata, read_table, write_table
from jmsnas.profiler.table.schema import separate_parts
from jmsnas.workspace import Workspace

# The largest published table has a few thousand entries of 150 bytes.
_MAX_BYTES = 8 << 20
# Tables of a built-in device differ less from its roofline, under any runtime; wrong units by 1,000.
_OFF_ROOFLINE = 100.0
_YAML = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Options of an import: target device, selection of rows, and overrides.

    Attributes
    ----------
    device
        Name of the new table; not `local`, which is this host.
    key_fields
        Fields of the runtime key (`runtime`, `threads` and so on) by name that override those of the file.
    only
        Part of the name of one device, processor, runtime or campaign, where a published table has several.
    column
        Name of the number in an entry of a look-up table that is the latency.
    force
        Accept rows with errors by the quality gate, and take the mean of duplicate blocks; such rows are red.
    """

    device: str
    key_fields: Mapping[str, Any] = field(default_factory=dict)
    only: str | None = None
    column: str = "mean"
    force: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """New table of an import, its file, and the findings of the quality gate.

    `setting` is the device and runtime named by the file, empty if it names none; `skipped` the number of
    entries of the file that are no block of JMSNAS, by reason.
    """

    table: LatencyTable
    path: Path
    setting: str
    skipped: Counter[str]
    findings: tuple[QualityFinding, ...]


def import_table(file: Path, request: ImportRequest, workspace: Workspace) -> ImportResult:
    """Import a latency table of another tool as the table of a device, unless the quality gate finds errors.

    Raises
    ------
    DeviceError
        For an invalid device name.
    TableError
        When the file cannot be read, fails the quality gate, or a measured table would be overwritten.
    MeasurementError
        When another process writes that table.
    StorageError
        When the table cannot be written.
    """
    path, device = workspace.table(request.device), request.device
    if device == "local":
        raise DeviceError("the device local is this host, which is measured: give another name with --device")
    content = read_bytes(file, _MAX_BYTES, TableError, "a latency table")
    digest = hashlib.sha256(content).hexdigest()
    source = f"imported: {file.name}, {digest[:12]}"
    default = RuntimeKey(processor=processor_of(device))
    target = ImportTarget(device, replace(default, **request.key_fields), source, request.force)
    setting, (rows, skipped) = _read(file, content, request, target)
    blocks, parts = separate_parts(rows)
    if not blocks:
        reasons = "; ".join(f"{count} x {why}" for why, count in skipped.items()) or "it has none"
        raise TableError(f"{file} has no block that JMSNAS supports ({reasons}): see docs/own_tables.md")
    environment = {"host": "imported", "file": file.name, "sha256": digest}
    table = LatencyTable(device, blocks, {IMPORTED_ENVIRONMENT: environment}, parts)
    readings = entries_of_table(table, str(file))
    copies = copied([*readings, *_others(workspace, device)])
    findings = (
        *check_quality(readings),
        *_of_no_run(table, readings),
        *(_off_roofline(table, readings) or suspicious_unit(readings)),
        *(entry for entry in copies if str(file) in dict(entry.rows)),
    )
    errors = [entry for entry in findings if entry.severity == "error"]
    if errors and not request.force:
        messages = "; ".join(f"{entry.rule}: {entry.message}" for entry in errors)
        raise TableError(
            f"{file} does not pass the quality gate, nothing was written. {messages}. Correct the file, or "
            "import it with those rows marked red: --force"
        )
    table = replace(table, rows=mark_red(table.rows, errors, str(file)))
    with table_lock(path):
        _refuse_measured(path, device)
        write_table(path, table)
    return ImportResult(table, path, setting, skipped, findings)


def _read(
    file: Path, content: bytes, request: ImportRequest, target: ImportTarget
) -> tuple[str, ImportedRows]:
    """Device and runtime named by the file, and its rows."""
    name, suffix = str(file), file.suffix.lower()
    if suffix == ".parquet":
        if read_metadata(file, "jmsnas.schema"):
            raise TableError(
                f"{name} is a table of JMSNAS already. Fit to it with jmsnas fit-estimator --table {name}"
            )
        published = read_published_records(file)
        if not published or "op" not in published[0]:
            subject = "whole models" if published else "no rows"
            raise TableError(f"{name} has {subject}, not blocks: expected rows with the column op")
        return _published(lut_csv.to_csv_records(published), name, request, target)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if suffix in _YAML:
        latencies = read_lut(text, name, request.column)
        v3 = any(map(is_mobilenetv3_key, latencies))
        return "", _rows(((parse_key(key, v3), latency) for key, latency in latencies.items()), name, target)
    if suffix != ".csv":
        raise TableError(f"{name} has an unknown suffix: expected .csv, .parquet or {', '.join(_YAML)}")
    records = lut_csv.read_csv_records(text, name)
    if "candidate" in records[0]:  # written by `jmsnas table export`
        exported = lut_csv.rows_of_export(records, name)
        return "", ([import_exported_row(row, name, target) for row in exported], Counter())
    return _published(records, name, request, target)


def _published(
    records: Sequence[CsvRecord], name: str, request: ImportRequest, target: ImportTarget
) -> tuple[str, ImportedRows]:
    setting, chosen = lut_csv.select_setting(records, name, request.only)
    by_batch, skipped = lut_csv.published_entries(chosen, name)
    rows: list[AnyRow] = []
    for batch, entries in sorted(by_batch.items()):
        key = replace(setting.key, **request.key_fields, batch=batch)
        source = f"{target.source}; {setting}"
        found, alone = _rows(entries, name, replace(target, key=key, source=source))
        rows, skipped = rows + found, skipped + alone
    return str(setting), (rows, skipped)


def _rows(entries: Iterable[LutEntry], name: str, target: ImportTarget) -> ImportedRows:
    try:
        return imported_rows(tuple(entries), target)
    except TableError as error:
        raise TableError(f"{name}: {error}") from error


def _of_no_run(table: LatencyTable, readings: Sequence[LatencyEntry]) -> list[QualityFinding]:
    """Find means of 0 runs, which were never measured or lost their number of runs."""
    count = sum(row.trust_reason == OF_NO_RUN for row in table.rows)
    message = (
        f"{count} of {len(table.rows)} rows are means of 0 runs, so not measured; they are marked red. "
        "Correct the number of runs, or leave it out where it is unknown"
    )
    return [make_finding("runs", "warning", readings, message)] if count else []


def _off_roofline(table: LatencyTable, readings: Sequence[LatencyEntry]) -> list[QualityFinding]:
    """Find a table of a built-in device that is far off its roofline, as in a wrong unit."""
    if table.device not in simulated_device_names():
        return []
    device = load_simulated_device(table.device)
    factor = median(row.median_s / block_latency_s(device, row.key.runtime, row.block) for row in table.rows)
    if 1 / _OFF_ROOFLINE < factor < _OFF_ROOFLINE:
        return []
    relation = f"{factor:.3g} times slower" if factor > 1 else f"{1 / factor:.3g} times faster"
    message = (
        f"the median row of {table.device} is {relation} than the roofline of its published figures; check "
        "that latencies are in milliseconds"
    )
    return [make_finding("level", "warning", readings, message)]


def _others(workspace: Workspace, device: str) -> list[LatencyEntry]:
    """Rows of the other devices of the workspace, to find copies of their latencies."""
    found: list[LatencyEntry] = []
    for other in workspace.tables:
        if other != device:
            with suppress(TableError):  # an unreadable table is reported where it is used
                found += entries_of_table(read_table(workspace.table(other)), str(workspace.table(other)))
    return found


def _refuse_measured(path: Path, device: str) -> None:
    measured = 0
    if path.exists():
        measured = sum(row.kind == "measured" for row in read_table(path).all_rows)
    if measured or journal_path(path).exists():
        content = f"{measured} measured rows" if measured else "an unfinished run of jmsnas profile"
        raise TableError(
            f"{path} has {content}, which an import never replaces. Give another name than "
            f"--device {device}, or move that file away"
        )
