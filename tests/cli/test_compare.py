import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mesh_runs import write_mesh_run
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.nas.run_result import RunResult
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.workspace import Workspace

runner = CliRunner()


@pytest.fixture(scope="module")
def workspace(short_run: tuple[Workspace, RunResult], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("compared") / "workspace"
    shutil.copytree(short_run[0].folder, folder)
    return Workspace(folder)


def test_runs_beside_mobilenets(workspace: Workspace, short_run: tuple[Workspace, RunResult]) -> None:
    tree = json.loads((write_mesh_run(workspace, "tree") / "result.json").read_text())
    asked = ["compare", "tree", "short", "--no-train", "--json", "--workspace", str(workspace.folder)]
    # One MobileNet was trained before; the others' cells stay empty.
    path = workspace.folder / "compare" / "digits" / "mobilenet_v2-e3-s0.json"
    path.parent.mkdir(parents=True)
    recipe = {"optimizer": "sgd", "lr": 0.1, "batch_size": 64, "lambda1": 5e-4, "seed": 0, "epochs": 3}
    trained = {"schema_version": 1, "network": "mobilenet_v2", "dataset": "digits", "test_accuracy": 0.5}
    path.write_text(json.dumps({**trained, "recipe": recipe}))
    result = runner.invoke(app, asked)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    derived = short_run[1].derived
    own, cloud, mesh, *rest = document["entries"]
    assert own["latency_s"] == derived.latency_s and own["accuracy"] == short_run[1].accuracy.test
    assert (cloud["method"], cloud["accuracy"]) == ("cloud", own["accuracy"])
    assert (mesh["run"], mesh["topology"], mesh["accuracy"]) == ("tree", "mesh", 0.8)
    assert mesh["latency_s"] == tree["derived"]["latency_s"]
    # 16x8x8 float32 from the UE, 24x4x4 to each of three children and from each of them.
    assert mesh["sent_bytes"] == 4096 + 6 * 1536
    # The searched networks at 224x224, under their policy and (the chain's) in the cloud: latency alone.
    larger = [its for its in rest if its["network"] == "JMSNAS"]
    assert [(its["topology"], its["method"], its["size"]) for its in larger] == [
        ("chain", "searched", 224), ("chain", "cloud", 224), ("mesh", "searched", 224),
    ]  # fmt: skip
    assert all(its["accuracy"] is None and its["latency_s"] > 0.01 for its in larger)
    assert larger[0]["macs"] > 500 * own["macs"] and larger[0]["parameters"] == own["parameters"]
    # 224x224 uint8 over three links.
    assert larger[1]["sent_bytes"] == 3 * 224 * 224
    others = [its for its in rest if its["network"] != "JMSNAS"]
    # Four networks, three methods, at the run's 8x8 and at 224x224.
    assert len(others) == 24 and {its["size"] for its in others} == {8, 224}
    known = {its["network"] for its in others if its["accuracy"] is not None}
    assert known == {"mobilenet_v2"} and all(its["simulated"] for its in others)
    at = {(its["network"], its["method"], its["size"]): its["latency_s"] for its in others}
    for network in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"):
        assert at[network, "hivemind", 224] <= at[network, "neurosurgeon", 224] * (1 + 1e-9)
    folder = workspace.folder / "compare"
    names = ("compare.csv", "compare.html", "fig5.png", "fig5.svg", "fig6.png", "fig6.svg")
    assert all((folder / name).stat().st_size > 500 for name in names)
    rows = list(csv.DictReader(io.StringIO((folder / "compare.csv").read_text())))
    assert len(rows) == 30 and float(rows[0]["latency_s"]) == own["latency_s"] and rows[3]["accuracy"] == ""
    page = (folder / "compare.html").read_text()
    assert "SIMULATED: cloud, jetson, laptop, mbs1, mbs2, mbs3, pi4" in page and "<script" not in page
    assert "224x224 images: latency only" in page and "No energy is shown" in page


def test_only_entries_with_simulated_latencies_are_marked(workspace: Workspace, tmp_path: Path) -> None:
    own = Workspace(Path(shutil.copytree(workspace.folder, tmp_path / "workspace")))
    table = read_table(own.table("pi4"))
    rows = [replace(row, kind="measured", converged=True) for row in table.rows]
    write_table(own.table("pi4"), replace(table, rows=tuple(rows)))
    asked = ["compare", "short", "--no-train", "--workspace", str(own.folder)]
    result = runner.invoke(app, [*asked, "--json"])
    assert result.exit_code == 0, result.stderr
    entries = json.loads(result.stdout)["entries"]
    device, others = ([e for e in entries if (e["method"] == "device") is own] for own in (True, False))
    # The device alone is pi4; the others run layers on simulated devices too.
    assert len(device) == 8 and all(e["latency_s"] and not e["simulated"] for e in device)
    assert all(e["simulated"] for e in others if e["method"] == "cloud")
    printed = runner.invoke(app, asked).stdout
    assert "topology chain: T as in the paper: no cost of calls or hops" in printed
    lines = [line for line in printed.splitlines() if " device " in line]
    assert len(lines) == 8 and not any("SIMULATED" in line for line in lines)


def test_mobilenets_are_trained_as_the_run_was(workspace: Workspace) -> None:
    from jmsnas.datasets.catalog import load_dataset
    from jmsnas.nas.comparison import read_run, training_config
    from jmsnas.nas.train_mobilenet import known_accuracy, train_mobilenet
    from jmsnas.space_file import load_space

    config = training_config(read_run(workspace.run("short")))
    assert config.final_epochs == 3 and config.warmup_epochs == 0
    splits = load_dataset("digits", load_space("digits"), 0)
    found = train_mobilenet(workspace, "mobilenet_v3_small", "digits", splits, config)
    assert 0 <= found <= 1 and known_accuracy(workspace, "mobilenet_v3_small", "digits", config) == found
    # Another recipe is another accuracy.
    from dataclasses import replace

    assert known_accuracy(workspace, "mobilenet_v3_small", "digits", replace(config, lr=0.2)) is None


def test_runs_of_one_topology(workspace: Workspace) -> None:
    if not (workspace.folder / "runs" / "tree").exists():
        write_mesh_run(workspace, "tree")
    options = ["--no-train", "--json", "--workspace", str(workspace.folder)]
    result = runner.invoke(app, ["compare", "--topology", "mesh", *options])
    assert result.exit_code == 0, result.stderr
    entries = json.loads(result.stdout)["entries"]
    assert {entry["run"] for entry in entries} == {"tree", ""}
    assert {entry["topology"] for entry in entries} == {"mesh"}
    small = {(its["network"], its["method"]): its for its in entries if its["size"] == 8}
    assert small["mobilenet_v2", "neurosurgeon"]["latency_s"] > 0
    assert small["mobilenet_v2", "hivemind"]["missing"].startswith("hivemind needs a chain of devices")
    result = runner.invoke(app, ["compare", "short", "--topology", "mesh", *options])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert "run short was searched for other devices and links (topology chain)" in result.stderr
    result = runner.invoke(app, ["compare", "--topology", "desk", *options])
    assert result.exit_code == 2 and "was searched for --topology desk. Run: jmsnas search" in result.stderr
    result = runner.invoke(app, ["compare", "tree", *options])
    assert result.exit_code == 2 and "all runs are on a mesh" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "holds no finished run"),
        ([], "nothing to compare: expected one finished run or more"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    result = runner.invoke(app, ["compare", *words, "--workspace", str(tmp_path)])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and message in result.stderr
