"""U(.) of a published table: fitted to every block in it, ours or not, and kept as any other is.

The folder holds the files of `estimators.store.estimator`; in it `table.parquet` are the rows as they were
published, so that blocks which are none of ours are still there when it is fitted again.
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
from jmsnas.estimators.evaluation.evaluate import MIN_GEOMETRIES, evaluate
from jmsnas.estimators.evaluation.evaluation_file import evaluation_from
from jmsnas.estimators.evaluation.hold_out import COVERAGE
from jmsnas.estimators.published.model_card import published_card
from jmsnas.estimators.published.table import PublishedRows, read_published
from jmsnas.estimators.regression.features import group_ids, shape_features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.estimators.store.fit_record import (
    make_fit_record,
    read_fit_record,
    read_json_object,
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
    """Fit U(.) to the rows of one setting, judge it on unseen geometries, and keep it in `folder`.

    Raises
    ------
    EstimatorError
        When the rows are of fewer than three layer geometries, or all have one latency.
    TableError
        When a row makes no sense.
    StorageError
        When the folder cannot be written.
    """
    X, origin = shape_features(rows.shapes), rows.origin
    geometries = len(set(group_ids(X))) if len(X) else 0
    if geometries < MIN_GEOMETRIES:
        raise EstimatorError(
            f"cannot fit U(.) of {origin}: got {len(X)} MBConvs and identities of {geometries} layer "
            f"geometries, expected {MIN_GEOMETRIES} geometries or more, since an estimator is judged on "
            "geometries it never saw"
        )
    if not np.ptp(rows.measured_s):
        raise EstimatorError(
            f"cannot fit U(.) of {origin}: all {len(X)} rows have the same latency, which is no measurement "
            "of different blocks"
        )
    evaluation = evaluate(
        rows.shapes, rows.measured_s, seed, lambda done, total, what: progress(done, total + 1, what)
    )
    fits = sum(judged.fits for judged in evaluation.splits)
    progress(fits, fits + 1, "fitting all rows")
    regressor = LatencyRegressor(seed).fit(X, rows.measured_s)
    recipe = make_fit_record(origin.name, origin.key, False, regressor, _sha256(rows))
    margins = regressor.margins(COVERAGE).tolist()
    write_atomic(folder / TABLE, _parquet(rows))
    write_json(folder / EVALUATION, asdict(evaluation))
    write_card(folder, published_card(rows, recipe, evaluation, margins))
    write_fit_record(folder / FIT_RECORD, recipe)
    table = published_table(rows)
    answers = {row.block: row for row in table.rows if row.trust != "red"}
    return Estimator(origin.name, origin.key, "published", regressor, answers, evaluation)


def load_published(folder: Path) -> tuple[Estimator, PublishedRows]:
    """Fit a stored estimator of a published table again, as it was; and give the rows it rests on.

    Raises
    ------
    EstimatorError
        When it is missing, damaged, of another schema version, or its table is not the one it was fitted to.
    """
    again = "jmsnas fit-estimator --table FILE, with the table it came from"
    recipe, document = (
        read_fit_record(folder / FIT_RECORD, again),
        read_json_object(folder / EVALUATION, again),
    )
    try:
        evaluation = evaluation_from(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EstimatorError(
            f"{folder / EVALUATION} has a field that is missing or wrong: {error}. Run: {again}"
        ) from error
    try:
        (rows,) = read_published(folder / TABLE)
        table = published_table(rows)
    except (TableError, ValueError) as error:
        raise EstimatorError(
            f"the estimator in {folder} has no sound table: {error}. Run: {again}"
        ) from error
    if _sha256(rows) != recipe.table_sha256:
        raise EstimatorError(f"{folder / TABLE} is not the table that was fitted. Run: {again}")
    X = shape_features(rows.shapes)
    regressor = LatencyRegressor(recipe.seed).refit(X, rows.measured_s, recipe.choice)
    answers = {row.block: row for row in table.rows if row.trust != "red"}
    return Estimator(recipe.device, recipe.key, "published", regressor, answers, evaluation), rows


def published_table(rows: PublishedRows) -> LatencyTable:
    """Give those rows that are blocks of ours as imported ones, red where something speaks against them.

    A block that stands twice with different latencies is their mean, and red. Raises TableError.
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
    """Give the layer geometries of the rows that a layer of ours can have."""
    found: dict[Layer, None] = {}
    for shape in rows.shapes:
        with suppress(SpaceError):
            found[Layer(shape.in_channels, shape.out_channels, shape.stride, shape.height, shape.width)] = (
                None
            )
    return tuple(found)


def _sha256(rows: PublishedRows) -> str:
    text = json.dumps([asdict(rows.origin), rows.records], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _parquet(rows: PublishedRows) -> bytes:
    sink = pa.BufferOutputStream()
    content = pa.Table.from_pylist([dict(record) for record in rows.records])
    pq.write_table(content, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())
