from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_published import records, write_published

from jmsnas.cli.output.fit_estimator import draw_evaluation, fitted_document, print_fitted
from jmsnas.errors import StorageError
from jmsnas.estimators.fit_tables import FittedEstimator, fit_tables
from jmsnas.workspace import Workspace


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> FittedEstimator:
    folder = tmp_path_factory.mktemp("fitted")
    (found,) = fit_tables(Workspace(folder), tables=[write_published(folder / "p.parquet", records(9))])
    return found


def test_columns_stand_under_their_heads(fitted: FittedEstimator, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = fitted.estimator.evaluation
    model = replace(evaluation.model, mape=0.0123, rmspe=12.609, within_5=1.0, within_10=1.0, spearman=None)
    first = replace(evaluation.splits[0], scores={**evaluation.splits[0].scores, "estimator": model})
    other = replace(evaluation, splits=(first, *evaluation.splits[1:]))
    print_fitted(replace(fitted, estimator=replace(fitted.estimator, evaluation=other)))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith(
        "some-board-cpu-2-threads  onnxruntime-t2-b1-f32  9 rows of 3 geometries, published"
    )
    head = next(line for line in lines if "RMSPE" in line)
    own = lines[lines.index(head) + 1]
    for name, cell in (("MAPE", "1.2%"), ("RMSPE", "1260.9%"), ("within 5 %", "100%"), ("Spearman", "-")):
        assert own[: head.index(name) + len(name)].endswith(cell)
    splits = next(line for line in lines if line.startswith("  MAPE by held-out split"))
    assert splits.endswith("coverage") and "plain random forest" in splits
    assert "only 9 rows, so its errors are rough estimates" in err


def test_a_document_has_the_whole_evaluation_but_single_rows(fitted: FittedEstimator) -> None:
    document = fitted_document(fitted)
    assert document["kind"] == "published" and document["folder"] == str(fitted.folder)
    assert document["evaluation"]["splits"][0]["scores"]["nearest block"]["mape"] > 0
    assert "pairs" not in document["evaluation"]


def test_pictures_that_cannot_be_written_are_a_failed_run(fitted: FittedEstimator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        draw_evaluation(replace(fitted, folder=tmp_path / "file"))
