import functools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from jmsnas.errors import EstimatorError
from jmsnas.estimators.evaluate import Evaluation, evaluate, evaluation_from, scores
from jmsnas.estimators.features import ROOFLINE, columns, features
from jmsnas.space import Block, Layer, candidates_at, mbconv_candidates

LAYERS = [Layer(c, c * s, s, h, h) for c in (8, 24) for s in (1, 2) for h in (4, 8, 14)]
BLOCKS = [Block(c, layer) for layer in LAYERS for c in candidates_at(layer, mbconv_candidates())][::2]


@functools.cache
def noisy() -> Evaluation:
    # 5 us a call, 10 us a launch, 1 GB/s, 5 GMAC/s, and 5 % of noise.
    rates = np.array([2e-10] * 3 + [1e-9] * 6 + [1e-5] * 4)
    exact_s = features(BLOCKS)[:, columns(ROOFLINE)] @ rates + 5e-6
    return evaluate(BLOCKS, exact_s * np.exp(np.random.default_rng(1).normal(0, 0.05, len(BLOCKS))))


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


def test_judged_beside_the_baselines_on_unseen_geometries() -> None:
    found = noisy()
    assert (found.rows, found.geometries, found.folds) == (len(BLOCKS), 12, 5)
    assert found.model.mape < 0.07 < found.flops.mape
    assert found.model.spearman is not None and found.model.spearman > 0.95
    assert 0.75 <= found.coverage <= 1
    assert [pair.block for pair in found.pairs] == [str(block) for block in BLOCKS]
    assert found.model.mape == pytest.approx(
        np.mean([abs(pair.predicted_s / pair.measured_s - 1) for pair in found.pairs])
    )
    assert all(pair.low_s <= pair.predicted_s <= pair.high_s for pair in found.pairs)


def test_progress_is_told() -> None:
    told: list[float] = []
    evaluate(
        BLOCKS[:14], np.linspace(1e-4, 2e-4, 14), progress=lambda done, total, what: told.append(done / total)
    )
    assert told == sorted(told) and told[0] == 0 and max(told) < 1


def test_json_and_back() -> None:
    assert evaluation_from(json.loads(json.dumps(asdict(noisy())))) == noisy()
    unranked = replace(noisy(), flops=replace(noisy().flops, spearman=None))
    assert evaluation_from(asdict(unranked)) == unranked


def test_too_few_geometries_are_refused() -> None:
    with pytest.raises(
        EstimatorError, match="got 3 rows of 1 layer geometries: expected 3 geometries or more"
    ):
        evaluate(BLOCKS[:3], np.array([1e-3, 1e-3, 1e-3]))
    with pytest.raises(EstimatorError, match="got 0 rows of 0 layer geometries"):
        evaluate([], np.array([]))
