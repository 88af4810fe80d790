import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from synthetic_published import a_record, records, write_published

from jmsnas.errors import EstimatorError
from jmsnas.estimators.published.estimator import (
    fit_published,
    load_published,
    published_layers,
    published_table,
)
from jmsnas.estimators.published.table import PublishedRows, read_published
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.estimators.store.layout import is_published
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space import STEM, Block, Candidate, Layer

FORTY = {"in_channels": 40, "out_channels": 40}
# Blocks of ours, one that stands twice with two latencies, and blocks that are none of ours.
ROWS = [
    *records(12),
    *(a_record(**FORTY, latency_ms=factor * a_record(**FORTY)["latency_ms"]) for factor in (0.9998, 1.0002)),
    *(a_record(height=size, width=size, activation="swish") for size in (10, 20)),
]
TWICE = Block(Candidate(3, 3), Layer(40, 40, 1, 14, 14))
OTHER = [Block(Candidate(5, 4), Layer(20, 28, 1, 12, 12)), Block(Candidate(3, 3), Layer(64, 640, 1, 99, 99))]


def rows_of(tmp_path: Path, rows: list[dict[str, object]]) -> PublishedRows:
    (found,) = read_published(write_published(tmp_path / "t.parquet", rows))
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Estimator, Path]:
    workspace = tmp_path_factory.mktemp("published")
    return fit_published(rows_of(workspace, ROWS), workspace / "estimator"), workspace / "estimator"


def test_it_is_fitted_to_every_block_and_knows_who_it_is(stored: tuple[Estimator, Path]) -> None:
    estimator, folder = stored
    assert (estimator.device, estimator.key.label) == ("some-board-cpu-2-threads", "onnxruntime-t2-b1-f32")
    assert (estimator.evaluation.rows, estimator.simulated) == (len(ROWS), False)
    assert {pair.block for pair in estimator.evaluation.pairs} >= {"mb_k3_e3 16->24 10x10 (swish)"}
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["card.md", "evaluation.json", "recipe.json", "table.parquet"]
    assert is_published(folder) and not is_published(folder / "elsewhere")


def test_rows_of_our_blocks_are_used_unless_the_gate_finds_errors(
    stored: tuple[Estimator, Path],
) -> None:
    estimator, _ = stored
    block = Block(Candidate(3, 3), Layer(16, 24, 1, 7, 7))
    assert estimator.predict_s([block])[0] == pytest.approx(ROWS[0]["latency_ms"] / 1e3)
    assert TWICE not in estimator.rows
    (predicted_s,), ((low_s,), (high_s,)) = estimator.predict_s([TWICE]), estimator.interval_s([TWICE])
    assert low_s < predicted_s < high_s


def test_the_latencies_of_a_roofline_are_found_again(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, records(18))
    estimator = fit_published(rows, tmp_path / "estimator")
    expected = a_record(kernel_size=5, expansion=4.0, in_channels=24, out_channels=32, stride=2)
    block = Block(Candidate(5, 4), Layer(24, 32, 2, 14, 14))
    assert estimator.predict_s([block])[0] == pytest.approx(expected["latency_ms"] / 1e3, rel=0.05)
    assert estimator.evaluation.model.mape < 0.05 < estimator.evaluation.flops.mape


def test_loaded_equals_fitted(stored: tuple[Estimator, Path]) -> None:
    estimator, folder = stored
    loaded, rows = load_published(folder)
    assert np.abs(loaded.predict_s(OTHER) / estimator.predict_s(OTHER) - 1).max() < 1e-9
    for mine, theirs in zip(loaded.interval_s(OTHER), estimator.interval_s(OTHER), strict=True):
        assert np.abs(mine / theirs - 1).max() < 1e-9
    assert loaded.extrapolated(OTHER).tolist() == [False, True]
    assert (loaded.device, loaded.key, loaded.rows) == (estimator.device, estimator.key, estimator.rows)
    assert loaded.evaluation == estimator.evaluation
    assert [str(shape) for shape in rows.shapes][-1] == "mb_k3_e3 16->24 20x20 (swish)"


