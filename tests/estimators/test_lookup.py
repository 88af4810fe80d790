from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_published import a_record, records, write_published

from jmsnas.errors import DeviceError, EstimatorError
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.estimators.lookup import find_device_model
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.space import Layer
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

BLOCKS = load_space("digits").blocks()[:9:2] + load_space("digits").blocks()[20:50:9]
PUBLISHED = "some-board-cpu-2-threads"


def table(*keys: RuntimeKey) -> LatencyTable:
    return simulated_table("pi4", BLOCKS, keys or (RuntimeKey("torch"),))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Has a table of pi4, and of a board a published table was fitted to. Do not write to it."""
    folder = tmp_path_factory.mktemp("basis")
    found = Workspace(folder / "workspace")
    write_table(found.table("pi4"), table())
    rows = [*records(9), a_record(activation="swish")]
    fit_tables(found, tables=[write_published(folder / "p.parquet", rows)])
    return found


def test_a_table_is_fitted_once_and_loaded_after_that(workspace: Workspace) -> None:
    told: list[str] = []
    first = find_device_model(workspace, "pi4", progress=lambda done, total, what: told.append(what))
    assert told and (first.estimator.key, first.setting, first.correction) == (RuntimeKey("torch"), "", None)
    assert first.table == table() and set(first.layers) == {block.layer for block in BLOCKS}
    told.clear()
    again = find_device_model(workspace, "pi4", progress=lambda done, total, what: told.append(what))
    assert not told and again.estimator.rows == first.estimator.rows


def test_a_table_that_moved_on_is_fitted_anew(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_table(workspace.table("pi4"), table())
    first = find_device_model(workspace, "pi4")
    rows = tuple(replace(row, median_s=row.median_s * 2, high_s=row.high_s * 2) for row in table().rows)
    write_table(workspace.table("pi4"), replace(table(), rows=rows))
    assert find_device_model(workspace, "pi4").estimator.rows != first.estimator.rows


def test_an_estimator_speaks_where_there_is_no_table(tmp_path: Path) -> None:
    write_table(tmp_path / "far.parquet", table())
    workspace = Workspace(tmp_path / "workspace")
    fit_tables(workspace, tables=[tmp_path / "far.parquet"])
    basis = find_device_model(workspace, "pi4", "torch")
    assert (
        not workspace.table("pi4").exists() and basis.table.rows == read_table(tmp_path / "far.parquet").rows
    )


def test_a_published_table_speaks_with_all_its_geometries(workspace: Workspace) -> None:
    basis = find_device_model(workspace, PUBLISHED)
    assert basis.setting == "Some board, CPU, 2 threads, TensorFlow Lite"
    assert len(basis.table.rows) == 9 and Layer(16, 24, 1, 14, 14) in basis.layers
    assert basis.correction is None and basis.estimator.key.label == "onnxruntime-t2-b1-f32"


def test_the_key_is_the_one_asked_for(tmp_path: Path) -> None:
    workspace, keys = Workspace(tmp_path), (RuntimeKey(), RuntimeKey("torch"))
    write_table(workspace.table("pi4"), table(*keys))
    assert find_device_model(workspace, "pi4").estimator.key == RuntimeKey()
    assert find_device_model(workspace, "pi4", "torch").estimator.key == RuntimeKey("torch")
    assert find_device_model(workspace, "pi4", label="torch-t1-b1-f32").estimator.key == RuntimeKey("torch")
    with pytest.raises(
        EstimatorError,
        match="pi4 has no rows for torch-t4-b1-f32: expected onnxruntime-t1-b1-f32 or torch-t1-b1-f32, with",
    ):
        find_device_model(workspace, "pi4", label="torch-t4-b1-f32")


def test_what_is_unknown_is_one_line(workspace: Workspace) -> None:
    with pytest.raises(
        EstimatorError, match="has no rows for torch-t1-b1-f32: expected onnxruntime-t2-b1-f32"
    ):
        find_device_model(workspace, PUBLISHED, "torch")
    with pytest.raises(DeviceError, match=f"unknown device 'board': expected {PUBLISHED}$"):
        find_device_model(workspace, "board")
    with pytest.raises(DeviceError, match="unknown device 'jetsn': expected jetson"):
        find_device_model(workspace, "jetsn")
    with pytest.raises(DeviceError, match="unknown device 'qq': expected cloud or cloud-cpu or jetson or"):
        find_device_model(workspace, "qq")
    with pytest.raises(DeviceError, match="device name '../pi4' must be"):
        find_device_model(workspace, "../pi4")
    with pytest.raises(
        EstimatorError,
        match="local has neither a table nor an estimator in .*Run: jmsnas profile --device local",
    ):
        find_device_model(workspace, "local")
    with pytest.raises(
        EstimatorError, match="pi4 has no rows for ../../x: expected torch-t1-b1-f32, with --key"
    ):
        find_device_model(workspace, "pi4", label="../../x")
