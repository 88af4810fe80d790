"""Fit, save and load latency estimators of published latency tables.

The folder has the files of `jmsnas.estimators.store.estimator`, but `table.parquet` holds the rows as they
were published, so that blocks outside our search spaces are there when it is fitted again.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jmsnas.errors import EstimatorError, SpaceError, TableError
from jmsnas.estimators.evaluation.evaluate import MIN_GEOMETRIES, Evaluation
from jmsnas.estimators.evaluation.hold_out import COVERAGE
from jmsnas.estimators.published.model_card import published_card
from jmsnas.estimators.published.table import PublishedRows, read_published
from jmsnas.estimators.regression.features import TrainingRows, features, group_ids
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store.estimator import Estimator, evaluate_and_fit
from jmsnas.estimators.store.fit_record import (
    FitRecord,
    make_fit_record,
    read_fit_record,
    read_json,
    write_fit_record,
)
from jmsnas.estimators.store.layout import EVALUATION, FIT_RECORD, TABLE, write_card
from jmsnas.files import write_atomic, write_json
from jmsnas.profiler.exchange import lut_csv
from jmsnas.profiler.exchange.imported_rows import IMPORTED_ENVIRONMENT, ImportTarget, imported_rows, mark_red
from jmsnas.profiler.quality.gate import check_quality
from jmsnas.profiler.quality.latency_entry import entries_of_table
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.schema import separate_parts
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Layer


def fit_published(
    rows: PublishedRows, folder: Path, seed: int = 0, progress: Progress = no_progress
) -> Estimator:
    """Fit U(.) to the rows of one setting, evaluate it on held-out geometries, and save it in `folder`.

    Raises EstimatorError when the rows have fewer than three layer geometries, or all have one latency;
    TableError when a row is invalid; StorageError when the folder cannot be written.
    """
    X, origin = features(rows.shapes), rows.origin
    geometries = len(set(group_ids(X)))
    if geometries < MIN_GEOMETRIES:
        raise EstimatorError(
            f"cannot fit U(.) of {origin}: got {len(X)} MBConvs and identities of {geometries} layer "
            f"geometries, expected {MIN_GEOMETRIES} geometries or more, since an estimator is evaluated on "
            "held-out geometries"
        )
    if not np.ptp(rows.measured_s):
        raise EstimatorError(
            f"cannot fit U(.) of {origin}: all {len(X)} rows have the same latency, expected measurements "
            "of different blocks"
        )
    evaluation, regressor = evaluate_and_fit(rows.shapes, TrainingRows(X, rows.measured_s), seed, progress)
    record = make_fit_record(origin.name, origin.key, False, regressor, _sha256(rows))
    margins = regressor.margins(COVERAGE).tolist()
    write_atomic(folder / TABLE, _parquet(rows))
    write_json(folder / EVALUATION, asdict(evaluation))
    write_card(folder, published_card(rows, record, evaluation, margins))
    write_fit_record(folder / FIT_RECORD, record)
    return _estimator(record, published_table(rows), regressor, evaluation)


def load_published(folder: Path) -> tuple[Estimator, PublishedRows]:
    """Load a saved estimator of a published table, and the rows that it was fitted to.

    Raises EstimatorError when it is missing, damaged, of another schema version, or its table is not the one
    it was fitted to.
    """
    again = "jmsnas fit-estimator --table FILE, with the table it came from"
    record = read_fit_record(folder / FIT_RECORD, again)
    evaluation = read_json(folder / EVALUATION, Evaluation, again)
    try:
        (rows,) = read_published(folder / TABLE)
        table = published_table(rows)
    except (TableError, ValueError) as error:
        raise EstimatorError(
            f"the estimator in {folder} has no valid table: {error}. Run: {again}"
        ) from error
    if _sha256(rows) != record.table_sha256:
        raise EstimatorError(f"{folder / TABLE} is not the table that was fitted. Run: {again}")
    X = features(rows.shapes)
    regressor = LatencyRegressor(record.seed).refit(X, rows.measured_s, record.choice)
    return _estimator(record, table, regressor, evaluation), rows


def _estimator(
    record: FitRecord, table: LatencyTable, regressor: LatencyRegressor, evaluation: Evaluation
) -> Estimator:
    trusted = {row.block: row for row in table.rows if row.trust != "red"}
    return Estimator(record.device, record.key, "published", regressor, trusted, evaluation)


def published_table(rows: PublishedRows) -> LatencyTable:
    """Convert the rows whose blocks our search spaces have to imported rows, red where the gate finds errors.

    Repeated blocks of different latencies become one red row of their mean. Raises TableError.
    """
    origin = rows.origin
    cells = dict(enumerate(lut_csv.to_csv_records(rows.records), 1))
    by_batch, _ = lut_csv.published_entries(cells, f"the table of {origin}")
    target = ImportTarget(origin.name, origin.key, f"published: {origin}", force=True)
    found, _ = imported_rows([entry for entries in by_batch.values() for entry in entries], target)
    blocks, _ = separate_parts(found)
    table = LatencyTable(origin.name, blocks, {IMPORTED_ENVIRONMENT: {"host": str(origin)}})
    errors = [
        entry for entry in check_quality(entries_of_table(table, origin.name)) if entry.severity == "error"
    ]
    return LatencyTable(origin.name, mark_red(blocks, errors, origin.name), table.environments)


def published_layers(rows: PublishedRows) -> tuple[Layer, ...]:
    """List the distinct layer geometries of the rows that are valid layers of our search spaces."""
    found: dict[Layer, None] = {}
    for shape in rows.shapes:
        with suppress(SpaceError):
            layer = Layer(shape.in_channels, shape.out_channels, shape.stride, shape.height, shape.width)
            found[layer] = None
    return tuple(found)


def _sha256(rows: PublishedRows) -> str:
    text = json.dumps([asdict(rows.origin), rows.records], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _parquet(rows: PublishedRows) -> bytes:
    sink = pa.BufferOutputStream()
    content = pa.Table.from_pylist([dict(record) for record in rows.records])
    pq.write_table(content, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())
