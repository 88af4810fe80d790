import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from jmsnas.estimators.evaluation.evaluate import Evaluation, PredictedRow, Scores, SplitScores
from jmsnas.estimators.evaluation.evaluation_file import evaluation_from

GOOD, BAD = Scores(0.02, 0.03, 0.9, 0.99, 0.98), Scores(0.2, 0.3, 0.1, 0.2, None)
JUDGED = SplitScores("unseen geometry", 5, 40, {"estimator": GOOD, "roofline": BAD}, 0.9, 1.5)
EVALUATION = Evaluation(
    40, 7, 5, 0, GOOD, BAD, BAD, 0.9, (JUDGED, replace(JUDGED, split="random")),
    (PredictedRow("mb_k3_e3 8->8 4x4", 1e-3, 1.1e-3, 1e-3, 1.2e-3),),
)  # fmt: skip


def test_json_and_back() -> None:
    assert evaluation_from(json.loads(json.dumps(asdict(EVALUATION)))) == EVALUATION


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("rows"),
        lambda d: d.update(rows="many"),
        lambda d: d.update(model=[]),
        lambda d: d["model"].pop("spearman"),
        lambda d: d.update(splits={"random": 1}),
        lambda d: d["splits"][0].update(scores=3),
        lambda d: d.update(pairs=[None]),
        lambda d: d["pairs"][0].update(low_s="low"),
    ],
)
def test_a_document_that_is_none_is_not_read(spoil: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(json.dumps(asdict(EVALUATION)))
    spoil(document)
    with pytest.raises((KeyError, TypeError, AttributeError, ValueError)):
        evaluation_from(document)
