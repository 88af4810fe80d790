import shutil
from dataclasses import replace
from pathlib import Path

from jmsnas.estimators.store.current import current_estimator
from jmsnas.profiler.table.parquet import read_table
from jmsnas.workspace import Workspace


def test_it_is_fitted_anew_where_the_table_moved_on(simulated_workspace: Workspace, tmp_path: Path) -> None:
    place = Workspace(Path(shutil.copytree(simulated_workspace.folder, tmp_path / "workspace")))
    table = read_table(place.table("pi4"))
    (key,) = table.keys
    recipe = place.estimator("pi4", key.label) / "recipe.json"
    before = recipe.stat().st_mtime_ns
    block = table.rows[0].block
    known = current_estimator(place, "pi4", table, key).rows[block].median_s
    assert recipe.stat().st_mtime_ns == before
    slower = replace(table.rows[0], median_s=2 * known, low_s=2 * known, high_s=2 * known)
    moved = replace(table, rows=(slower, *table.rows[1:]))
    assert current_estimator(place, "pi4", moved, key).predict_s([block])[0] == 2 * known
    assert recipe.stat().st_mtime_ns > before
