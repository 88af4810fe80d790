import json
from pathlib import Path

import pytest
from deployments import fleet, write_addresses
from profiling_jobs import TINY_SPACE
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.profiler.table.parquet import read_table
from jmsnas.workspace import Workspace

LAB = """name = "lab"
[[device]]
name = "pi4"
[[device]]
name = "board"
table = "pi4"
[[device]]
name = "jetson"
[[device]]
name = "lost"
[[device]]
name = "cloud-cpu"
[[link]]
from = "pi4"
to = "board"
rate = "1Mbit/s"
[[link]]
from = "board"
to = "jetson"
rate = "1Mbit/s"
[[link]]
from = "jetson"
to = "lost"
rate = "1Mbit/s"
[[link]]
from = "lost"
to = "cloud-cpu"
rate = "1Mbit/s"
"""
PAIR = """name = "pair"
[[device]]
name = "pi4"
[[device]]
name = "cloud-cpu"
[[link]]
from = "pi4"
to = "cloud-cpu"
rate = "1Mbit/s"
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for folder, name, text in (("spaces", "tiny", TINY_SPACE), ("topologies", "lab", LAB)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.toml").write_text(text)
    return tmp_path


def profile(workspace: Path, *words: str) -> tuple[int, str, str]:
    fixed = ["--workspace", str(workspace), "--space", "tiny", "--off-grid", "0", "--parts", "0"]
    done = CliRunner().invoke(app, ["profile", *fixed, *words], env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_devices_without_a_table_are_profiled_and_the_others_named(workspace: Path) -> None:
    with fleet(workspace, ("pi4", "jetson")) as two:
        agents = two.leader.agents
        lost = AgentAddress("lost", "127.0.0.1:1", agents["pi4"].fingerprint)
        write_addresses(Workspace(workspace), [*agents.values(), lost])
        code, out, err = profile(workspace, "--topology", "lab", "--budget", "100ms")
        # One agent measures, one device is simulated; the name of a GPU and a lost agent do not stop them.
        assert (
            code == 1 and "pi4: measured, " in out and "cloud-cpu: simulated, " in out and "Next:" not in out
        )
        assert "jmsnas: jetson was not profiled: jetson is the name of a GPU" in err
        assert "jmsnas: lost was not profiled: device lost: " in err
        assert "board" not in out + err
        before = read_table(Workspace(workspace).table("pi4"))
        code, out, err = profile(workspace, "--topology", "lab", "--json")
        document = json.loads(out)
        assert code == 1 and document["devices"] == [] and list(document["failed"]) == ["jetson", "lost"]
        assert read_table(Workspace(workspace).table("pi4")) == before
    # Without these two.
    (workspace / "topologies" / "pair.toml").write_text(PAIR)
    code, out, _ = profile(workspace, "--topology", "pair")
    assert code == 0 and out == (
        "Every device of pair has a latency table of space tiny.\nNext: jmsnas search --topology pair\n"
    )


def test_the_plan_of_a_built_in_topology(workspace: Path) -> None:
    code, out, _ = profile(workspace, "--topology", "desk", "--dry-run", "--json")
    devices = {device["device"]: device for device in json.loads(out)["devices"]}
    assert code == 0 and list(devices) == ["local", "laptop", "jetson", "cloud"]
    # Only the runtime of the topology: parts are not served in torch.
    assert list(devices["local"]["missing"]) == ["onnxruntime-t1-b1-f32"]
    assert devices["local"]["measured_here"] and not (workspace / "tables").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--topology", "lab", "--device", "pi4"), "got --topology with --device, --model or --breakdown"),
        (("--topology", "lab", "--model", "alexnet"), "got --topology with --device, --model or --breakdown"),
        (("--topology", "star"), "unknown topology 'star': expected one of chain, desk, mesh, lab"),
        (("--topology", "mesh"), r"tiny.toml has no [mesh]: expected the layers of a mesh"),
    ],
)
def test_wrong_input_is_one_line(workspace: Path, words: tuple[str, ...], message: str) -> None:
    code, out, err = profile(workspace, *words)
    assert code == 2 and not out and message in err and err.count("\n") == 1
