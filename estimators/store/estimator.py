"""Latency estimator U(.) of a device: fit, save, load and predict.

Loading fits the stored rows again with the recorded model choice: nothing is unpickled, and estimators do
not depend on library versions. The fit record is written last: a folder without one, or whose table has
another digest, is refused with the command that makes it anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.evaluation.evaluate import Evaluation, evaluate
from jmsnas.estimators.evaluation.hold_out import COVERAGE
from jmsnas.estimators.regression.block_shape import BlockShape
from jmsnas.estimators.regression.conformal import LEVELS
from jmsnas.estimators.regression.features import TrainingRows, features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store.fit_record import (
    FitRecord,
    make_fit_record,
    read_fit_record,
    read_json,
    table_sha256,
    write_fit_record,
)
from jmsnas.estimators.store.layout import EVALUATION, FIT_RECORD, TABLE, write_card
from jmsnas.estimators.store.model_card import model_card
from jmsnas.files import write_json
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.profiler.table.trust import relative_noise
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block


@dataclass(frozen=True, slots=True)
class Estimator:
    """Latency estimator U(.) of a device under one key.

    Attributes
    ----------
    device, key
        Device and runtime key whose latency is predicted.
    origin
        Origin of its rows: `simulated` or `imported` where any row is, else `measured`; `published` where it
        was fitted to a published table.
    regressor
        Predicts blocks that have no row.
    rows
        Measured rows by block, returned instead of predictions: those that converged or whose interval is
        narrower than the regressor's, without imported rows that the quality gate marks red.
    evaluation
        Cross-validated errors of the regressor.

    Examples
    --------
    Fit to a simulated table of some blocks, and predict a block that is not in it:

    >>> from tempfile import TemporaryDirectory
    >>> from jmsnas.profiler.simulation.roofline import simulated_table
    >>> from jmsnas.space_file import load_space
    >>> blocks = load_space("digits").blocks()
    >>> table = simulated_table("pi4", blocks[::5], [RuntimeKey()])
    >>> with TemporaryDirectory() as folder:
    ...     estimator = fit_estimator(table, RuntimeKey(), Path(folder))
    >>> seconds = estimator.predict_s([blocks[1]])
    >>> low_s, high_s = estimator.interval_s([blocks[1]])
    >>> bool(low_s[0] <= seconds[0] <= high_s[0])
    True
    >>> estimator.simulated, estimator.extrapolated([blocks[1]]).tolist()
    (True, [False])
    """

    device: str
    key: RuntimeKey
    origin: str
    regressor: LatencyRegressor
    rows: Mapping[Block, BlockRow]
    evaluation: Evaluation

    @property
    def simulated(self) -> bool:
        """Whether any of its rows is simulated."""
        return self.origin == "simulated"

    def predict_s(self, blocks: Sequence[Block]) -> FloatArray:
        """Predict seconds of one call of each block, (blocks,), positive and finite."""
        known, others = self._known(blocks)
        seconds = np.empty(len(blocks))
        seconds[others] = self.regressor.predict(features([blocks[n] for n in others]))
        seconds[list(known)] = [row.median_s for row in known.values()]
        return seconds

    def interval_s(self, blocks: Sequence[Block]) -> tuple[FloatArray, FloatArray]:
        """Return the interval (low, high) in seconds of each block, each (blocks,).

        The 95 % confidence interval of a measured median, or the regressor's 90 % prediction interval.
        """
        known, others = self._known(blocks)
        low_s, high_s = np.empty(len(blocks)), np.empty(len(blocks))
        X = features([blocks[n] for n in others])
        low_s[others], high_s[others] = self.regressor.predict_interval(X, COVERAGE)
        low_s[list(known)] = [row.low_s for row in known.values()]
        high_s[list(known)] = [row.high_s for row in known.values()]
        return low_s, high_s

    def extrapolated(self, blocks: Sequence[Block]) -> BoolArray:
        """Mark the blocks outside the training range, (blocks,), whose seconds are extrapolated."""
        return self.regressor.extrapolated(features(blocks))

    def _known(self, blocks: Sequence[Block]) -> tuple[dict[int, BlockRow], list[int]]:
        known = {n: self.rows[block] for n, block in enumerate(blocks) if block in self.rows}
        return known, [n for n in range(len(blocks)) if n not in known]


def fit_estimator(
    table: LatencyTable, key: RuntimeKey, folder: Path, seed: int = 0, progress: Progress = no_progress
) -> Estimator:
    """Fit U(.) to the rows of one key, evaluate it on held-out geometries, and save it in `folder`.

    `folder` is `Workspace.estimator(device, key.label)`; its files are replaced. Raises TableError when the
    table has no rows of the key; EstimatorError when they have fewer than three layer geometries;
    StorageError when the folder cannot be written.
    """
    rows = table.for_key(key)
    try:
        evaluation, regressor = evaluate_and_fit(
            [row.block for row in rows.rows], training_rows(rows), seed, progress
        )
    except EstimatorError as error:
        raise EstimatorError(
            f"cannot fit U(.) of {table.device} ({key.label}): {error}, "
            f"with: jmsnas profile --device {table.device}"
        ) from error
    record = make_fit_record(table.device, key, rows.simulated, regressor, table_sha256(rows))
    card = model_card(rows, record, evaluation, regressor.margins(COVERAGE).tolist())
    write_table(folder / TABLE, rows)
    write_json(folder / EVALUATION, asdict(evaluation))
    write_card(folder, card)
    write_fit_record(folder / FIT_RECORD, record)
    return _estimator(rows, key, regressor, evaluation)


def evaluate_and_fit(
    blocks: Sequence[Block | BlockShape], rows: TrainingRows, seed: int, progress: Progress
) -> tuple[Evaluation, LatencyRegressor]:
    """Cross-validate the regressor, then fit it to all rows; raises EstimatorError."""
    evaluation = evaluate(
        blocks, rows.y, seed, lambda done, total, what: progress(done, total + 1, what), rows.noise
    )
    fits = sum(split.fits for split in evaluation.splits)
    progress(fits, fits + 1, "fitting all rows")
    return evaluation, LatencyRegressor(seed).fit(rows.X, rows.y, rows.noise)


def training_rows(table: LatencyTable) -> TrainingRows:
    """Make the training rows of a table of one key: features, median seconds, relative noise."""
    return TrainingRows(
        features([row.block for row in table.rows]),
        np.array([row.median_s for row in table.rows]),
        np.array([relative_noise(row) for row in table.rows]),
    )


def load_estimator(folder: Path) -> Estimator:
    """Load a saved estimator, by fitting its rows again without model selection.

    `folder` is `estimators/<device>/<label>` of a workspace. Raises EstimatorError when it is missing,
    damaged, of another schema version, or its table is not the one it was fitted to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from jmsnas.profiler.simulation.roofline import simulated_table
    >>> from jmsnas.space_file import load_space
    >>> blocks = load_space("digits").blocks()
    >>> table = simulated_table("pi4", blocks[::5], [RuntimeKey()])
    >>> with TemporaryDirectory() as folder:
    ...     fitted = fit_estimator(table, RuntimeKey(), Path(folder))
    ...     loaded = load_estimator(Path(folder))
    >>> bool(np.allclose(loaded.predict_s(blocks), fitted.predict_s(blocks)))
    True
    """
    record, evaluation, table = _read(folder)
    rows = training_rows(table)
    regressor = LatencyRegressor(record.seed).refit(rows.X, rows.y, record.choice, rows.noise)
    return _estimator(table, record.key, regressor, evaluation)


def estimator_is_current(folder: Path, table: LatencyTable) -> bool:
    """Whether the estimator in `folder` can be loaded and was fitted to the present rows of `table`."""
    try:
        record, _, _ = _read(folder)
        return table_sha256(table.for_key(record.key)) == record.table_sha256
    except (EstimatorError, TableError):
        return False


def _read(folder: Path) -> tuple[FitRecord, Evaluation, LatencyTable]:
    again = f"jmsnas fit-estimator --device {folder.parent.name}"
    record = read_fit_record(folder / FIT_RECORD, again)
    evaluation = read_json(folder / EVALUATION, Evaluation, again)
    try:
        rows = read_table(folder / TABLE).for_key(record.key)
    except TableError as error:
        raise EstimatorError(
            f"the estimator in {folder} has no valid table: {error}. Run: {again}"
        ) from error
    if table_sha256(rows) != record.table_sha256:
        raise EstimatorError(f"{folder / TABLE} is not the table that was fitted. Run: {again}")
    return record, evaluation, rows


def _estimator(
    rows: LatencyTable, key: RuntimeKey, regressor: LatencyRegressor, evaluation: Evaluation
) -> Estimator:
    width = math.expm1(regressor.margin(COVERAGE, LEVELS[0]))
    known = (row for row in rows.rows if row.converged or row.half_width <= width)
    # The quality gate marks an imported row red because it is wrong, not because it is uncertain.
    trusted = {row.block: row for row in known if (row.kind, row.trust) != ("imported", "red")}
    kinds = {row.kind for row in rows.rows}
    origin = next((kind for kind in ("simulated", "imported") if kind in kinds), "measured")
    return Estimator(rows.device, key, origin, regressor, trusted, evaluation)
