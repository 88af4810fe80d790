"""Measure the most informative blocks, fit U(.), and measure more until its cross-validated error is reached.

The error is that of cross-validation over layer geometries, with model selection in every fold, over blocks
of the roles that are still to be measured: once the only stem and head of a space are measured, their errors
no longer matter. It is usually an upper estimate, since informative blocks are further apart than most blocks
of the space.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.estimators.evaluation.hold_out import COVERAGE, MODEL, predict_held_out
from jmsnas.estimators.few_shot.plan import FewShotPlan
from jmsnas.estimators.networks.sum_correction import SumCorrection, table_correction
from jmsnas.estimators.regression.cross_validation import clustered_mean, group_folds
from jmsnas.estimators.regression.features import features, group_ids
from jmsnas.estimators.regression.roofline import rows_to_score
from jmsnas.estimators.store.estimator import Estimator, fit_estimator, training_rows
from jmsnas.profiler.plan import max_duration_s
from jmsnas.profiler.profile import BUDGET_PER_BLOCK_S, ProfileResult
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.trust import relative_noise
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block, BlockOrPart

# Updates a latency table: (blocks and parts, keys, sampling seconds per key; None: until 1 %).
Measure = Callable[[Sequence[BlockOrPart], Sequence[RuntimeKey], float | None], ProfileResult]

# Steps grow, so that processes are started and models fitted a few times only.
_STEP_SHARE, _MIN_STEP = 0.25, 4
# A shorter session measures nothing.
_MIN_SESSION_S = 1.0
# Mean |error| of a normal distribution of standard deviation 1.
_MEAN_OF_NORMAL = math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """Cross-validated error of U(.) of one key after a few measurements.

    Attributes
    ----------
    key, model, folder
        Key and folder of the estimator, name of the chosen model.
    rows, geometries, unmeasured
        Numbers of measured blocks and of their layer geometries; number of blocks of the plan not measured.
    mape, mape_standard_error
        Mean error on held-out geometries, of roles with blocks still to measure, and its standard error over
        geometries, as shares.
    margin
        Half-width of the 90 % interval of blocks of new geometries, as a share.
    reached, stop_reason
        Whether `mape` is the requested error or less (None: none was requested), and why measuring ended.
    sum_correction
        Correction from sums of blocks to whole models; None where fewer than 3 were measured.
    """

    key: RuntimeKey
    model: str
    folder: Path
    rows: int
    geometries: int
    unmeasured: int
    mape: float
    mape_standard_error: float
    margin: float
    reached: bool | None
    stop_reason: str
    sum_correction: SumCorrection | None


def measure_few_shot(
    plan: FewShotPlan,
    keys: Sequence[RuntimeKey],
    measure: Measure,
    folder_of: Callable[[RuntimeKey], Path],
    *,
    seed: int = 0,
    budget_s: float | None = None,
    progress: Progress = no_progress,
) -> tuple[ProfileResult, tuple[FewShotResult, ...]]:
    """Measure the first blocks of a plan, then more until its error is reached, and fit U(.) of each key.

    Returns the updated table, and the result for each key. Blocks already in the table are not measured
    again: the same call continues an interrupted one. Raises EstimatorError when the rows have fewer than
    three layer geometries.

    Parameters
    ----------
    plan, keys
        Blocks to measure, and one or more keys to measure them under.
    measure, folder_of
        Function that measures blocks; function from a key to the folder of its estimator, which is replaced.
    budget_s
        Without an error to reach: sampling seconds per key, all of them used. With one: maximum seconds of
        measuring per key.
    """
    ends: dict[RuntimeKey, tuple[bool | None, str]] = dict.fromkeys(keys, (None, ""))
    if plan.until_mape is None:
        found = measure(plan.initial, keys, budget_s)
    else:
        for key in keys:
            found, reached, why = _measure_until(plan, key, plan.until_mape, measure, seed, budget_s)
            ends[key] = reached, why
    results = []
    for key in keys:
        estimator = fit_estimator(found.table, key, folder_of(key), seed, progress)
        results.append(_result(plan, found.table.for_key(key), estimator, folder_of(key), *ends[key]))
    return found, tuple(results)


def _measure_until(
    plan: FewShotPlan, key: RuntimeKey, until_mape: float, measure: Measure, seed: int, budget_s: float | None
) -> tuple[ProfileResult, bool, str]:
    """Measure in steps; return the table, whether the error is reached, and the reason to stop."""
    left_s = math.inf if budget_s is None else budget_s
    wanted, tried = plan.initial, set[BlockOrPart]()
    while True:
        began, enough_s = monotonic(), max_duration_s([len(wanted)], BUDGET_PER_BLOCK_S, None, 0.0)
        found = measure(wanted, [key], None if enough_s <= left_s else left_s)
        left_s -= monotonic() - began
        tried.update(wanted)
        rows = found.table.for_key(key)
        known = {row.block for row in rows.rows}
        missing = [block for block in plan.order if block not in known]
        if cross_validated_error(rows, seed, _roles(missing))[0] <= until_mape:
            return found, True, f"{100 * until_mape:.3g} % is reached"
        if reason := _stop_reason(rows, until_mape, missing, tried, left_s, len(plan.order)):
            return found, False, reason
        step = max(_MIN_STEP, int(_STEP_SHARE * len(known)))
        wanted = tuple([block for block in missing if block not in tried][:step])


def _stop_reason(
    rows: LatencyTable,
    until_mape: float,
    missing: Sequence[Block],
    tried: set[BlockOrPart],
    left_s: float,
    blocks: int,
) -> str:
    """Return why measuring more blocks is useless or impossible, empty where it is neither."""
    noise = _MEAN_OF_NORMAL * float(np.mean([relative_noise(row) for row in rows.rows]))
    red = [row.trust_reason for row in rows.rows if row.trust == "red"]
    if noise >= until_mape and len(red) > len(rows.rows) / 2:
        return (
            f"{len(red)} of {len(rows.rows)} rows are marked red (as: {red[0]}), too uncertain to check an "
            f"error of {100 * until_mape:.3g} %: end other programs, and the same command measures them again"
        )
    if noise >= until_mape:
        return (
            f"the mean error of the measurements themselves is {noise:.1%}, and an estimator cannot be shown "
            "to be better: measure longer first, with --budget 5m and without --until-mape"
        )
    if not missing:
        return (
            f"all {blocks} blocks to choose from are measured: add blocks with a larger --off-grid, "
            f"as in --off-grid {2 * blocks}"
        )
    if not {*missing} - tried:
        return f"{len(missing)} of {blocks} blocks could not be measured, all others are"
    if left_s < _MIN_SESSION_S:
        return "the budget is used up: the same command continues"
    return ""


def cross_validated_error(
    rows: LatencyTable, seed: int = 0, roles: frozenset[str] = frozenset()
) -> tuple[float, float]:
    """Compute the mean |error| on held-out layer geometries and its standard error, as shares.

    The same as in the evaluation of `fit_estimator`, over rows of `roles` where there are any; infinite for
    fewer than two geometries.
    """
    known = training_rows(rows)
    folds = group_folds(known.X, seed=seed)
    if not folds:
        return math.inf, math.inf
    found = predict_held_out(folds, known, seed)
    errors = np.empty(len(known.y))
    errors[found.rows] = np.abs(found.predicted_s[MODEL] / known.y[found.rows] - 1)
    return _mean_error([row.block for row in rows.rows], errors, roles)


def _roles(missing: Sequence[Block]) -> frozenset[str]:
    """Return the layer roles of blocks that are not measured, which U(.) has to predict."""
    return frozenset(block.layer.role for block in missing)


def _mean_error(blocks: Sequence[Block], errors: FloatArray, roles: frozenset[str]) -> tuple[float, float]:
    """Compute the mean error of blocks of `roles` (of all, where none is), and its standard error."""
    X = features(blocks)
    of_roles = np.array([block.layer.role in roles for block in blocks]) & rows_to_score(X)
    scored = of_roles if of_roles.any() else rows_to_score(X)
    return clustered_mean(errors[scored], group_ids(X)[scored])


def _result(
    plan: FewShotPlan, rows: LatencyTable, estimator: Estimator, folder: Path, reached: bool | None, why: str
) -> FewShotResult:
    blocks = [row.block for row in rows.rows]
    missing = {*plan.order} - {*blocks}
    errors = np.array([abs(row.predicted_s / row.measured_s - 1) for row in estimator.evaluation.pairs])
    mape, standard_error = _mean_error(blocks, errors, _roles([*missing]))
    return FewShotResult(
        key=estimator.key,
        model=estimator.regressor.name,
        folder=folder,
        rows=len(blocks),
        geometries=len({block.layer for block in blocks}),
        unmeasured=len(missing),
        mape=mape,
        mape_standard_error=standard_error,
        margin=math.expm1(estimator.regressor.margin(COVERAGE)),
        reached=reached,
        stop_reason=why,
        sum_correction=table_correction(rows, estimator.predict_s),
    )
