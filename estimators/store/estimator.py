"""A fitted estimator on disk: its table, a recipe to fit it again, how good it is, and a card to read.

Loading fits the stored rows with the recipe's choice, so nothing is unpickled and nothing rests on the
version of a library. The recipe is written last: a folder without one, or whose table has another
digest, is refused with the command that makes it anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.evaluation.evaluate import Evaluation, evaluate
from jmsnas.estimators.evaluation.evaluation_file import evaluation_from
from jmsnas.estimators.evaluation.hold_out import COVERAGE
from jmsnas.estimators.regression.conformal import LEVELS
from jmsnas.estimators.regression.features import features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store.fit_record import (
    FitRecord,
    make_fit_record,
    read_fit_record,
    read_json_object,
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

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimator:
    """U(.) of a device under one key.

    Attributes
    ----------
    device, key
        What it speaks for.
    origin
        What the rows it rests on are: `measured`; `simulated` where any is; `imported` where others measured
        any; `published` where it was fitted to a table as others published it.
    regressor
        Answers for blocks that have no row.
    rows
        Rows that answer for themselves, by block: those that converged, and those whose interval is
        narrower than the regressor's; none that others measured and the quality gate speaks against.
    evaluation
        How good the regressor is on layer geometries it never saw.
    """

    device: str
    key: RuntimeKey
    origin: str
    regressor: LatencyRegressor
    rows: Mapping[Block, BlockRow]
    evaluation: Evaluation

    @property
    def simulated(self) -> bool:
        """Whether any row it rests on is simulated."""
        return self.origin == "simulated"

    def predict_s(self, blocks: Sequence[Block]) -> Array:
        """Seconds of one call of each block, (blocks,), positive and finite."""
        known, others = self._known(blocks)
        seconds = np.empty(len(blocks))
        seconds[others] = self.regressor.predict(features([blocks[n] for n in others]))
        seconds[list(known)] = [row.median_s for row in known.values()]
        return seconds

    def interval_s(self, blocks: Sequence[Block]) -> tuple[Array, Array]:
        """(low, high) seconds of each block, each (blocks,).

        The 95 % confidence interval of a row's median, the regressor's 90 % interval of a prediction.
        """
        known, others = self._known(blocks)
        low_s, high_s = np.empty(len(blocks)), np.empty(len(blocks))
        table = features([blocks[n] for n in others])
        low_s[others], high_s[others] = self.regressor.predict_interval(table, COVERAGE)
        low_s[list(known)] = [row.low_s for row in known.values()]
        high_s[list(known)] = [row.high_s for row in known.values()]
        return low_s, high_s

    def extrapolated(self, blocks: Sequence[Block]) -> NDArray[np.bool_]:
        """Say which blocks are beyond all that was measured, (blocks,): their seconds are extrapolated."""
        return self.regressor.extrapolated(features(blocks))

    def _known(self, blocks: Sequence[Block]) -> tuple[dict[int, BlockRow], list[int]]:
        known = {n: self.rows[block] for n, block in enumerate(blocks) if block in self.rows}
        return known, [n for n in range(len(blocks)) if n not in known]


def fit_estimator(
    table: LatencyTable, key: RuntimeKey, folder: Path, seed: int = 0, progress: Progress = no_progress
) -> Estimator:
    """Fit U(.) to the rows of one key, judge it on unseen geometries, and keep it in `folder`.

    Parameters
    ----------
    folder
        `Workspace.estimator(device, key.label)`; its files are replaced.
    seed
        As in `LatencyRegressor`.

    Raises
    ------
    TableError
        When the table has no rows of the key.
    EstimatorError
        When its rows are of fewer than three layer geometries.
    StorageError
        When the folder cannot be written.
    """
    rows = table.for_key(key)
    blocks, measured_s, noise = [row.block for row in rows.rows], _medians_s(rows), _noise(rows)
    try:
        evaluation = evaluate(
            blocks, measured_s, seed, lambda done, total, what: progress(done, total + 1, what), noise
        )
        fits = sum(judged.fits for judged in evaluation.splits)
        progress(fits, fits + 1, "fitting all rows")
        regressor = LatencyRegressor(seed).fit(features(blocks), measured_s, noise)
    except EstimatorError as error:
        raise EstimatorError(
            f"cannot fit U(.) of {table.device} ({key.label}): {error}, "
            f"with: jmsnas profile --device {table.device}"
        ) from error
    recipe = make_fit_record(table.device, key, rows.simulated, regressor, table_sha256(rows))
    card = model_card(rows, recipe, evaluation, regressor.margins(COVERAGE).tolist())
    write_table(folder / TABLE, rows)
    write_json(folder / EVALUATION, asdict(evaluation))
    write_card(folder, card)
    write_fit_record(folder / FIT_RECORD, recipe)
    return _estimator(rows, key, regressor, evaluation)


def load_estimator(folder: Path) -> Estimator:
    """Fit a stored estimator again, as it was.

    Parameters
    ----------
    folder
        `estimators/<device>/<label>` of a workspace.

    Raises
    ------
    EstimatorError
        When it is missing, damaged, of another schema version, or its table is not the one it was fitted to.
    """
    recipe, evaluation, rows = _read(folder)
    regressor = LatencyRegressor(recipe.seed)
    regressor.refit(features([row.block for row in rows.rows]), _medians_s(rows), recipe.choice, _noise(rows))
    return _estimator(rows, recipe.key, regressor, evaluation)


def estimator_is_current(folder: Path, table: LatencyTable) -> bool:
    """Say whether the estimator in `folder` can be loaded and was fitted to the rows `table` has now."""
    try:
        recipe, _, _ = _read(folder)
        return table_sha256(table.for_key(recipe.key)) == recipe.table_sha256
    except (EstimatorError, TableError):
        return False


def _read(folder: Path) -> tuple[FitRecord, Evaluation, LatencyTable]:
    again = f"jmsnas fit-estimator --device {folder.parent.name}"
    recipe = read_fit_record(folder / FIT_RECORD, again)
    document = read_json_object(folder / EVALUATION, again)
    try:
        evaluation = evaluation_from(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EstimatorError(
            f"{folder / EVALUATION} has a field that is missing or wrong: {error}. Run: {again}"
        ) from error
    try:
        rows = read_table(folder / TABLE).for_key(recipe.key)
    except TableError as error:
        raise EstimatorError(
            f"the estimator in {folder} has no sound table: {error}. Run: {again}"
        ) from error
    if table_sha256(rows) != recipe.table_sha256:
        raise EstimatorError(f"{folder / TABLE} is not the table that was fitted. Run: {again}")
    return recipe, evaluation, rows


def _medians_s(table: LatencyTable) -> Array:
    return np.array([row.median_s for row in table.rows])


def _noise(table: LatencyTable) -> Array:
    return np.array([relative_noise(row) for row in table.rows])


def _estimator(
    rows: LatencyTable, key: RuntimeKey, regressor: LatencyRegressor, evaluation: Evaluation
) -> Estimator:
    width = math.expm1(regressor.margin(COVERAGE, LEVELS[0]))
    known = (row for row in rows.rows if row.converged or row.half_width <= width)
    # What the quality gate holds against a row of others is a figure that is wrong, not one in doubt.
    trusted = {row.block: row for row in known if (row.kind, row.trust) != ("imported", "red")}
    return Estimator(rows.device, key, _origin(rows), regressor, trusted, evaluation)


def _origin(rows: LatencyTable) -> str:
    kinds = {row.kind for row in rows.rows}
    return next((kind for kind in ("simulated", "imported") if kind in kinds), "measured")
