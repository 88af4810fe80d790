import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from jmsnas.errors import EstimatorError
from jmsnas.estimators.evaluation.evaluate import Evaluation, PredictedRow, Scores, SplitScores
from jmsnas.estimators.store.fit_record import read_json

GOOD, BAD = Scores(0.02, 0.03, 0.9, 0.99, 0.98), Scores(0.2, 0.3, 0.1, 0.2, None)
JUDGED = SplitScores("unseen geometry", 5, 40, {"estimator": GOOD, "roofline": BAD}, 0.9, 1.5)
EVALUATION = Evaluation(
    40, 7, 5, 0, GOOD, BAD, BAD, 0.9, (JUDGED, replace(JUDGED, split="random")),
    (PredictedRow("mb_k3_e3 8->8 4x4", 1e-3, 1.1e-3, 1e-3, 1.2e-3),),
)  # fmt: skip


def written(folder: Path, document: object) -> Path:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(document))
    return path


def test_json_and_back(tmp_path: Path) -> None:
    assert read_json(written(tmp_path, asdict(EVALUATION)), Evaluation, "again") == EVALUATION


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
        lambda d: d["pairs"][0].update(low_s="0.1"),
        lambda d: d.update(rows=40.5),
    ],
)
def test_an_invalid_field_is_refused(spoil: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    document = json.loads(json.dumps(asdict(EVALUATION)))
    spoil(document)
    with pytest.raises(EstimatorError, match="evaluation.json has a field that is missing or wrong: .*again"):
        read_json(written(tmp_path, document), Evaluation, "again")
