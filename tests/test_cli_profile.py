import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.journal import only_writer
from jmsnas.profiler.parquet import read_table

SPACE = """
name = "tiny"
input = [1, 4, 4]
classes = 3
[candidates]
kernel_sizes = [3]
expansions = [1]
identity = true
[stem]
channels = 4
stride = 1
[[stage]]
layers = 1
channels = 4
stride = 1
[head]
channels = 8
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "tiny.toml").write_text(SPACE)
    return tmp_path


def typed(place: Path, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["profile", "--workspace", str(place), "--space", "tiny", *words])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


def test_local_in_both_run_times(place: Path) -> None:
    code, out, _ = typed(place, "--budget", "100ms")
    assert code == 0
    assert "onnxruntime-t1-b1-f32       5 rows" in out and "torch-t1-b1-f32             5 rows" in out
    assert f"local: measured, {place}/tables/local.parquet" in out
    assert out.endswith("Next: jmsnas fit-estimator\n")
    # The space: stem, mb_k3_e1_skip, mb_k3_e1, identity, head.
    assert len(read_table(place / "tables" / "local.parquet").rows) == 10
    assert len(list((place / "cache" / "onnx").iterdir())) == 6, "five blocks and the reference"


def test_simulated_devices_say_so(place: Path) -> None:
    code, out, err = typed(place, "--device", "jetson", "--device", "pi4", "--runtime", "torch")
    assert code == 0
    for device in ("jetson", "pi4"):
        assert f"SIMULATED: {device} was not measured" in err
        assert f"{device}: simulated, {place}/tables/{device}.parquet" in out
    assert out.count("SIMULATED") == 2


def test_json_is_one_document(place: Path) -> None:
    code, out, _ = typed(place, "--json", "--runtime", "torch", "--budget", "50ms")
    (device,) = json.loads(out)["devices"]
    assert code == 0 and device["outcome"] == "measured"
    (key,) = device["keys"]
    assert key["key"] == "torch-t1-b1-f32" and key["rows"] == 5 and 0 < key["fastest_s"] <= key["slowest_s"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "toaster"], "unknown device 'toaster': expected one of local,"),
        (["--device", "../x"], "device name '../x' must be 1 to 64 of a-z"),
        (["--device", "pi4", "--measured-only"], "this host is not pi4, and --measured-only refuses"),
        (["--runtime", "tflite"], "expected a run time of onnxruntime, torch"),
        (["--threads", "0"], "with 0 threads"),
        (["--budget", "soon"], "'soon' is not a duration"),
        (["--budget", "0s"], "expected numbers above 0. Give a budget such as --budget 60s"),
        (["--space", "mars"], "unknown space 'mars'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(place: Path, words: list[str], message: str) -> None:
    code, out, err = typed(place, *words)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_broken_table_is_left_alone(place: Path) -> None:
    table = place / "tables" / "local.parquet"
    table.parent.mkdir()
    table.write_text("mine")
    code, _, err = typed(place)
    assert code == 2 and "not a Parquet file" in err and err.count("\n") == 1
    assert table.read_text() == "mine"


def test_second_profiler_and_unwritable_workspace_are_exit_1(place: Path) -> None:
    with only_writer(place / "tables" / "local.parquet"):
        code, _, err = typed(place)
    assert code == 1 and f"another profiler (process {os.getpid()})" in err
    (place / "file").write_text("")
    code, _, err = typed(place, "--workspace", str(place / "file"), "--space", "digits")
    assert code == 1 and "cannot write" in err and err.count("\n") == 1


def test_stop_by_the_user_says_how_to_go_on(place: Path) -> None:
    words = ["profile", "--workspace", str(place), "--runtime", "torch", "--budget", "60s"]
    code = "from jmsnas.cli import app; app()"
    journal = place / "tables" / "local.parquet.journal"
    with subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not journal.exists():
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert "stopped; what was finished is kept. Go on with: jmsnas profile --workspace" in err
    assert not journal.exists(), "the journal is folded on the way out"


def test_help_teaches_by_example() -> None:
    out = CliRunner().invoke(app, ["profile", "--help"], env={"COLUMNS": "80"}).output
    for example in ("--runtime onnxruntime", "--device pi4 --device jetson", "--measured-only  refuse"):
        assert example in out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from jmsnas.cli import app; sys.argv[1:] = ['--help']\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pyarrow', 'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")
