from pathlib import Path

import pytest
from synthetic_published import a_record, records, write_published

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.fit_tables import FittedEstimator, fit_tables
from jmsnas.estimators.store.estimator import estimator_is_current, load_estimator
from jmsnas.estimators.store.layout import is_published
from jmsnas.profiler.exchange.import_table import ImportRequest, import_table
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

OURS = load_space("digits").blocks()[:9:2] + load_space("digits").blocks()[20:50:9]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def ours(path: Path, device: str = "pi4") -> Path:
    write_table(path, simulated_table(device, OURS, [RuntimeKey("torch")]))
    return path


def fit(workspace: Workspace, *tables: Path, force: bool = False) -> tuple[list[FittedEstimator], list[str]]:
    messages: list[str] = []
    return fit_tables(workspace, tables=tables, force=force, warn=messages.append), messages


def test_every_setting_of_a_published_table_and_tables_of_ours(tmp_path: Path, workspace: Workspace) -> None:
    rows = [*records(9), *records(9, processor="GPU", campaign=3), a_record(op="pool_fc")]
    for record in rows[9:18]:
        record["latency_ms"] *= 1.5
    published, own = write_published(tmp_path / "p.parquet", rows), ours(tmp_path / "far.parquet")
    shares: list[float] = []
    found = fit_tables(
        workspace,
        tables=[own, published, own],
        progress=lambda done, total, _: shares.append(done / total),
        warn=print,
    )
    assert [(each.estimator.device, each.estimator.key.label, each.estimator.origin) for each in found] == [
        ("some-board-cpu-2-threads", "onnxruntime-t2-b1-f32", "published"),
        ("some-board-gpu-campaign-3", "onnxruntime-t1-b1-f32", "published"),
        ("pi4", "torch-t1-b1-f32", "simulated"),
    ]
    assert found[1].setting == "Some board, GPU, TensorFlow Lite, campaign 3" and not found[2].setting
    assert found[0].folder == workspace.estimator("some-board-cpu-2-threads", "onnxruntime-t2-b1-f32")
    assert [is_published(each.folder) for each in found] == [True, True, False]
    assert shares == sorted(shares) and max(shares) <= 1


def test_every_table_of_a_workspace(workspace: Workspace) -> None:
    for device in ("pi4", "jetson"):
        ours(workspace.table(device), device)
    shares: list[float] = []
    found = fit_tables(workspace, progress=lambda done, total, _: shares.append(done / total))
    assert [each.estimator.device for each in found] == ["jetson", "pi4"]
    assert [each.folder for each in found] == [
        workspace.estimator(device, "torch-t1-b1-f32") for device in ("jetson", "pi4")
    ]
    assert shares == sorted(shares) and max(shares) <= 1
    for each in found:
        assert estimator_is_current(each.folder, read_table(workspace.table(each.estimator.device)))
    assert [each.estimator.device for each in fit_tables(workspace, ["pi4"])] == ["pi4"]
    with pytest.raises(EstimatorError, match="no table of cloud in .*: run jmsnas profile --device cloud"):
        fit_tables(workspace, ["cloud"])


def test_a_table_of_ours_from_elsewhere(tmp_path: Path, workspace: Workspace) -> None:
    ((fitted),) = fit_tables(workspace, tables=[ours(tmp_path / "far.parquet")])
    assert load_estimator(fitted.folder).device == "pi4"


def test_it_tells_what_is_left_out_and_what_the_gate_finds(tmp_path: Path, workspace: Workspace) -> None:
    rows = [*records(9), a_record(op="pool_fc", latency_ms=3.0), a_record(latency_ms=-1.0)]
    twice = [*rows, {**rows[0], "latency_ms": 1.2 * rows[0]["latency_ms"]}]
    _, messages = fit(workspace, write_published(tmp_path / "p.parquet", twice))
    assert any(
        text.startswith("quality gate: positive: 1 rows are not a number above 0") for text in messages
    )
    assert any(
        text.startswith("quality gate: duplicate: 1 of 1 blocks measured more than once") for text in messages
    )
    assert messages[-1] == (
        "Some board, CPU, 2 threads, TensorFlow Lite: left out 1 x pool_fc (no MBConv), "
        "1 x no latency above 0"
    )


