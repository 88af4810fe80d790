import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app

runner = CliRunner()


def test_a_model_is_measured_then_split(tmp_path: Path) -> None:
    folder = ["--workspace", str(tmp_path)]
    asked = ["profile", "--model", "alexnet", "--size", "64", "--budget", "300ms", "--json", *folder]
    result = runner.invoke(app, asked)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    # Five convolutions, three poolings, one more before the dense layers, which are three.
    assert document["units"] == 12 and 0 < document["sum_s"] < 1 and document["runtime"] == "torch"
    assert Path(document["file"]).parent == tmp_path / "models" / "local"
    assert re.fullmatch("alexnet-3x64x64-[0-9a-f]{8}-torch.json", Path(document["file"]).name)
    asked = ["split", "alexnet", "--size", "64", "--topology", "desk", "--json", "--policy", "relay", *folder]
    result = runner.invoke(app, asked)
    found = json.loads(result.stdout)
    assert found["devices"][0]["provenance"].startswith("measured: the model's own 12 units")
    assert [device["simulated"] for device in found["devices"]] == [False, True, True, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "alexnet", "--device", "pi4"], "this host is not pi4: the units of a model are"),
        (
            ["--model", "alexnet", "--device", "jetson"],
            "jetson is the name of a GPU, and the units of a model",
        ),
        (["--model", "alexnet", "--batch", "8"], "got --batch with --model: expected one device, and only"),
        (["--model", "alexnet", "--dry-run", "--dtype", "float16"], "got --dtype and --dry-run with --model"),
        (["--model", "alexnet", "--device", "local", "--device", "pi4"], "got several --device with --model"),
        (["--model", "alexnext"], "unknown model 'alexnext': nearest are alexnet"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    result = runner.invoke(app, ["profile", *words, "--workspace", str(tmp_path)])
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr
