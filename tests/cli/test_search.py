import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from synthetic_published import records
from tiny_setup import use_tiny_images
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.deploy.leader.latency_spread import keep_spread, measure_spread
from jmsnas.nas.search.config import RECIPES, Recipe, SearchConfig
from jmsnas.report.report_data import read_report_data
from jmsnas.report.run_page import page
from jmsnas.workspace import Workspace


def jmsnas(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch a stage, with the images of the tiny search: the command as it is, on a shorter schedule."""
    use_tiny_images(monkeypatch)
    config = SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1)
    monkeypatch.setitem(RECIPES, "first-run", Recipe("digits", "digits", config))


def test_search_prints_t_within_the_target_and_marks_the_simulated(
    short: None, simulated_workspace: Workspace
) -> None:
    workspace = str(simulated_workspace.folder)
    code, out, err = jmsnas("search", "--topology", "chain", "--name", "cli", "--workspace", workspace)
    assert code == 0, err
    assert re.search(r"T = [\d.]+ ms <= T_const = [\d.]+ ms", out)
    for device in ("pi4", "laptop", "jetson", "cloud"):
        assert re.search(rf"^  {device} +SIMULATED", out, re.MULTILINE)
        assert f"SIMULATED: {device} was not measured" in err
    assert re.search(r"Cloud only is faster, by .* \(\d+\.\d%\)", out)
    assert "Next: jmsnas report cli" in out


MINE = """
name = "mine"
[[device]]
name = "board"
table = "some-board-cpu-2-threads"
role = "UE"
[[device]]
name = "cloud"
[[link]]
from = "board"
to = "cloud"
rate = "25Mbit/s"
"""


def test_from_a_published_csv_to_a_search_and_its_split(
    short: None, simulated_workspace: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(simulated_workspace.folder, tmp_path / "w")
    workspace, network, table = (str(tmp_path / name) for name in ("w", "mine.toml", "board.csv"))
    Path(network).write_text(MINE)
    rows = records(24)
    with Path(table).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert jmsnas("fit-estimator", "--table", table, "--workspace", workspace)[0] == 0
    code, out, err = jmsnas("search", "--topology", network, "--name", "mine", "--workspace", workspace)
    assert code == 0, err
    assert "PUBLISHED: board was not measured here; U(.) of Some board, CPU, 2 threads, TensorFlow L" in err
    assert "SIMULATED: cloud was not measured" in err and "SIMULATED: some-board" not in err
    assert re.search("^  board +published +", out, re.MULTILINE)
    assert "T is based on published latencies of board, measured by others." in out
    result = json.loads((tmp_path / "w" / "runs" / "mine" / "result.json").read_text())
    assert [its["origin"] for its in result["estimators"].values()] == ["published", "simulated"]
    code, out, err = jmsnas("split", "mine", "--workspace", workspace, "--json")
    board, cloud = json.loads(out)["devices"]
    assert (board["published"], board["simulated"], cloud["published"]) == (True, False, False)
    assert board["provenance"].startswith("published by others: Some board") and "PUBLISHED: board was" in err
    assert "beyond its table by wider intervals" in board["provenance"]
    facts = read_report_data(Workspace(tmp_path / "w"), tmp_path / "w" / "runs" / "mine")
    assert (facts.published, facts.simulated) == (("board",), ("cloud",))
    written = page(facts, (), {})
    assert '<span class="published">published</span>' in written
    assert "Not measured here and not simulated" in written
    assert "24 rows published by others: Some board, CPU, 2 threads, TensorFlow Lite" in written


def test_a_percentile_leaves_a_margin(short: None, simulated_workspace: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(Path(shutil.copytree(simulated_workspace.folder, tmp_path / "w")))
    words = ("search", "--name", "p", "--t-const", "3ms@p95", "--workspace", str(workspace.folder))
    keep_spread(workspace, "chain", measure_spread([1 + n / 1000 for n in range(101)], loopback=True))
    code, out, err = jmsnas(*words)
    assert code == 0, err
    assert (
        "margin below T_const: from the spread of T in the last deployment on loopback (101 requests" in err
    )
    # The 95th percentile is 1.095 / 1.05 times the median.
    assert "p95 of the measured T is to meet 3 ms: T_const leaves a margin of 123.3 us (4.1%)" in out
    target = json.loads((workspace.run("p") / "result.json").read_text())["target"]
    assert target["t_const_s"] == pytest.approx(3e-3 * 1.05 / 1.095) and target["percentile"] == 95
    assert target["t_const_s"] + target["margin_s"] == pytest.approx(3e-3)


def test_search_as_json(short: None, simulated_workspace: Workspace) -> None:
    workspace = str(simulated_workspace.folder)
    code, out, _ = jmsnas("search", "--name", "j", "--t-const", "2ms", "--workspace", workspace, "--json")
    document = json.loads(out)
    assert code == 0 and document["target"]["t_const_s"] == 0.002
    assert 0.97 * 0.002 <= document["derived"]["latency_s"] <= 0.002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--t-const", "1us"], "no architecture meets T_const 1 us on pi4 .*the feasible range is"),
        (["--t-const", "1s@95"], "--t-const 1s@95: expected a percentile from p50 to p99, as in 5ms@p95"),
        (["--t-const", "1s@p95", "--front", "2"], "--front derives models over the feasible range: expected"),
        (["--t-const", "soon"], "'soon' is not a duration: expected a number"),
        (["--network", "chain"], "there is no option --network: .*--topology NAME or --topology FILE"),
        (["--policy", "lazy"], "topology chain has policy 'lazy': expected one of strict, relay, stop-early"),
        (["--split", "free"], "unknown split 'free': expected joint or fixed"),
        (["--input", "png"], "topology chain has input 'png': expected one of uint8, float32"),
        (["--min-layers", "11"], "must run 14 layers together .policy strict and min_layers., space digits"),
        (["--topology", "star"], "unknown topology 'star': expected one of chain, desk"),
        (["--topology", "none.toml"], "cannot read none.toml: No such file"),
        (["--space", "mnist"], "unknown space 'mnist': expected one of"),
        (["--space", "imagenet"], "data set digits has 10 classes .*choose another --space or --dataset"),
        (["--dataset", "mnist"], "unknown data set 'mnist': expected one of digits, fashion-mnist"),
        (["--topology", "desk"], "device local has no latency table .*Run: jmsnas profile --device local"),
        (["--train-on", "gpu"], "cannot train on 'gpu': expected auto, cpu or cuda"),
        (["--constraint", "hope"], "unknown constraint 'hope': expected penalty or multiplier"),
        (["--derive", "best"], "unknown derive 'best': expected constrained or argmax"),
        (["--recipe", "mnist"], "unknown recipe 'mnist': expected one of first-run, fashion-mnist"),
        (["--front", "2", "--t-const", "2ms", "--t-const", "3ms"], "--front derives from one search, got 2"),
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


def test_a_name_that_is_another_searchs(short: None, simulated_workspace: Workspace) -> None:
    words = ("search", "--name", "taken", "--workspace", str(simulated_workspace.folder))
    assert jmsnas(*words)[0] == 0
    code, out, _ = jmsnas(*words)  # finished before: the same result, at once
    assert code == 0 and "Next: jmsnas report taken" in out
    code, _, err = jmsnas(*words, "--seed", "1")
    assert code == 2
    assert "jmsnas: run taken is another search (seed 0, now 1): give another --name, or the options" in err


def test_several_deadlines_side_by_side_and_as_json(short: None, simulated_workspace: Workspace) -> None:
    workspace = str(simulated_workspace.folder)
    words = ("search", "--t-const", "2ms", "--t-const", "2.5ms", "--name", "two", "--workspace", workspace)
    code, out, err = jmsnas(*words)
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["two-1", "two-2"]
    assert re.search(r"two-1 +2 ms +[\d.]+ ms +(9[789]|100)\.\d%", lines[1])
    assert "T is based on SIMULATED latencies of cloud, jetson, laptop, pi4." in out
    assert "Next: jmsnas report two-1" in out
    code, out, _ = jmsnas(*words, "--json")  # finished before: read
    assert code == 0 and [run["name"] for run in json.loads(out)["runs"]] == ["two-1", "two-2"]


def test_a_sweep_of_one_process(short: None, simulated_workspace: Workspace) -> None:
    workspace = str(simulated_workspace.folder)
    code, out, err = jmsnas(
        "sweep", "--seed", "0", "--seed", "1", "--name", "swept", "--workspace", workspace
    )
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["swept-a-1", "swept-b-1"]
    code, _, err = jmsnas("sweep", "--t-const", "1us", "--workspace", workspace)
    assert code == 2 and "no architecture meets T_const 1 us" in err
