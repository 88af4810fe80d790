"""Results of `jmsnas fit-estimator`: plots, a JSON document, and printed tables."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from jmsnas.cli.terminal import print_line, table_lines, warn
from jmsnas.estimators.evaluation.evaluate import Scores
from jmsnas.estimators.evaluation.hold_out import MODEL
from jmsnas.estimators.fit_tables import FittedEstimator
from jmsnas.estimators.store.layout import CARD, PICTURES, embed_pictures
from jmsnas.files import write_atomic
from jmsnas.origin import NOT_EVALUATED, origin_label

# Fewer rows have too few geometries for a reliable evaluation.
_FEW_ROWS = 20


def draw_evaluation(found: FittedEstimator) -> None:
    """Plot predicted against measured, and errors by geometry, into the estimator's folder.

    Raises StorageError.
    """
    from jmsnas.report.estimator_plots import draw_geometries, draw_predicted
    from jmsnas.report.plot_style import png

    estimator = found.estimator
    name = found.setting or f"{estimator.device}, {estimator.key.label}"
    for file, drawing in zip(PICTURES, (draw_predicted, draw_geometries), strict=True):
        write_atomic(found.folder / file, png(drawing(name, estimator.evaluation, estimator.origin)))
    embed_pictures(found.folder)


def fitted_document(found: FittedEstimator) -> dict[str, Any]:
    """Describe an estimator for `--json`: its evaluation without predictions, no scores if simulated."""
    estimator = found.estimator
    evaluation = asdict(estimator.evaluation)
    del evaluation["pairs"]
    if estimator.simulated:
        evaluation = {name: evaluation[name] for name in ("rows", "geometries", "seed")}
        evaluation["note"] = NOT_EVALUATED
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
    """Print errors of all predictors on unseen geometries and MAPE by held-out split, unless simulated."""
    estimator, evaluation = found.estimator, found.estimator.evaluation
    setting = f": {found.setting}" if found.setting else ""
    print_line(
        f"{estimator.device}  {estimator.key.label}  {evaluation.rows} rows of "
        f"{evaluation.geometries} geometries, {origin_label(estimator.origin)}{setting}"
    )
    if evaluation.rows < _FEW_ROWS:
        warn(f"{estimator.device}: only {evaluation.rows} rows, so its errors are rough estimates")
    files = ", ".join([CARD, *PICTURES])
    if estimator.simulated:
        print_line(f"  {NOT_EVALUATED}. To measure it, on it: jmsnas profile --device {estimator.device}")
    else:
        for line in (*_score_lines(found), *_split_lines(found)):
            print_line(f"  {line}")
        print_line(f"  coverage of the 90 % interval on unseen geometries: {evaluation.coverage:.0%}")
    print_line(f"  {found.folder}: {files}")


def _score_lines(found: FittedEstimator) -> Iterator[str]:
    scores = found.estimator.evaluation.splits[0].scores
    names = {name: _title(found, name) for name in scores}
    width = max(map(len, names.values())) + 2
    heads = ("unseen geometries", "MAPE", "RMSPE", "within 5 %", "within 10 %", "Spearman")
    specs = (f"<{width + 2}", ">6", ">8", ">12", ">13", ">10")
    rows = [(f"  {title}", *_scores(scores[name])) for name, title in names.items()]
    yield from table_lines([*zip(heads, specs, strict=True)], rows)


def _title(found: FittedEstimator, name: str) -> str:
    return f"U(.): {found.estimator.regressor.name}" if name == MODEL else name


def _scores(scores: Scores) -> tuple[str, ...]:
    rank = "-" if scores.spearman is None else f"{scores.spearman:.3f}"
    shares = f"{scores.within_5:.0%}", f"{scores.within_10:.0%}"
    return f"{scores.mape:.1%}", f"{scores.rmspe:.1%}", *shares, rank


def _split_lines(found: FittedEstimator) -> Iterator[str]:
    """Format the MAPE and interval coverage of each held-out split."""
    splits = found.estimator.evaluation.splits
    names = list(splits[0].scores)
    heads = ["U(.)" if name == MODEL else name for name in names]
    columns = [(head, f">{len(head) + 2}") for head in heads]
    rows = [
        (f"  {split.split}", *(f"{split.scores[name].mape:.1%}" for name in names), f"{split.coverage:.0%}")
        for split in splits
    ]
    yield from table_lines([("MAPE by held-out split", "<26"), *columns, ("coverage", ">10")], rows)
