import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from profiling_jobs import TINY_SPACE, run_job_here
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.profile import ProfileOptions
from jmsnas.profiler.table.journal import table_lock
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import read_table, write_table

AGENTS = f'[[device]]\nname = "pi4"\naddress = "127.0.0.1:1"\nfingerprint = "{"0" * 64}"\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "tiny.toml").write_text(TINY_SPACE)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without processes of their own, which take seconds to start."""
    monkeypatch.setitem(ProfileOptions.__init__.__kwdefaults__, "run_job", run_job_here)


def typed(workspace: Path, *words: str) -> tuple[int, str, str]:
    given = [
        "profile",
        "--workspace",
        str(workspace),
        "--space",
        "tiny",
        "--off-grid",
        "0",
        "--parts",
        "2",
        *words,
    ]
    found = CliRunner().invoke(app, given)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.stdout, found.stderr


@pytest.mark.usefixtures("in_this_process")
def test_local_in_both_run_times(workspace: Path) -> None:
    code, out, err = typed(workspace, "--budget", "200ms")
    assert code == 0
    assert "onnxruntime-t1-b1-f32       5 rows" in out and "torch-t1-b1-f32             5 rows" in out
    assert f"local: measured, {workspace}/tables/local.parquet" in out
    assert out.count("    noise floor") == 2 and out.count("    trust: ") == 2
    assert "local: to measure 7 in onnxruntime-t1-b1-f32, 7 in torch-t1-b1-f32; about 2" in err
    assert out.endswith("Next: jmsnas fit-estimator\n")
    # The space: stem, mb_k3_e1_skip, mb_k3_e1, identity, head; three networks, of which two are measured.
    table = read_table(workspace / "tables" / "local.parquet")
    assert (len(table.rows), len(table.parts)) == (10, 4)
    assert len(list((workspace / "cache" / "onnx").iterdir())) == 8, (
        "five blocks, the reference, two networks"
    )


def test_simulated_devices_say_so(workspace: Path) -> None:
    code, out, err = typed(workspace, "--device", "jetson", "--device", "pi4", "--runtime", "torch")
    assert code == 0
    for device in ("jetson", "pi4"):
        assert f"SIMULATED: {device} was not measured" in err
        assert f"{device}: simulated, {workspace}/tables/{device}.parquet" in out
    assert out.count("SIMULATED") == 2 and "trust" not in out and "second process" not in out


@pytest.mark.usefixtures("in_this_process")
def test_json_is_one_document(workspace: Path) -> None:
    code, out, _ = typed(workspace, "--json", "--runtime", "torch", "--budget", "200ms")
    (device,) = json.loads(out)["devices"]
    assert code == 0 and device["outcome"] == "measured"
    (key,) = device["keys"]
    assert (key["key"], key["kind"], key["rows"], key["parts"]) == ("torch-t1-b1-f32", "measured", 5, 2)
    assert 0 < key["fastest_s"] <= key["slowest_s"] and 0 < key["half_width"] <= 1.001 * key["relative_ci"]
    assert {*key["trust"]} == {"green", "yellow", "red"} and sum(key["trust"].values()) == 5
    # A row that was disturbed is replaced by the second process, not repeated by it.
    assert 0 <= key["repeated"] <= 7 and (key["gap_median"] is None) == (key["repeated"] == 0)


@pytest.mark.usefixtures("in_this_process")
def test_key_of_its_own_for_every_way_to_run(workspace: Path) -> None:
    words = ["--runtime", "torch", "--layout", "channels_last", "--batch", "2", "--budget", "50ms"]
    code, out, _ = typed(workspace, *words, "--parts", "0")
    assert code == 0 and "torch-t1-b2-f32-channels-last    5 rows" in out
    code, out, _ = typed(workspace, "--timer", "torchprof", "--dry-run", "--parts", "0")
    assert code == 0 and "in torch-t1-b1-f32-torchprof" in out and "onnxruntime" not in out


def test_plan_is_shown_and_nothing_measured(workspace: Path) -> None:
    code, out, _ = typed(workspace, "--dry-run", "--device", "local", "--device", "pi4", "--mobilenets")
    assert code == 0 and not (workspace / "tables").exists()
    assert "    5  every candidate of every distinct layer of tiny\n" in out
    assert "   50  blocks of MobileNet V1, V2 and V3\n" in out and "    2  whole models" in out
    assert "local: to measure 57 in onnxruntime-t1-b1-f32, 57 in torch-t1-b1-f32; about" in out
    assert "pi4: not this host, so to simulate 57 in" in out and "Nothing was measured." in out
    code, out, _ = typed(workspace, "--dry-run", "--json", "--runtime", "torch", "--budget", "60s")
    document = json.loads(out)
    assert [group["rows"] for group in document["groups"]] == [5, 2] and document["rows"] == 7
    (device,) = document["devices"]
    assert device["missing"] == {"torch-t1-b1-f32": 7}
    # The budget, and two processes of 5 s.
    assert device["at_most_s"] == pytest.approx(70.0)


