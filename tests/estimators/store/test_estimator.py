import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.regression.features import features
from jmsnas.estimators.store.estimator import (
    Estimator,
    estimator_is_current,
    fit_estimator,
    load_estimator,
)
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space import IDENTITY, Block, Candidate, Layer
from jmsnas.space_file import load_space

KEY = RuntimeKey()
OTHER = [Block(Candidate(5, 4), Layer(20, 28, 2, 6, 6)), Block(IDENTITY, Layer(48, 48, 1, 3, 3))]


def widened(row: BlockRow, half_width: float) -> BlockRow:
    return replace(
        row,
        kind="measured",
        converged=False,
        low_s=row.median_s * (1 - half_width),
        high_s=row.median_s * (1 + half_width),
        ratio_low=row.ratio * (1 - half_width),
        ratio_high=row.ratio * (1 + half_width),
    )


def noisy_table() -> LatencyTable:
    """A simulated table with 5 % of seeded noise; row 0 is far too uncertain to be used, row 1 is not."""
    table = simulated_table("pi4", load_space("digits").blocks(), [KEY, RuntimeKey("torch")])
    noise = np.exp(np.random.default_rng(0).normal(0, 0.05, len(table.rows)))
    rows = [
        replace(row, median_s=row.median_s * n, low_s=row.low_s * n, high_s=row.high_s * n)
        for row, n in zip(table.rows, noise.tolist(), strict=True)
    ]
    return replace(table, rows=(widened(rows[0], 0.9), widened(rows[1], 0.02), *rows[2:]))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Estimator, Path]:
    folder = tmp_path_factory.mktemp("estimators") / "pi4" / KEY.label
    return fit_estimator(noisy_table(), KEY, folder), folder


def test_rows_answer_exactly_as_they_stand(stored: tuple[Estimator, Path]) -> None:
    rows = noisy_table().for_key(KEY).rows[1:]
    blocks = [row.block for row in rows]
    for estimator in (stored[0], load_estimator(stored[1])):
        assert estimator.predict_s(blocks).tolist() == [row.median_s for row in rows]
        low_s, high_s = estimator.interval_s(blocks)
        assert low_s.tolist() == [row.low_s for row in rows]
        assert high_s.tolist() == [row.high_s for row in rows]


def test_a_row_in_doubt_is_predicted(stored: tuple[Estimator, Path]) -> None:
    estimator, row = stored[0], noisy_table().for_key(KEY).rows[0]
    assert row.block not in estimator.rows
    low_s, high_s = estimator.interval_s([row.block])
    predicted_s = estimator.predict_s([row.block])
    assert low_s[0] < predicted_s[0] < high_s[0]
    assert predicted_s[0] == pytest.approx(estimator.regressor.predict(features([row.block]))[0])


def test_blocks_known_and_unknown_keep_their_order(stored: tuple[Estimator, Path]) -> None:
    estimator, known = stored[0], noisy_table().for_key(KEY).rows[5]
    mixed = estimator.predict_s([OTHER[0], known.block, OTHER[1]])
    assert mixed[1] == known.median_s
    assert mixed[[0, 2]].tolist() == estimator.predict_s(OTHER).tolist()
    assert estimator.predict_s([]).shape == (0,)


def test_loaded_equals_fitted(stored: tuple[Estimator, Path]) -> None:
    estimator, folder = stored
    loaded = load_estimator(folder)
    assert np.abs(loaded.predict_s(OTHER) / estimator.predict_s(OTHER) - 1).max() < 1e-9
    for mine, theirs in zip(loaded.interval_s(OTHER), estimator.interval_s(OTHER), strict=True):
        assert np.abs(mine / theirs - 1).max() < 1e-9
    assert (loaded.device, loaded.key, loaded.simulated) == ("pi4", KEY, True)
    assert (loaded.evaluation, loaded.rows) == (estimator.evaluation, estimator.rows)


