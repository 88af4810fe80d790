"""What `jmsnas fit-estimator` says of each estimator: pictures, one JSON document, or tables for people."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from jmsnas.cli.terminal import warn
from jmsnas.estimators.evaluation.evaluate import Scores
from jmsnas.estimators.evaluation.hold_out import MODEL
from jmsnas.estimators.fit_tables import FittedEstimator
from jmsnas.estimators.store.layout import CARD, PICTURES, embed_pictures
from jmsnas.files import write_atomic
from jmsnas.origin import origin_label

# Fewer rows are of few geometries, and held out they tell little.
_FEW_ROWS = 20


def draw_evaluation(found: FittedEstimator) -> None:
    """Draw predicted against measured, and errors by geometry, beside the estimator. Raises StorageError."""
    from jmsnas.report.estimator_plots import draw_geometries, draw_predicted
    from jmsnas.report.plot_style import png

    estimator = found.estimator
    name = found.setting or f"{estimator.device}, {estimator.key.label}"
    for file, drawing in zip(PICTURES, (draw_predicted, draw_geometries), strict=True):
        write_atomic(found.folder / file, png(drawing(name, estimator.evaluation, estimator.origin)))
    embed_pictures(found.folder)


def fitted_document(found: FittedEstimator) -> dict[str, Any]:
    """Describe an estimator for `--json`: its whole evaluation but the single rows."""
    estimator = found.estimator
    evaluation = asdict(estimator.evaluation)
    del evaluation["pairs"]
    return {
        "device": estimator.device,
        "key": estimator.key.label,
        "kind": estimator.origin,
        "setting": found.setting,
        "model": estimator.regressor.name,
        "evaluation": evaluation,
        "folder": str(found.folder),
    }


def print_fitted(found: FittedEstimator) -> None:
    """Print how good an estimator is: on unseen geometries beside simpler predictors, then way by way."""
    estimator, judged = found.estimator, found.estimator.evaluation
    kind = origin_label(estimator.origin)
    said = f": {found.setting}" if found.setting else ""
    print(
        f"{estimator.device}  {estimator.key.label}  {judged.rows} rows of {judged.geometries} geometries, "
        f"{kind}{said}"
    )
    if judged.rows < _FEW_ROWS:
        warn(f"{estimator.device}: {judged.rows} rows are few, and its errors are known coarsely only")
    for line in (*_beside(found), *_ways(found)):
        print(f"  {line}")
    files = ", ".join([CARD, *PICTURES])
    print(f"  90 % interval held {judged.coverage:.0%} of rows of unseen geometries")
    print(f"  {found.folder}: {files}")


def _beside(found: FittedEstimator) -> Iterator[str]:
    scores = found.estimator.evaluation.splits[0].scores
    names = {name: _title(found, name) for name in scores}
    width = max(map(len, names.values())) + 2
    yield f"{'unseen geometries':<{width}}    MAPE   RMSPE  within 5 %  within 10 %  Spearman"
    for name, title in names.items():
        yield f"  {title:<{width}}{_scores(scores[name])}"


def _title(found: FittedEstimator, name: str) -> str:
    return f"U(.): {found.estimator.regressor.name}" if name == MODEL else name


def _scores(scores: Scores) -> str:
    rank = "-" if scores.spearman is None else f"{scores.spearman:.3f}"
    shares = f"{scores.within_5:>12.0%}{scores.within_10:>13.0%}"
    return f"{scores.mape:>6.1%}{scores.rmspe:>8.1%}{shares}{rank:>10}"


def _ways(found: FittedEstimator) -> Iterator[str]:
    """Lines of MAPE for each way to hold rows out, and what the interval held."""
    splits = found.estimator.evaluation.splits
    names = list(splits[0].scores)
    heads = ["U(.)" if name == MODEL else name for name in names]
    titles = "".join(f"  {head}" for head in heads)
    yield f"{'MAPE by what was held out':<26}{titles}  in interval"
    for judged in splits:
        cells = (
            f"{judged.scores[name].mape:>{len(head) + 2}.1%}" for name, head in zip(names, heads, strict=True)
        )
        yield f"  {judged.split:<24}{''.join(cells)}{judged.coverage:>13.0%}"
