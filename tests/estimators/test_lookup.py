import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_published import a_record, records, write_published

from jmsnas.errors import DeviceError, EstimatorError
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.estimators.lookup import (
    current_estimator,
    external_estimators,
    external_folder,
    find_device_model,
    serving_model,
    single_image_key,
)
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
    folder = tmp_path_factory.mktemp("lookup")
    found = Workspace(folder / "workspace")
    write_table(found.table("pi4"), table())
    rows = [*records(9), a_record(activation="swish")]
    fit_tables(found, tables=[write_published(folder / "p.parquet", rows)])
    return found


def test_a_table_is_fitted_once_and_loaded_after_that(workspace: Workspace) -> None:
    messages: list[str] = []
    first = find_device_model(workspace, "pi4", progress=lambda done, total, what: messages.append(what))
    assert messages and (first.estimator.key, first.setting, first.correction) == (
        RuntimeKey("torch"),
        "",
        None,
    )
    assert first.table == table() and set(first.layers) == {block.layer for block in BLOCKS}
    messages.clear()
    again = find_device_model(workspace, "pi4", progress=lambda done, total, what: messages.append(what))
    assert not messages and again.estimator.rows == first.estimator.rows


def test_a_changed_table_is_fitted_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_table(workspace.table("pi4"), table())
    first = find_device_model(workspace, "pi4")
    rows = tuple(replace(row, median_s=row.median_s * 2, high_s=row.high_s * 2) for row in table().rows)
    write_table(workspace.table("pi4"), replace(table(), rows=rows))
    assert find_device_model(workspace, "pi4").estimator.rows != first.estimator.rows


def test_an_estimator_is_used_where_there_is_no_table(tmp_path: Path) -> None:
    write_table(tmp_path / "far.parquet", table())
    workspace = Workspace(tmp_path / "workspace")
    fit_tables(workspace, tables=[tmp_path / "far.parquet"])
    model = find_device_model(workspace, "pi4", "torch")
    assert (
        not workspace.table("pi4").exists() and model.table.rows == read_table(tmp_path / "far.parquet").rows
    )


def test_a_published_table_is_used_with_all_its_geometries(workspace: Workspace) -> None:
    model = find_device_model(workspace, PUBLISHED)
    assert model.setting == "Some board, CPU, 2 threads, TensorFlow Lite"
    assert len(model.table.rows) == 9 and Layer(16, 24, 1, 14, 14) in model.layers
    assert model.correction is None and model.estimator.key.label == "onnxruntime-t2-b1-f32"


def test_the_wanted_key_is_used(tmp_path: Path) -> None:
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


def measured_as(device: str, *keys: RuntimeKey) -> LatencyTable:
    rows = tuple(replace(row, device=device, kind="measured") for row in table(*keys).rows)
    return LatencyTable(device, rows, {})


def test_rows_of_a_cpu_are_not_those_of_a_gpu(tmp_path: Path) -> None:
    workspace, key = Workspace(tmp_path), RuntimeKey()
    write_table(workspace.table("jetson"), measured_as("jetson", key))
    expected = (
        r"the rows of jetson are of a CPU \(onnxruntime-t1-b1-f32\), while its name is that of a GPU "
        r".*run jmsnas profile --device jetson; for its CPU jmsnas profile --device jetson-cpu, with that "
        "name in the topology; or delete tables/jetson.parquet"
    )
    for find in (
        lambda: find_device_model(workspace, "jetson"),
        lambda: find_device_model(workspace, "jetson", label=key.label),
        lambda: serving_model(workspace, "jetson", "onnxruntime"),
        lambda: external_folder(workspace, "jetson", "onnxruntime"),
        lambda: fit_tables(workspace, ["jetson"]),
    ):
        with pytest.raises(EstimatorError, match=expected):
            find()
    # Beside rows of the GPU they are left out; under the name of a CPU they serve.
    gpu = replace(key, processor="cuda")
    both = [*measured_as("jetson", key).rows]
    write_table(
        workspace.table("jetson"),
        LatencyTable("jetson", (*both, *(replace(row, key=gpu) for row in both)), {}),
    )
    assert find_device_model(workspace, "jetson").estimator.key == gpu
    with pytest.raises(EstimatorError, match="jetson has no rows for .*-f32: expected .*-cuda"):
        find_device_model(workspace, "jetson", label=key.label)
    write_table(workspace.table("jetson-cpu"), measured_as("jetson-cpu", key))
    assert find_device_model(workspace, "jetson-cpu").estimator.key == key


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


