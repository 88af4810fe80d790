import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.estimators.store import load_estimator
from jmsnas.profiler.parquet import write_table
from jmsnas.profiler.simulated import simulated_table
from jmsnas.profiler.table import Key
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace


def typed(place: Path, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["fit-estimator", "--workspace", str(place), *words])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


def profiled(place: Path, *devices: str) -> Path:
    for device in devices:
        table = simulated_table(device, load_space("digits").blocks()[::3], [Key("torch")])
        write_table(Workspace(place).table(device), table)
    return place


def test_every_table_is_fitted_and_told(tmp_path: Path) -> None:
    code, out, err = typed(profiled(tmp_path, "pi4", "jetson"))
    assert code == 0
    for device in ("pi4", "jetson"):
        assert f"{device}  torch-t1-b1-f32  18 rows of" in out
        assert f"SIMULATED: {device} was not measured" in err
        folder = Workspace(tmp_path).estimator(device, "torch-t1-b1-f32")
        assert str(folder / "card.md") in out and load_estimator(folder).device == device
    assert out.count("SIMULATED") == 2
    for words in ("MAPE  within 10 %  Spearman", "U(.): roofline", "roofline alone", "line over MACs"):
        assert words in out
    assert out.rstrip().endswith("Next: jmsnas search --topology chain")


def test_one_device_as_json(tmp_path: Path) -> None:
    code, out, _ = typed(profiled(tmp_path, "pi4", "jetson"), "--device", "pi4", "--json", "--seed", "7")
    (found,) = json.loads(out)["estimators"]
    assert (code, found["device"], found["kind"]) == (0, "pi4", "simulated")
    assert found["evaluation"]["rows"] == 18 and found["evaluation"]["seed"] == 7
    assert 0 <= found["evaluation"]["model"]["mape"] < 0.2
    assert Path(found["folder"], "card.md").exists()


def test_a_table_file(tmp_path: Path) -> None:
    far = Workspace(profiled(tmp_path / "far", "pi4")).table("pi4")
    code, out, _ = typed(tmp_path / "mine", "--table", str(far))
    assert code == 0 and str(tmp_path / "mine" / "estimators" / "pi4") in out


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