def test_rows_in_another_unit_are_refused_unless_forced(tmp_path: Path, workspace: Workspace) -> None:
    rows = records(12)
    rows[7]["latency_ms"] *= 1000
    path = write_published(tmp_path / "p.parquet", rows)
    with pytest.raises(
        TableError,
        match="p.parquet does not pass the quality gate, nothing was fitted. units: 1 rows are over 300 "
        "times off .* fit to it as it is: --force",
    ):
        fit(workspace, path)
    assert not (workspace.folder / "estimators").exists()
    assert len(fit(workspace, path, force=True)[0]) == 1


def test_one_device_with_the_figures_of_another_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    path = write_published(tmp_path / "p.parquet", records(9))
    both = write_published(tmp_path / "both.parquet", [*records(9), *records(9, device="Other board")])
    with pytest.raises(
        TableError, match="copied: .* have identical latencies in 9 of 9 common blocks: one is a"
    ):
        fit(workspace, both)
    # What was imported from the same file, under a name that somebody chose, is no reason to refuse it.
    import_table(path, ImportRequest("pixel1"), workspace)
    _, messages = fit(workspace, path)
    assert len(messages) == 1 and "quality gate: copied: " in messages[0] and "and pixel1 (" in messages[0]


def test_what_cannot_be_fitted_is_one_line(tmp_path: Path, workspace: Workspace) -> None:
    for rows, message in (
        (records(1), "got 1 MBConvs and identities of 1 layer geometries, expected 3"),
        ([a_record(op="pool_fc")], "got 0 MBConvs and identities of 0 layer geometries"),
        ([a_record(latency_ms=float("nan"))], "got 0 MBConvs and identities of 0 layer geometries"),
        ([{**record, "latency_ms": 1.0} for record in records(9)], "all 9 rows have the same latency"),
    ):
        with pytest.raises(EstimatorError, match=message):
            fit(workspace, write_published(tmp_path / "p.parquet", rows))
    with pytest.raises(TableError, match="cannot read .*nowhere.parquet"):
        fit(workspace, tmp_path / "nowhere.parquet")
    with pytest.raises(EstimatorError, match="no tables in .*: run jmsnas profile --device local"):
        fit(workspace)


def test_a_table_of_the_workspace_that_was_imported(tmp_path: Path, workspace: Workspace) -> None:
    import_table(write_published(tmp_path / "p.parquet", records(9)), ImportRequest("pixel1"), workspace)
    ((fitted),) = fit_tables(workspace, ["pixel1"])
    assert (fitted.estimator.origin, fitted.setting) == ("imported", "")
    assert [each.estimator.device for each in fit_tables(workspace)] == ["pixel1"]


def test_imported_rows_with_gate_errors_are_not_used(tmp_path: Path, workspace: Workspace) -> None:
    rows = records(12)
    rows[7]["latency_ms"] *= 1000
    wanted = ImportRequest("pixel1", force=True)
    table = import_table(write_published(tmp_path / "p.parquet", rows), wanted, workspace).table
    ((fitted),) = fit_tables(workspace, ["pixel1"])
    assert table.rows[7].trust == "red" and table.rows[7].block not in fitted.estimator.rows
    assert table.rows[2].block in fitted.estimator.rows


def test_it_tells_when_one_takes_the_place_of_the_other(tmp_path: Path, workspace: Workspace) -> None:
    name, path = "some-board-cpu-2-threads", write_published(tmp_path / "p.parquet", records(9))
    assert fit(workspace, path)[1] == []
    import_table(path, ImportRequest(name), workspace)
    messages: list[str] = []
    (own,) = fit_tables(workspace, [name], warn=messages.append)
    assert messages == [f"{name}: replaces the estimator of a published table, as it has its own table now"]
    ((again,), messages) = fit(workspace, path)
    assert again.folder == own.folder
    assert f"{name} has a table in the workspace, whose measurements are used instead" in messages
