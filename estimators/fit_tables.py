"""Fit U(.) to tables of every origin: those of the workspace, ours from elsewhere, and published ones."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import EstimatorError, TableError
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

# What these rules call an error cannot be a latency of the device; what others do is a few rows among many.
_REFUSED = ("units", "throughput", "copied")


@dataclass(frozen=True, slots=True)
class FittedEstimator:
    """An estimator and where it lies; `setting` is what a published table says ran its blocks, else empty."""

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
    """Fit U(.) of every key of the tables named, or of every table of the workspace when none is.

    Parameters
    ----------
    devices
        Names of devices whose tables lie in the workspace.
    tables
        Table files: ours from elsewhere, or published ones (docs/own_tables.md).
    force
        Fit to a published table that the quality gate refuses.
    tell
        Told what is left out of published tables, and what the quality gate says of them.

    Raises
    ------
    EstimatorError
        When there is no table, or one cannot be fitted.
    TableError
        When a table is damaged or foreign, or a published one does not pass the quality gate.
    StorageError
        When an estimator cannot be written.
    """
    tables = tuple(dict.fromkeys(tables))
    published = [path for path in tables if path.exists() and not read_metadata(path, "jmsnas.schema")]
    settings = [rows for path in published for rows in _checked(path, workspace, force, warn)]
    own = [path for path in tables if path not in published]
    ours = _ours(workspace, devices, own) if own or devices or not tables else []
    keys = [(table, key) for table in ours for key in table.keys]
    found: list[FittedEstimator] = []

    def step(done: float, total: float, what: str) -> None:
        progress(len(found) + done / total, len(settings) + len(keys), what)

    for rows in settings:
        folder = workspace.estimator(rows.origin.name, rows.origin.key.label)
        if workspace.table(rows.origin.name).exists():
            warn(f"{rows.origin.name} has a table of its own here: where it was measured, that speaks")
        found.append(FittedEstimator(folder, fit_published(rows, folder, seed, step), rows.setting))
    for table, key in keys:
        folder = workspace.estimator(table.device, key.label)
        if is_published(folder):
            warn(f"{table.device}: takes the place of a published table's U(.), as its own rows are here now")
        found.append(FittedEstimator(folder, fit_estimator(table, key, folder, seed, step)))
    return found


def _ours(workspace: Workspace, devices: Sequence[str], paths: Sequence[Path]) -> list[LatencyTable]:
    """Read tables of ours, by device and from elsewhere: where none is named, all of the workspace."""
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
    """Read a published table and say what speaks against it; raises TableError where that is too much."""
    settings, readings = read_published(path), read_entries(path)
    findings = (*check_quality(readings), *suspicious_unit(readings))
    refused = [entry for entry in findings if entry.severity == "error" and entry.rule in _REFUSED]
    if refused and not force:
        said = "; ".join(dict.fromkeys(f"{entry.rule}: {entry.message}" for entry in refused))
        raise TableError(
            f"{path} does not pass the quality gate, nothing was fitted. {said}. Put it right, or fit to it "
            "as it is: --force"
        )
    # The same figures here under a name that a person gave them are told of, and no more.
    others = (reading for name in workspace.tables for reading in _readings(workspace.table(name)))
    beside = (entry for entry in copied([*readings, *others]) if str(path) in dict(entry.rows))
    for entry in dict.fromkeys((*findings, *beside)):
        warn(f"quality gate: {entry.rule}: {entry.message}")
    for rows in settings:
        if rows.left_out:
            warn(f"{rows.setting}: left out {rows.left_out_summary}")
    return settings


def _readings(path: Path) -> tuple[LatencyEntry, ...]:
    try:
        return read_entries(path)
    except TableError:  # told of where the table is used
        return ()
