from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_published import records, write_published

from jmsnas.errors import DeviceError, EstimatorError
from jmsnas.estimators.external import external_estimators, external_folder, single_image_key
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

BOARD = "some-board-cpu-2-threads"
BLOCKS = load_space("digits").blocks()[:60:6]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Has U(.) of published tables: of a board, and of a Pi 4 as a built-in device is named. Do not write."""
    folder = tmp_path_factory.mktemp("standing")
    found = Workspace(folder / "workspace")
    pi4 = records(9, device="pi4", processor=None)
    tables = [write_published(folder / "a.parquet", records(9)), write_published(folder / "b.parquet", pi4)]
    fit_tables(found, tables=tables)
    return found


def of_kind(kind: str, device: str = "pi4") -> LatencyTable:
    table = simulated_table("pi4", BLOCKS, [RuntimeKey()])
    rows = tuple(replace(row, kind=kind, device=device) for row in table.rows)
    return LatencyTable(device, rows, table.environments)


def test_the_one_key_of_a_published_device_answers_for_single_images(workspace: Workspace) -> None:
    folder = external_folder(workspace, BOARD, "onnxruntime")
    assert folder == workspace.estimator(BOARD, "onnxruntime-t2-b1-f32")
    with pytest.raises(
        EstimatorError,
        match="some-board-cpu-2-threads was fitted for onnxruntime-t2-b1-f32, the "
        "network asks for one image a "
        'call under torch: expected runtime = "onnxruntime" beside it in the network file',
    ):
        external_folder(workspace, BOARD, "torch")


def test_what_was_published_comes_before_what_is_simulated(workspace: Workspace) -> None:
    own = workspace.estimator("pi4", RuntimeKey().label)
    assert external_folder(workspace, "pi4", "onnxruntime") == own
    assert external_estimators(workspace, "pi4", of_kind("simulated")) == {RuntimeKey().label: own}
    # Nobody published it for torch: that is simulated.
    assert external_folder(workspace, "pi4", "torch") is None


def test_what_was_measured_here_speaks_for_itself(workspace: Workspace) -> None:
    assert (
        external_estimators(workspace, "pi4", of_kind("measured"))
        == external_estimators(workspace, "pi4", of_kind("imported"))
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


def test_nothing_is_there(workspace: Workspace) -> None:
    assert (
        external_folder(workspace, "cloud", "onnxruntime")
        is external_folder(workspace, "new", "torch")
        is None
    )
    with pytest.raises(DeviceError, match="device name '../x' must be"):
        external_folder(workspace, "../x", "torch")


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