def test_it_is_fitted_again_where_the_table_changed(simulated_workspace: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(Path(shutil.copytree(simulated_workspace.folder, tmp_path / "workspace")))
    table = read_table(workspace.table("pi4"))
    (key,) = table.keys
    record = workspace.estimator("pi4", key.label) / "recipe.json"
    before = record.stat().st_mtime_ns
    block = table.rows[0].block
    known = current_estimator(workspace, "pi4", table, key).rows[block].median_s
    assert record.stat().st_mtime_ns == before
    slower = replace(table.rows[0], median_s=2 * known, low_s=2 * known, high_s=2 * known)
    moved = replace(table, rows=(slower, *table.rows[1:]))
    assert current_estimator(workspace, "pi4", moved, key).predict_s([block])[0] == 2 * known
    assert record.stat().st_mtime_ns > before


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Has U(.) of published tables: of a board, and of a Pi 4 as a built-in device is named. Do not write."""
    folder = tmp_path_factory.mktemp("external")
    found = Workspace(folder / "workspace")
    pi4 = records(9, device="pi4", processor=None)
    tables = [write_published(folder / "a.parquet", records(9)), write_published(folder / "b.parquet", pi4)]
    fit_tables(found, tables=tables)
    return found


def of_kind(kind: str, device: str = "pi4") -> LatencyTable:
    table = simulated_table("pi4", load_space("digits").blocks()[:60:6], [RuntimeKey()])
    rows = tuple(replace(row, kind=kind, device=device) for row in table.rows)
    return LatencyTable(device, rows, table.environments)


def test_the_one_key_of_a_published_device_answers_for_single_images(external: Workspace) -> None:
    folder = external_folder(external, PUBLISHED, "onnxruntime")
    assert folder == external.estimator(PUBLISHED, "onnxruntime-t2-b1-f32")
    with pytest.raises(
        EstimatorError,
        match="some-board-cpu-2-threads was fitted for onnxruntime-t2-b1-f32, the "
        "topology needs one image per "
        'call under torch: expected runtime = "onnxruntime" in the topology file',
    ):
        external_folder(external, PUBLISHED, "torch")


def test_published_estimators_come_before_simulation(external: Workspace) -> None:
    own = external.estimator("pi4", RuntimeKey().label)
    assert external_folder(external, "pi4", "onnxruntime") == own
    assert external_estimators(external, "pi4", of_kind("simulated")) == {RuntimeKey().label: own}
    # Nobody published it for torch: that is simulated.
    assert external_folder(external, "pi4", "torch") is None


def test_a_measured_table_is_used_itself(external: Workspace) -> None:
    assert (
        external_estimators(external, "pi4", of_kind("measured"))
        == external_estimators(external, "pi4", of_kind("imported"))
        == {}
    )


def test_a_simulated_estimator_gives_way_to_a_new_simulation(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    for name in ("pi4", "board"):
        write_table(tmp_path / f"{name}.parquet", of_kind("simulated", name))
    fit_tables(workspace, tables=[tmp_path / "pi4.parquet", tmp_path / "board.parquet"])
    assert external_folder(workspace, "pi4", "onnxruntime") is None
    # Of a device that cannot be simulated here it speaks, and is marked.
    assert external_folder(workspace, "board", "onnxruntime") == workspace.estimator(
        "board", RuntimeKey().label
    )


def test_devices_without_external_estimators(external: Workspace) -> None:
    assert (
        external_folder(external, "cloud", "onnxruntime") is external_folder(external, "new", "torch") is None
    )
    with pytest.raises(DeviceError, match="device name '../x' must be"):
        external_folder(external, "../x", "torch")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["onnxruntime-t1-b1-f32", "onnxruntime-t4-b1-f32"], "onnxruntime-t1-b1-f32"),
        (["onnxruntime-t4-b1-f32", "torch-t1-b1-f32"], "onnxruntime-t4-b1-f32"),
        (["onnxruntime-t4-b1-f32", "onnxruntime-t2-b1-f32"], None),
        (["onnxruntime-t1-b8-f32", "onnxruntime-t1-b16-f32"], None),
        (["onnxruntime-t1-b1-f32-cuda"], "onnxruntime-t1-b1-f32-cuda"),
    ],
)
def test_which_key(labels: list[str], found: str | None) -> None:
    assert single_image_key(labels, "onnxruntime-t1-b1-f32") == found
