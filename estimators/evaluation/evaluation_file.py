"""An evaluation read back from the JSON beside an estimator."""

from collections.abc import Mapping
from typing import Any

from jmsnas.estimators.evaluation.evaluate import Evaluation, PredictedRow, Scores, SplitScores

_PAIR_SECONDS = ("measured_s", "predicted_s", "low_s", "high_s")


def evaluation_from(document: Mapping[str, Any]) -> Evaluation:
    """Read an evaluation back from what `dataclasses.asdict` made of it.

    Raises KeyError, TypeError, AttributeError or ValueError where the document is none.
    """
    rows, geometries, folds, seed = (int(document[name]) for name in ("rows", "geometries", "folds", "seed"))
    model, roofline, flops = (_scores_from(document[name]) for name in ("model", "roofline", "flops"))
    return Evaluation(
        rows,
        geometries,
        folds,
        seed,
        model,
        roofline,
        flops,
        float(document["coverage"]),
        tuple(_judged_from(judged) for judged in document["splits"]),
        tuple(
            PredictedRow(str(pair["block"]), *(float(pair[name]) for name in _PAIR_SECONDS))
            for pair in document["pairs"]
        ),
    )


def _judged_from(document: Mapping[str, Any]) -> SplitScores:
    return SplitScores(
        str(document["split"]),
        int(document["fits"]),
        int(document["rows"]),
        {str(name): _scores_from(found) for name, found in dict(document["scores"]).items()},
        float(document["coverage"]),
        float(document["fit_s"]),
    )


def _scores_from(document: Mapping[str, Any]) -> Scores:
    mape, rmspe, *within = (float(document[name]) for name in ("mape", "rmspe", "within_5", "within_10"))
    spearman = document["spearman"]
    return Scores(mape, rmspe, within[0], within[1], None if spearman is None else float(spearman))