def test_the_rows_that_are_blocks_of_ours(tmp_path: Path) -> None:
    table = published_table(rows_of(tmp_path, ROWS))
    assert len(table.rows) == 13 and {row.kind for row in table.rows} == {"imported"}
    (twice,) = (row for row in table.rows if row.block == TWICE)
    assert (twice.median_s, twice.trust) == (pytest.approx(a_record(**FORTY)["latency_ms"] / 1e3), "red")
    assert table.rows[0].source == "published: Some board, CPU, 2 threads, TensorFlow Lite"
    assert [row.trust for row in table.rows].count("red") == 1


def test_rows_with_gate_errors_are_red(tmp_path: Path) -> None:
    rows = records(15)
    rows[4]["latency_ms"] *= 1000
    table = published_table(rows_of(tmp_path, rows))
    assert table.rows[4].trust == "red" and "units" in table.rows[4].trust_reason


def test_geometries_that_a_layer_of_ours_can_have(tmp_path: Path) -> None:
    layers = published_layers(
        rows_of(tmp_path, [a_record(), a_record(), a_record(stride=3), a_record(stride=2)])
    )
    assert [str(layer) for layer in layers] == ["16->24 14x14", "16->24 14x14 /2"]


@pytest.fixture
def copy(stored: tuple[Estimator, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored[1], tmp_path / "copy"))


def test_what_is_missing_changed_or_damaged_is_one_line_with_the_command(copy: Path) -> None:
    again = "Run: jmsnas fit-estimator --table FILE, with the table it came from"
    rows = pq.read_table(copy / "table.parquet").to_pylist()
    write_published(copy / "table.parquet", rows[1:])
    with pytest.raises(EstimatorError, match=f"table.parquet is not the table that was fitted. {again}"):
        load_published(copy)
    write_published(copy / "table.parquet", [*rows, a_record(processor="GPU")])
    with pytest.raises(EstimatorError, match=f"has no valid table: .*{again}"):
        load_published(copy)
    (copy / "table.parquet").write_bytes(b"no")
    with pytest.raises(EstimatorError, match=f"has no valid table: .*not a Parquet file.*{again}"):
        load_published(copy)
    document = json.loads((copy / "evaluation.json").read_text())
    (copy / "evaluation.json").write_text(json.dumps({**document, "model": {}}))
    with pytest.raises(
        EstimatorError, match=f"evaluation.json has a field that is missing or wrong: .*{again}"
    ):
        load_published(copy)
    (copy / "recipe.json").unlink()
    with pytest.raises(EstimatorError, match=f"recipe.json is missing. {again}"):
        load_published(copy)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_too_few_geometries_are_one_line_and_leave_no_file(tmp_path: Path, count: int) -> None:
    rows = rows_of(tmp_path, [*records(count), a_record(op="pool_fc")])
    geometries = (count + 2) // 3
    with pytest.raises(
        EstimatorError,
        match=rf"cannot fit U\(.\) of Some board, .*: got {count} MBConvs and identities of {geometries} "
        "layer geometries, expected 3 geometries or more",
    ):
        fit_published(rows, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_rows_of_one_latency_are_refused(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [{**record, "latency_ms": 1.5} for record in records(12)])
    with pytest.raises(EstimatorError, match="all 12 rows have the same latency, expected measurements of"):
        fit_published(rows, tmp_path / "none")


def test_an_estimator_of_a_table_of_ours_is_not_published(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", simulated_table("pi4", [TWICE], [RuntimeKey()]))
    (tmp_path / "recipe.json").write_text("{}")
    assert not is_published(tmp_path)


def test_stems_are_predicted_but_nothing_like_them_was_fitted(stored: tuple[Estimator, Path]) -> None:
    stem = Block(STEM, Layer(3, 16, 2, 14, 14, "stem"))
    assert stored[0].predict_s([stem])[0] > 0