@pytest.mark.usefixtures("in_this_process")
def test_table_of_an_older_version_is_set_aside(workspace: Path) -> None:
    table = workspace / "tables" / "local.parquet"
    write_table(table, LatencyTable("local", (), {}))
    old = pq.read_table(table)
    pq.write_table(old.replace_schema_metadata({**old.schema.metadata, b"jmsnas.schema": b"1"}), table)
    code, out, err = typed(workspace, "--runtime", "torch", "--budget", "50ms")
    assert code == 0 and "torch-t1-b1-f32             5 rows" in out
    assert "has schema 1, this version writes 3: it was renamed to local.parquet.schema1-1" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "toaster"], "unknown device 'toaster': expected one of local,"),
        (["--device", "../x"], "unknown device '../x': expected one of local,"),
        (["--device", "local", "--device", "toaster"], "unknown device 'toaster': expected one of local,"),
        (["--device", "pi4", "--measured-only"], "this host is not pi4, and --measured-only refuses"),
        (["--processor", "tpu"], "unknown processor 'tpu': expected one of cpu, cuda"),
        (["--dtype", "float16"], "cannot measure float16 on the cpu: expected float32, or --processor cuda"),
        (["--timer", "torchprof", "--runtime", "onnxruntime"], "both are for --runtime torch"),
        (["--parts", "-1"], "cannot measure 0 off-grid blocks and -1 models: expected 0 or more of each"),
        (["--runtime", "tflite"], "expected a runtime of onnxruntime, torch"),
        (["--threads", "0"], "with 0 threads"),
        (["--threads", "4096"], "cannot measure 4096 threads on the "),
        (["--batch", "1000000000"], "a batch of 1000000000 needs "),
        (["--budget", "soon"], "'soon' is not a duration"),
        (["--budget", "0s"], "expected numbers above 0. Give a budget such as --budget 60s"),
        (["--space", "mars"], "unknown space 'mars'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(workspace: Path, words: list[str], message: str) -> None:
    code, out, err = typed(workspace, *words)
    assert (code, out) == (2, "")
    *before, last = err.splitlines()
    assert message in last and all(line.startswith("local: to measure ") for line in before)


def test_broken_table_is_left_alone(workspace: Path) -> None:
    table = workspace / "tables" / "local.parquet"
    table.parent.mkdir()
    table.write_text("mine")
    code, _, err = typed(workspace)
    assert code == 2 and "not a Parquet file" in err.splitlines()[-1]
    assert table.read_text() == "mine"


def test_second_profiler_and_unwritable_workspace_are_exit_1(workspace: Path) -> None:
    with table_lock(workspace / "tables" / "local.parquet"):
        code, _, err = typed(workspace)
    assert code == 1 and f"another profiler (process {os.getpid()})" in err
    (workspace / "file").write_text("")
    code, _, err = typed(workspace, "--workspace", str(workspace / "file"), "--space", "digits")
    assert code == 1 and "cannot write" in err.splitlines()[-1]


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


def test_profile_by_an_agent_is_planned_as_measured(workspace: Path) -> None:
    (workspace / "devices.toml").write_text(AGENTS)
    code, out, _ = typed(workspace, "--dry-run", "--device", "pi4", "--parts", "0")
    assert code == 0 and "simulate" not in out
    assert "pi4: to measure 5 in onnxruntime-t1-b1-f32 by its agent at 127.0.0.1:1; about" in out


@pytest.mark.parametrize("device", ["jetson", "laptop", "cloud"])
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--processor", "cpu"]])
def test_a_gpu_is_not_measured_by_an_agent_on_its_cpu(workspace: Path, device: str, more: list[str]) -> None:
    (workspace / "devices.toml").write_text(AGENTS.replace("pi4", device))
    code, out, err = typed(workspace, "--device", device, *more)
    assert code == 2 and not out and err.count("\n") == 1
    assert "is the name of a GPU" in err and f"jmsnas profile --device {device}-cpu" in err
