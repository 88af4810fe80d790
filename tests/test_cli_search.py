import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.nas.config import SearchConfig
from jmsnas.workspace import Workspace


def jmsnas(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch a stage: the command as it is, on a shorter schedule."""

    def config(**given: object) -> SearchConfig:
        return SearchConfig(**given, warmup_epochs=1, search_epochs=1, final_epochs=1)  # type: ignore[arg-type]

    monkeypatch.setattr("jmsnas.nas.config.SearchConfig", config)


def test_search_prints_t_within_the_target_and_marks_the_simulated(
    short: None, simulated_workspace: Workspace
) -> None:
    place = str(simulated_workspace.folder)
    code, out, err = jmsnas("search", "--topology", "chain", "--name", "cli", "--workspace", place)
    assert code == 0, err
    assert re.search(r"T = [\d.]+ ms <= T_const = [\d.]+ ms", out)
    for device in ("pi4", "laptop", "jetson", "cloud"):
        assert re.search(rf"^  {device} +SIMULATED", out, re.MULTILINE)
        assert f"SIMULATED: {device} was not measured" in err
    assert "Cloud only is faster here: at this input size a split does not pay." in out
    assert "Next: jmsnas report cli" in out


def test_search_as_json(short: None, simulated_workspace: Workspace) -> None:
    place = str(simulated_workspace.folder)
    code, out, _ = jmsnas("search", "--name", "j", "--t-const", "2ms", "--workspace", place, "--json")
    document = json.loads(out)
    assert code == 0 and document["target"]["t_const_s"] == 0.002
    assert 0.97 * 0.002 <= document["derived"]["latency_s"] <= 0.002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--t-const", "1us"], "no network meets T_const 1 us on pi4 .*the feasible range is"),
        (["--t-const", "soon"], "'soon' is not a duration: expected a number"),
        (["--topology", "ring"], "unknown topology 'ring': expected chain"),
        (["--network", "star"], "unknown network 'star': expected one of chain, desk"),
        (["--network", "none.toml"], "cannot read none.toml: No such file"),
        (["--space", "mnist"], "unknown space 'mnist': expected one of"),
        (["--space", "imagenet"], "data set digits has 10 classes .*choose another --space or --dataset"),
        (["--dataset", "mnist"], "unknown data set 'mnist': expected one of digits"),
        (["--network", "desk"], "device local has no latency table .*Run: jmsnas profile --device local"),
        (["--train-on", "gpu"], "cannot train on 'gpu': expected auto, cpu or cuda"),
        (["--name", "../up"], "run name '../up' must be 1 to 64 of a-z"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, simulated_workspace: Workspace
) -> None:
    code, out, err = jmsnas("search", *arguments, "--workspace", str(simulated_workspace.folder))
    assert code == 2 and out == ""
    lines = [line for line in err.splitlines() if line.startswith("jmsnas:")]
    assert len(lines) == 1 and re.search(message, lines[0])
    assert "Traceback" not in err


def test_an_unwritable_workspace_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = jmsnas("search", "--workspace", str(tmp_path / "file" / "below"))
    assert code == 1 and "jmsnas: cannot write" in err and "Traceback" not in err
