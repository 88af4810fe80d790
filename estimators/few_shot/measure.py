"""Measure the few blocks that teach most, fit U(.), say how sure it is, and go on until it is sure enough.

How sure is what cross-validation over whole layer geometries says, the choice of the model made anew in every
fold, of blocks such as there are left to measure: a space has one stem and one head, and once both are
measured nobody asks how well U(.) would have known them. Chosen blocks lie far apart, so each is further from
the others than most blocks of the space are: U(.) is more often better there than stated.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jmsnas.estimators.evaluation.hold_out import COVERAGE, MODEL, predict_held_out
from jmsnas.estimators.few_shot.plan import FewShotPlan
from jmsnas.estimators.networks.sum_correction import SumCorrection, table_correction
from jmsnas.estimators.regression.cross_validation import group_folds
from jmsnas.estimators.regression.features import features, group_ids
from jmsnas.estimators.regression.roofline import rows_to_score
from jmsnas.estimators.store.estimator import Estimator, fit_estimator
from jmsnas.profiler.plan import max_duration_s
from jmsnas.profiler.profile import BUDGET_PER_BLOCK_S, ProfileResult
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.trust import relative_noise
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block, BlockOrPart

Array = NDArray[np.float64]
# Brings a table up to date: blocks and parts, keys, and seconds of sampling a key (None: until 1 %).
Measure = Callable[[Sequence[BlockOrPart], Sequence[RuntimeKey], float | None], ProfileResult]

# Steps grow, so that processes start and models are fitted a few times only.
_STEP_SHARE, _SMALLEST_STEP = 0.25, 4
# A shorter sitting measures nothing.
_SHORTEST_S = 1.0
# Mean |error| of a normal law of standard deviation 1.
_MEAN_OF_NORMAL = math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """How sure U(.) of one key is after a few blocks.

    Attributes
    ----------
    key, model, folder
        What it is for, which model was chosen, where it is kept.
    rows, geometries, left
        Blocks it was fitted to, of how many layer geometries; how many of the plan's are not measured.
    mape, doubt
        Mean error on geometries left out, of roles that have blocks left to measure, and its standard error
        over geometries, as shares.
    margin
        Within what 90 % of the blocks of new geometries lie, as a share.
    reached, why
        Whether `mape` is what was asked for (None: nothing was), and why no more was measured.
    sums
        From sums of U(.) to whole networks; None where fewer than 3 were measured.
    """

    key: RuntimeKey
    model: str
    folder: Path
    rows: int
    geometries: int
    left: int
    mape: float
    doubt: float
    margin: float
    reached: bool | None
    why: str
    sums: SumCorrection | None


def measure_few_shot(
    plan: FewShotPlan,
    keys: Sequence[RuntimeKey],
    measure: Measure,
    folder_of: Callable[[RuntimeKey], Path],
    *,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = no_progress,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[ProfileResult, tuple[FewShotResult, ...]]:
    """Measure what teaches most, then more until the error asked for is reached or there is a reason to stop.

    What the table holds already is not measured again, so the same call goes on where the last one ended.

    Parameters
    ----------
    plan, keys
        What to measure, and how it is run; there must be a key.
    measure, folder_of
        Measures; gives the folder of a key's estimator, whose files are replaced.
    seed
        As in `LatencyRegressor`.
    budget_s
        Without an error to reach: seconds of sampling a key, all of it used. With one: seconds a key that
        measuring may take.

    Returns
    -------
    The table as it is now, and how sure U(.) is for each key.

    Raises
    ------
    EstimatorError
        When the rows are of fewer than three layer geometries.
    """
    ends: dict[RuntimeKey, tuple[bool | None, str]] = dict.fromkeys(keys, (None, ""))
    if plan.until_mape is None:
        found = measure(plan.initial, keys, budget_s)
    else:
        for key in keys:
            found, reached, why = _measure_until(plan, key, plan.until_mape, measure, seed, budget_s, clock)
            ends[key] = reached, why
    sureties = []
    for key in keys:
        estimator = fit_estimator(found.table, key, folder_of(key), seed, progress)
        sureties.append(_surety(plan, found.table.for_key(key), estimator, folder_of(key), *ends[key]))
    return found, tuple(sureties)


def _measure_until(
    plan: FewShotPlan,
    key: RuntimeKey,
    until_mape: float,
    measure: Measure,
    seed: int,
    budget_s: float | None,
    clock: Callable[[], float],
) -> tuple[ProfileResult, bool, str]:
    """Give the table, whether the error is reached, and why it ended."""
    left_s = math.inf if budget_s is None else budget_s
    wanted, tried = plan.initial, set[BlockOrPart]()
    while True:
        began, enough = clock(), max_duration_s([len(wanted)], BUDGET_PER_BLOCK_S, None, 0.0)
        found = measure(wanted, [key], None if enough <= left_s else left_s)
        left_s -= clock() - began
        tried.update(wanted)
        rows = found.table.for_key(key)
        known = {row.block for row in rows.rows}
        lacking = [block for block in plan.order if block not in known]
        if cross_validated_error(rows, seed, _roles(lacking))[0] <= until_mape:
            return found, True, f"{100 * until_mape:.3g} % is reached"
        why = _why_no_more(rows, until_mape, lacking, tried, left_s, len(plan.order))
        if why:
            return found, False, why
        step = max(_SMALLEST_STEP, int(_STEP_SHARE * len(known)))
        wanted = tuple([block for block in lacking if block not in tried][:step])


def _why_no_more(
    rows: LatencyTable,
    until_mape: float,
    lacking: Sequence[Block],
    tried: set[BlockOrPart],
    left_s: float,
    blocks: int,
) -> str:
    noise = _MEAN_OF_NORMAL * float(np.mean([relative_noise(row) for row in rows.rows]))
    red = [row.trust_reason for row in rows.rows if row.trust == "red"]
    if noise >= until_mape and len(red) > len(rows.rows) / 2:
        return (
            f"{len(red)} of {len(rows.rows)} rows are marked red (as: {red[0]}), too doubtful to judge "
            f"{100 * until_mape:.3g} % by: end what runs beside, and the same command measures them again"
        )
    if noise >= until_mape:
        return (
            f"the rows themselves are {noise:.1%} off in the mean, and no model is better than what it is "
            "judged by: measure them finer first, with --budget 5m and without --until-mape"
        )
    if not lacking:
        return (
            f"all {blocks} blocks to choose from are measured: give it more with a larger --off-grid, "
            f"as in --off-grid {2 * blocks}"
        )
    if not {*lacking} - tried:
        return f"{len(lacking)} of {blocks} blocks could not be measured, all others are"
    if left_s < _SHORTEST_S:
        return "the budget is spent: the same command goes on"
    return ""


def cross_validated_error(
    rows: LatencyTable, seed: int = 0, roles: frozenset[str] = frozenset()
) -> tuple[float, float]:
    """Give (mean, its standard error) of |error| on layer geometries left out of the fit, as shares.

    As the evaluation of `fit_estimator` says, of rows of `roles` only where there are any; infinite where
    there are no two geometries.
    """
    blocks = [row.block for row in rows.rows]
    X, y = features(blocks), np.array([row.median_s for row in rows.rows])
    folds = group_folds(X, seed=seed)
    if not folds:
        return math.inf, math.inf
    found = predict_held_out(
        folds, X, y, seed, np.array([relative_noise(row) for row in rows.rows]), no_progress
    )
    errors = np.empty(len(y))
    errors[found.rows] = np.abs(found.predicted_s[MODEL] / y[found.rows] - 1)
    return _mean_over(blocks, errors, roles)


def _roles(lacking: Sequence[Block]) -> frozenset[str]:
    """Roles of the blocks that are left, for which U(.) will have to answer."""
    return frozenset(block.layer.role for block in lacking)


def _mean_over(blocks: Sequence[Block], errors: Array, roles: frozenset[str]) -> tuple[float, float]:
    X = features(blocks)
    asked = np.array([block.layer.role in roles for block in blocks]) & rows_to_score(X)
    busy = asked if asked.any() else rows_to_score(X)
    errors, geometries = errors[busy], group_ids(X)[busy]
    # Rows of one geometry go wrong together: their sums, not they, are the independent draws.
    sums = np.bincount(geometries, errors - errors.mean())
    return float(errors.mean()), float(np.sqrt((sums**2).sum())) / len(errors)


def _surety(
    plan: FewShotPlan,
    rows: LatencyTable,
    estimator: Estimator,
    folder: Path,
    reached: bool | None,
    why: str,
) -> FewShotResult:
    blocks = [row.block for row in rows.rows]
    lacking = {*plan.order} - {*blocks}
    errors = np.array([abs(pair.predicted_s / pair.measured_s - 1) for pair in estimator.evaluation.pairs])
    mape, doubt = _mean_over(blocks, errors, _roles([*lacking]))
    return FewShotResult(
        key=estimator.key,
        model=estimator.regressor.name,
        folder=folder,
        rows=len(blocks),
        geometries=len({block.layer for block in blocks}),
        left=len(lacking),
        mape=mape,
        doubt=doubt,
        margin=math.expm1(estimator.regressor.margin(COVERAGE)),
        reached=reached,
        why=why,
        sums=table_correction(rows, estimator.predict_s),
    )
