import functools
from dataclasses import replace

import numpy as np
import pytest
from synthetic_latencies import BLOCKS, noisy_s, table

from jmsnas.errors import EstimatorError
from jmsnas.estimators.evaluation.baselines import BASELINES
from jmsnas.estimators.evaluation.evaluate import (
    RANDOM,
    UNSEEN_CHANNELS,
    UNSEEN_GEOMETRY,
    Evaluation,
    evaluate,
    scores,
    split_scores,
)
from jmsnas.estimators.evaluation.hold_out import LINE, MODEL, ROOFLINE, predict_held_out
from jmsnas.estimators.regression.cross_validation import random_folds
from jmsnas.estimators.regression.features import TrainingRows
from jmsnas.estimators.regression.roofline import has_work
from jmsnas.space import IDENTITY

SOME = BLOCKS[::2]


@functools.cache
def noisy() -> Evaluation:
    return evaluate(SOME, noisy_s(table()[::2], 0.05, seed=1))


def test_scores_worked_by_hand() -> None:
    # Errors 4 %, 10 %, 20 %, 0: mean 8.5 %; root mean square sqrt((16 + 100 + 400) / 4) = 11.3578 %.
    measured_s = np.array([1.0, 2.0, 3.0, 4.0])
    found = scores(measured_s, np.array([1.04, 1.8, 3.6, 4.0]))
    assert found.mape == pytest.approx(0.085) and found.rmspe == pytest.approx(0.113578, abs=1e-6)
    assert (found.within_5, found.spearman) == (0.5, pytest.approx(1.0))
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / (4 * 15) = 0.8.
    assert scores(measured_s, np.array([2.0, 1.0, 3.0, 4.0])).spearman == pytest.approx(0.8)


def test_rank_of_latencies_all_alike_is_not_a_number_but_none() -> None:
    assert scores(np.ones(3), np.array([1.0, 2.0, 3.0])).spearman is None
    assert scores(np.array([1.0, 2.0, 3.0]), np.ones(3)).spearman is None


def test_split_beside_the_baselines_on_unseen_geometries() -> None:
    found = noisy()
    assert (found.rows, found.geometries, found.folds, found.seed) == (len(SOME), 12, 5, 0)
    assert found.model.mape < 0.07 < found.flops.mape
    assert found.model.spearman is not None and found.model.spearman > 0.95
    assert 0.75 <= found.coverage <= 1
    assert [pair.block for pair in found.pairs] == [str(block) for block in SOME]
    # What does no work is in the pictures, and does not count.
    busy = [pair for pair in found.pairs if not pair.block.startswith("identity")]
    assert 0 < len(busy) < len(SOME)
    errors = [abs(pair.predicted_s / pair.measured_s - 1) for pair in busy]
    assert found.model.mape == pytest.approx(np.mean(errors))
    held = [pair.low_s <= pair.measured_s <= pair.high_s for pair in busy]
    assert found.coverage == pytest.approx(np.mean(held))


def test_the_ways_to_hold_out_are_kept_with_every_predictor() -> None:
    splits = {split.split: split for split in noisy().splits}
    # 57 rows: 20 leave more than a third, 50 do not.
    assert list(splits) == [UNSEEN_GEOMETRY, UNSEEN_CHANNELS, RANDOM, "20 rows"]
    busy = sum(block.candidate != IDENTITY for block in SOME)
    assert len(SOME) - 20 - (len(SOME) - busy) <= splits["20 rows"].rows <= len(SOME) - 20
    assert splits[UNSEEN_GEOMETRY].rows == busy < len(SOME)
    assert all(list(split.scores) == [MODEL, ROOFLINE, *BASELINES] for split in splits.values())
    first = splits[UNSEEN_GEOMETRY].scores
    assert (first[MODEL], first[ROOFLINE], first[LINE]) == (
        noisy().model, noisy().roofline, noisy().flops
    )  # fmt: skip


def test_a_way_of_ones_own() -> None:
    X, folds = table(), random_folds(len(table()))[:1]
    rows = TrainingRows(X, noisy_s(X, 0.05))
    found, again = (split_scores("mine", folds, rows, predict_held_out(folds, rows, 0)) for _ in range(2))
    assert (found.split, found.fits, found.rows) == ("mine", 1, int(has_work(X[folds[0][1]]).sum()))
    assert found.scores[MODEL].mape < 0.07 and 0.7 <= found.coverage <= 1 and found.fit_s > 0
    assert again == replace(found, fit_s=again.fit_s)


def test_progress_is_reported() -> None:
    messages: list[float] = []
    some = BLOCKS[::13]
    evaluate(some, np.linspace(1e-4, 2e-4, len(some)), progress=lambda n, all, what: messages.append(n / all))
    assert messages == sorted(messages) and messages[0] == 0 and max(messages) < 1


def test_too_few_geometries_are_refused() -> None:
    with pytest.raises(
        EstimatorError, match="got 3 rows of 1 layer geometries: expected 3 geometries or more.*Profile more"
    ):
        evaluate(BLOCKS[:3], np.array([1e-3, 1e-3, 1e-3]))
    with pytest.raises(EstimatorError, match="got 0 rows of 0 layer geometries"):
        evaluate([], np.array([]))


def test_splits_with_one_training_geometry_are_skipped() -> None:
    # 32 rows of three geometries and two pairs of channels: without the first pair one geometry is left.
    X, some = table()[:32], BLOCKS[:32]
    assert [split.split for split in evaluate(some, noisy_s(X, 0.05)).splits] == [
        UNSEEN_GEOMETRY, RANDOM, "20 rows"
    ]  # fmt: skip
