import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from synthetic_published import a_record, records, write_published
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.estimators.store.estimator import load_estimator
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

BLOCKS = load_space("digits").blocks()[:9:2] + load_space("digits").blocks()[20:50:10]


def typed(workspace: Path, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["fit-estimator", "--workspace", str(workspace), *words])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


def profiled(workspace: Path, *devices: str) -> Path:
    for device in devices:
        table = simulated_table(device, BLOCKS, [RuntimeKey("torch")])
        write_table(Workspace(workspace).table(device), table)
    return workspace


def test_every_table_is_fitted_and_told(tmp_path: Path) -> None:
    code, out, err = typed(profiled(tmp_path, "pi4", "jetson"))
    assert code == 0
    for device in ("pi4", "jetson"):
        assert f"{device}  torch-t1-b1-f32  8 rows of 4 geometries, SIMULATED\n" in out
        assert f"SIMULATED: {device} was not measured" in err
        folder = Workspace(tmp_path).estimator(device, "torch-t1-b1-f32")
        assert f"{folder}: card.md, predicted.png, geometries.png" in out
        assert load_estimator(folder).device == device
        assert (folder / "predicted.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "geometries.png").read_bytes().startswith(b"\x89PNG")
    assert out.count("SIMULATED") == 2 and "pi4: only 8 rows, so its errors are rough estimates" in err
    assert out.count("simulated: not evaluated. To measure it, on it: jmsnas profile --device") == 2
    assert "MAPE" not in out and "%" not in out
    assert out.rstrip().endswith("Next: jmsnas predict --help, or jmsnas search --topology chain")


def test_one_device_as_json(tmp_path: Path) -> None:
    code, out, _ = typed(profiled(tmp_path, "pi4", "jetson"), "--device", "pi4", "--json", "--seed", "7")
    (found,) = json.loads(out)["estimators"]
    assert (code, found["device"], found["kind"], found["setting"]) == (0, "pi4", "simulated", "")
    assert found["evaluation"]["rows"] == 8 and found["evaluation"]["seed"] == 7
    assert set(found["evaluation"]) == {"rows", "geometries", "seed", "note"}


def test_table_that_others_measured_is_evaluated(tmp_path: Path) -> None:
    table = simulated_table("pi4", BLOCKS, [RuntimeKey("torch")])
    rows = tuple(replace(row, device="board", kind="imported") for row in table.rows)
    write_table(Workspace(tmp_path).table("board"), LatencyTable("board", rows, table.environments))
    _, out, _ = typed(tmp_path, "--device", "board")
    for words in (
        "MAPE   RMSPE  within 5 %  within 10 %  Spearman",
        "U(.): roofline",
        "line over MACs",
        "nearest block",
        "plain random forest",
        "MAPE by held-out split",
        "unseen channels",
        "coverage of the 90 % interval",
    ):
        assert words in out
    _, out, _ = typed(tmp_path, "--device", "board", "--json")
    (found,) = json.loads(out)["estimators"]
    first, *others = found["evaluation"]["splits"]
    assert first["scores"]["estimator"] == found["evaluation"]["model"]
    assert (first["split"], {judged["split"] for judged in others}) == (
        "unseen geometry",
        {"unseen channels", "random"},
    )
    assert "pairs" not in found["evaluation"] and Path(found["folder"], "card.md").exists()


def test_a_table_file(tmp_path: Path) -> None:
    far = Workspace(profiled(tmp_path / "far", "pi4")).table("pi4")
    code, out, _ = typed(tmp_path / "mine", "--table", str(far))
    assert code == 0 and str(tmp_path / "mine" / "estimators" / "pi4") in out


def test_a_published_table(tmp_path: Path) -> None:
    path = write_published(tmp_path / "p.parquet", [*records(9), a_record(op="pool_fc")])
    code, out, err = typed(tmp_path / "ws", "--table", str(path))
    setting, name = "Some board, CPU, 2 threads, TensorFlow Lite", "some-board-cpu-2-threads"
    assert code == 0
    assert f"{name}  onnxruntime-t2-b1-f32  9 rows of 3 geometries, published: {setting}\n" in out
    assert f"{setting}: left out 1 x pool_fc (no MBConv)\n" in err
    folder = tmp_path / "ws" / "estimators" / name / "onnxruntime-t2-b1-f32"
    assert {path.name for path in folder.iterdir()} == {
        *("table.parquet", "recipe.json", "evaluation.json", "card.md", "predicted.png", "geometries.png")
    }
    code, out, _ = typed(tmp_path / "ws", "--table", str(path), "--json")
    (found,) = json.loads(out)["estimators"]
    assert (found["kind"], found["setting"], found["device"]) == ("published", setting, name)


def test_a_published_table_that_cannot_be_is_one_line_and_exit_2(tmp_path: Path) -> None:
    wrong = records(12)
    wrong[7]["latency_ms"] *= 1000
    for rows, message in (
        (wrong, "does not pass the quality gate, nothing was fitted. units: 1 rows are over 300 times off"),
        (
            [*records(9), *records(9, device="Other")],
            "copied: Some board, CPU, 2 threads and Other, CPU, 2 threads",
        ),
        (records(1), "got 1 MBConvs and identities of 1 layer geometries, expected 3"),
        ([{**row, "latency_ms": 2.0} for row in records(9)], "all 9 rows have the same latency"),
        (
            [{**row, "latency_ms": -1.0} for row in records(9)],
            "got 0 MBConvs and identities of 0 layer geometries",
        ),
        ([{**row, "kernel_size": 0} for row in records(9)], "row 1 is invalid: got kernel size 0"),
    ):
        path = write_published(tmp_path / "p.parquet", rows)
        code, out, err = typed(tmp_path / "ws", "--table", str(path))
        assert (code, out) == (2, "") and message in err.splitlines()[-1]
        assert not (tmp_path / "ws").exists()
    path = write_published(tmp_path / "p.parquet", wrong)
    code, out, err = typed(tmp_path / "ws", "--table", str(path), "--force")
    assert code == 0 and "quality gate: units: 1 rows are over 300 times off" in err


def test_bad_input_is_one_line_and_exit_2(tmp_path: Path) -> None:
    code, out, err = typed(tmp_path)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "no tables in" in err and "run jmsnas profile --device local" in err
    code, _, err = typed(profiled(tmp_path, "pi4"), "--device", "cloud")
    assert code == 2 and "no table of cloud" in err and err.count("\n") == 1
    code, _, err = typed(tmp_path, "--device", "../secret")
    assert code == 2 and "device name '../secret' must be" in err
    (tmp_path / "foreign.parquet").write_bytes(b"PAR1 but not really PAR1")
    code, _, err = typed(tmp_path, "--table", str(tmp_path / "foreign.parquet"))
    assert code == 2 and "is damaged, or not a Parquet file" in err and err.count("\n") == 1
    code, _, err = typed(tmp_path, "--table", str(tmp_path / "nowhere.parquet"))
    assert code == 2 and "cannot read" in err


def test_help_teaches_and_loads_nothing_heavy() -> None:
    assert (
        "jmsnas fit-estimator --device local" in CliRunner().invoke(app, ["fit-estimator", "--help"]).output
    )
    script = (
        "import sys, jmsnas.cli.fit_estimator; "
        "print(sorted({'torch', 'sklearn', 'scipy', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
