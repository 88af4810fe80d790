import json
from pathlib import Path

import pytest
from deployments import fleet
from profiling_jobs import run_job_here
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.profile import ProfileOptions
from jmsnas.profiler.table.parquet import read_table
from jmsnas.workspace import Workspace


def typed(workspace: Path, *words: str) -> tuple[int, str, str]:
    given = ["profile", "--workspace", str(workspace), "--runtime", "torch", *words]
    found = CliRunner().invoke(app, given)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.stdout, found.stderr


def test_few_blocks_of_a_simulated_device(tmp_path: Path) -> None:
    code, out, err = typed(tmp_path, "--device", "pi4", "--blocks", "8")
    assert code == 0 and "SIMULATED: pi4 was not measured" in err
    assert "torch-t1-b1-f32             8 rows  SIMULATED" in out
    assert "torch-t1-b1-f32: U(.) from 8 blocks of " in out
    assert "    expected error (MAPE) on layer geometries that were not measured: " in out and "% +- " in out
    assert out.endswith("Next: jmsnas search --topology chain\n")
    # 53 of digits and 16 off the grid, of which 8 are measured.
    assert "61 blocks were not measured: U(.) predicts them" in out
    assert len(read_table(tmp_path / "tables" / "pi4.parquet").rows) == 8
    folder = tmp_path / "estimators" / "pi4" / "torch-t1-b1-f32"
    assert f"    {folder}: card.md, predicted.png, geometries.png\n" in out
    assert "![Predicted against measured](predicted.png)" in (folder / "card.md").read_text()


def test_until_an_error_is_reached(tmp_path: Path) -> None:
    words = ["--device", "pi4", "--until-mape", "2", "--blocks", "5", "--json"]
    code, out, _ = typed(tmp_path, *words)
    (device,) = json.loads(out)["devices"]
    (sure,) = device["few_shot"]
    assert code == 0 and sure["reached"] and sure["stop_reason"] == "2 % is reached"
    assert sure["mape"] <= 0.02 and sure["rows"] == device["keys"][0]["rows"] > 5
    # The same command again finds all there, and says the same.
    assert json.loads(typed(tmp_path, *words)[1])["devices"][0]["few_shot"] == [sure]
    code, out, _ = typed(tmp_path, "--device", "pi4", "--blocks", "5")
    assert code == 0 and f"U(.) from {sure['rows']} blocks" in out, "rows are never thrown away"


def test_plan_is_shown_and_nothing_measured(tmp_path: Path) -> None:
    code, out, _ = typed(tmp_path, "--blocks", "20", "--until-mape", "4.5", "--parts", "2", "--dry-run")
    assert code == 0 and not (tmp_path / "tables").exists()
    assert "   20  the most informative blocks, of 69\n    2  whole models" in out
    assert "local: to measure 22 in torch-t1-b1-f32" in out
    # 49 blocks at 0.6 s, a tenth again.
    assert "then up to 49 more" in out and "on unseen layers is 4.5 %: at most 32 s per runtime" in out
    code, out, _ = typed(tmp_path, "--until-mape", "5", "--dry-run", "--json")
    document = json.loads(out)
    assert (document["until_mape"], document["more_blocks"]) == (0.05, 49)
    assert document["more_at_most_s"] == pytest.approx(1.1 * 0.6 * 49)


def test_measured_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ProfileOptions.__init__.__kwdefaults__, "run_job", run_job_here)
    code, out, err = typed(tmp_path, "--blocks", "6", "--off-grid", "0", "--parts", "3", "--budget", "300ms")
    assert code == 0 and "local: to measure 9 in torch-t1-b1-f32" in err
    assert "U(.) from 6 blocks of " in out and "47 blocks were not measured" in out
    # Sums of six rows and U(.) against three whole networks.
    assert "3 whole models: sums of blocks are " in out
    table = read_table(tmp_path / "tables" / "local.parquet")
    assert (len(table.rows), len(table.parts)) == (6, 3)


def test_measured_by_an_agent(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with fleet(tmp_path, ("pi4",)) as one:
        agent = one.leader.agents["pi4"]
        workspace.devices_file.write_text(
            f'[[device]]\nname = "pi4"\naddress = "{agent.address}"\nfingerprint = "{agent.fingerprint}"\n'
        )
        words = [
            "--device",
            "pi4",
            "--blocks",
            "6",
            "--off-grid",
            "0",
            "--parts",
            "0",
            "--budget",
            "300ms",
        ]
        found = CliRunner().invoke(app, ["profile", "--workspace", str(tmp_path), *words])
    assert found.exit_code == 0, found.stderr
    assert "by its agent at 127.0.0.1:" in found.stderr and "U(.) from 6 blocks of " in found.stdout
    assert len(read_table(workspace.table("pi4")).rows) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--blocks", "3"],
            "cannot fit U(.) to 3 blocks and estimate its error: expected --blocks 5 or more",
        ),
        (["--until-mape", "0"], "got --until-mape 0: expected a mean error in percent"),
        (["--blocks", "20", "--off-grid", "4001"], "blocks to choose from: expected 4000 or fewer"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(tmp_path: Path, words: list[str], message: str) -> None:
    code, out, err = typed(tmp_path, *words)
    assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1
