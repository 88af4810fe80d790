"""Fit estimators to latency tables of the workspace, to copied ones, and to published ones."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.lookup import cpu_rows_of_gpu
from jmsnas.estimators.published.estimator import fit_published
from jmsnas.estimators.published.table import PublishedRows, read_published
from jmsnas.estimators.store.estimator import Estimator, fit_estimator
from jmsnas.estimators.store.layout import is_published
from jmsnas.profiler.quality.gate import check_quality, suspicious_unit
from jmsnas.profiler.quality.latency_entry import LatencyEntry
from jmsnas.profiler.quality.read_published import read_entries
from jmsnas.profiler.quality.rules import copied
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import read_metadata, read_table
from jmsnas.progress import Progress, no_progress
from jmsnas.workspace import Workspace

# Errors of these rules mean that the table is not of this device; those of others concern single rows.
_REFUSED = ("units", "throughput", "copied")


@dataclass(frozen=True, slots=True)
class FittedEstimator:
    """A fitted estimator and its folder; `setting` is that of a published table, else empty."""

    folder: Path
    estimator: Estimator
    setting: str = ""


def fit_tables(
    workspace: Workspace,
    devices: Sequence[str] = (),
    tables: Sequence[Path] = (),
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = warnings.warn,
) -> list[FittedEstimator]:
    """Fit U(.) of every key of the given tables, or of all tables of the workspace.

    Raises EstimatorError when there is no table, or one cannot be fitted; TableError when one is damaged or
    of another format, or a published one fails the quality gate; StorageError when an estimator cannot be
    written.

    Parameters
    ----------
    devices
        Devices whose tables in the workspace are fitted.
    tables
        Table files: ours from another workspace, or published ones (docs/own_tables.md).
    force
        Fit to a published table even where the quality gate refuses it.
    warn
        Called with messages on rows left out of published tables and findings of the quality gate.
    """
    tables = tuple(dict.fromkeys(tables))
    published = [path for path in tables if path.exists() and not read_metadata(path, "jmsnas.schema")]
    settings = [rows for path in published for rows in _checked(path, workspace, force, warn)]
    own = [path for path in tables if path not in published]
    ours = _ours(workspace, devices, own) if own or devices or not tables else []
    faults = [fault for table in ours if (fault := cpu_rows_of_gpu(table.device, table))]
    keys = [(table, key) for table in ours for key in table.keys if not cpu_rows_of_gpu(table.device, table)]
    if faults and not (keys or settings):
        raise EstimatorError(faults[0])
    for fault in faults:
        warn(fault)
    found: list[FittedEstimator] = []

    def step(done: float, total: float, what: str) -> None:
        progress(len(found) + done / total, len(settings) + len(keys), what)

    for rows in settings:
        folder = workspace.estimator(rows.origin.name, rows.origin.key.label)
        if workspace.table(rows.origin.name).exists():
            warn(f"{rows.origin.name} has a table in the workspace, whose measurements are used instead")
        found.append(FittedEstimator(folder, fit_published(rows, folder, seed, step), str(rows.origin)))
    for table, key in keys:
        folder = workspace.estimator(table.device, key.label)
        if is_published(folder):
            warn(f"{table.device}: replaces the estimator of a published table, as it has its own table now")
        found.append(FittedEstimator(folder, fit_estimator(table, key, folder, seed, step)))
    return found


def _ours(workspace: Workspace, devices: Sequence[str], paths: Sequence[Path]) -> list[LatencyTable]:
    """Read the tables of given devices and files, or all tables of the workspace."""
    named = devices if devices or paths else workspace.tables
    if not (named or paths):
        raise EstimatorError(f"no tables in {workspace.folder / 'tables'}: run jmsnas profile --device local")
    for device in named:
        if not workspace.table(device).exists():
            raise EstimatorError(
                f"no table of {device} in {workspace.folder / 'tables'}: run jmsnas profile --device {device}"
            )
    return [read_table(path) for path in dict.fromkeys([*paths, *map(workspace.table, named)])]


def _checked(
    path: Path, workspace: Workspace, force: bool, warn: Callable[[str], None]
) -> tuple[PublishedRows, ...]:
    """Read a published table and check its quality; raises TableError where the gate refuses it."""
    settings, entries = read_published(path), read_entries(path)
    findings = (*check_quality(entries), *suspicious_unit(entries))
    refused = [entry for entry in findings if entry.severity == "error" and entry.rule in _REFUSED]
    if refused and not force:
        errors = "; ".join(dict.fromkeys(f"{entry.rule}: {entry.message}" for entry in refused))
        raise TableError(
            f"{path} does not pass the quality gate, nothing was fitted. {errors}. Correct it, or fit to it "
            "as it is: --force"
        )
    # A copy of the rows under another name in the workspace is a warning only.
    others = (entry for name in workspace.tables for entry in _entries(workspace.table(name)))
    copies = (entry for entry in copied([*entries, *others]) if str(path) in dict(entry.rows))
    for entry in dict.fromkeys((*findings, *copies)):
        warn(f"quality gate: {entry.rule}: {entry.message}")
    for rows in settings:
        if rows.left_out:
            warn(f"{rows.origin}: left out {rows.left_out_summary}")
    return settings


def _entries(path: Path) -> tuple[LatencyEntry, ...]:
    try:
        return read_entries(path)
    except TableError:  # reported where the table is used
        return ()