def test_a_refit_that_is_killed_between_two_files_is_noticed(
    stored: tuple[Estimator, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load with any number of the new files beside the old ones: the old estimator, the new one or none."""
    old, old_folder = stored
    table, written, replace_file = noisy_table(), list[str](), os.replace
    bent = {
        row: {name: getattr(row, name) ** 0.9 for name in ("low_s", "median_s", "high_s")}
        for row in table.rows
    }
    table = replace(table, rows=tuple(replace(row, **seconds) for row, seconds in bent.items()))

    def noted(source: Path, target: Path) -> None:
        written.append(Path(target).name)
        replace_file(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", noted)
        new = fit_estimator(table, KEY, tmp_path / "new")
    assert new.evaluation != old.evaluation and len(written) == 4
    outcomes = []
    for count in range(len(written) + 1):
        folder = tmp_path / str(count)
        shutil.copytree(old_folder, folder)
        for name in written[:count]:
            shutil.copy(tmp_path / "new" / name, folder)
        try:
            found = load_estimator(folder)
        except EstimatorError:
            outcomes.append("none")
            continue
        assert (found.evaluation, found.rows) in [(one.evaluation, one.rows) for one in (old, new)]
        outcomes.append("old" if found.rows == old.rows else "new")
    assert outcomes == ["old", *["none"] * 3, "new"]


def test_a_kept_residual_is_loaded_too(tmp_path: Path) -> None:
    # Large kernels 70 % slower than any sum of work says, in seven widths and sizes.
    blocks = [
        Block(Candidate(k, e, True), Layer(c, c, 1, size, size))
        for k in (3, 5, 7)
        for e in (3, 6)
        for c, size in ((8, 28), (8, 14), (16, 14), (24, 14), (24, 7), (32, 7), (48, 7))
    ]
    table = simulated_table("pi4", blocks, [KEY])
    rows = []
    for row in table.rows:
        slower = row.median_s * (1 + 0.1 * row.block.candidate.kernel_size)
        rows.append(replace(row, median_s=slower, low_s=slower, high_s=slower))
    estimator = fit_estimator(replace(table, rows=tuple(rows)), KEY, tmp_path)
    assert estimator.regressor.choice_.residual
    loaded = load_estimator(tmp_path)
    assert np.abs(loaded.predict_s(OTHER) / estimator.predict_s(OTHER) - 1).max() < 1e-9


def test_the_folder_holds_four_files_and_no_pickle(stored: tuple[Estimator, Path]) -> None:
    names = sorted(path.name for path in stored[1].iterdir())
    assert names == ["card.md", "evaluation.json", "recipe.json", "table.parquet"]
    assert "SIMULATED" in (stored[1] / "card.md").read_text()


@pytest.fixture
def copy(stored: tuple[Estimator, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored[1], tmp_path / "pi4" / KEY.label))


def test_a_changed_table_is_noticed(copy: Path) -> None:
    table = noisy_table()
    assert estimator_is_current(copy, table)
    assert not estimator_is_current(copy, replace(table, rows=table.rows[:-60]))
    assert not estimator_is_current(copy, table.for_key(RuntimeKey("torch")))
    assert not estimator_is_current(copy.parent / "elsewhere", table)
    write_table(copy / "table.parquet", replace(table.for_key(KEY), rows=table.for_key(KEY).rows[1:]))
    assert not estimator_is_current(copy, table)
    with pytest.raises(
        EstimatorError, match="is not the table that was fitted. Run: jmsnas fit-estimator --device pi4"
    ):
        load_estimator(copy)


def test_what_is_missing_or_damaged_is_one_line_with_the_command(copy: Path) -> None:
    with pytest.raises(
        EstimatorError, match="no estimator in .*cloud.*Run: jmsnas fit-estimator --device cloud"
    ):
        load_estimator(copy.parent.parent / "cloud" / KEY.label)
    record, evaluation = copy / "recipe.json", copy / "evaluation.json"
    kept = record.read_text()
    record.write_text(json.dumps({**json.loads(kept), "schema_version": 0}))
    with pytest.raises(EstimatorError, match="has schema 0, this version reads 2. Run: jmsnas fit-estimator"):
        load_estimator(copy)
    record.write_text(kept)
    document = json.loads(evaluation.read_text())
    evaluation.write_text(json.dumps({**document, "model": {}}))
    with pytest.raises(
        EstimatorError,
        match="evaluation.json has a field that is missing or wrong: .*required field `mape`",
    ):
        load_estimator(copy)
    evaluation.write_text(json.dumps(document))
    (copy / "table.parquet").write_bytes(b"no")
    with pytest.raises(EstimatorError, match="has no valid table: .*Run: jmsnas fit-estimator --device pi4"):
        load_estimator(copy)


def test_too_few_geometries_are_one_line_and_leave_no_file(tmp_path: Path) -> None:
    table = noisy_table()
    for count in (1, 2):
        with pytest.raises(
            EstimatorError, match=r"cannot fit U\(.\) of pi4 .*Profile more blocks, with: jmsnas profile"
        ):
            fit_estimator(replace(table, rows=table.rows[:count]), KEY, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(TableError, match="has no rows for torch-t4"):
        fit_estimator(table, RuntimeKey("torch", 4), tmp_path / "none")
