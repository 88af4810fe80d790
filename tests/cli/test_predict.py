import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from profiling_jobs import a_row
from synthetic_published import records, write_published
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.nas.run_result import RunResult
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space import Part
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

DIGITS = load_space("digits")
BLOCKS = DIGITS.blocks()[:9:2] + DIGITS.blocks()[20:50:9]
BOARD = "some-board-cpu-2-threads"


def typed(place: Path, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["predict", "--workspace", str(place), *words])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


def local_table() -> LatencyTable:
    """A table as if measured here: the times of pi4, and four networks a tenth slower than their sums."""
    made = simulated_table("pi4", BLOCKS, [RuntimeKey("torch")])
    rows = tuple(
        replace(
            a_row(row.block), median_s=row.median_s, low_s=0.99 * row.median_s, high_s=1.01 * row.median_s
        )
        for row in made.rows
    )
    parts = tuple(
        replace(
            a_row(Part((row.block,))),
            median_s=1.1 * row.median_s,
            low_s=row.median_s,
            high_s=1.2 * row.median_s,
        )
        for row in rows[1:5]
    )
    return LatencyTable("local", rows, {}, parts)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has tables of local and of pi4 (simulated), and a board of a published table. Do not write to it."""
    folder = tmp_path_factory.mktemp("predict")
    workspace = Workspace(folder / "workspace")
    write_table(workspace.table("local"), local_table())
    write_table(workspace.table("pi4"), simulated_table("pi4", BLOCKS, [RuntimeKey("torch")]))
    fit_tables(workspace, tables=[write_published(folder / "p.parquet", records(9))])
    return workspace.folder


def test_a_block_that_was_measured(place: Path) -> None:
    code, out, _ = typed(place, "--block", str(BLOCKS[1]))
    median_s = local_table().rows[1].median_s
    assert code == 0 and out.startswith(f"{BLOCKS[1]}\nlocal, torch-t1-b1-f32\n")
    assert f"  {median_s * 1e6:.4g} us, 95 % interval of the median {0.99 * median_s * 1e6:.4g} us to" in out
    assert "measured row of this block, here: yellow, not rated" in out


def test_a_block_that_others_measured(place: Path) -> None:
    code, out, _ = typed(place, "--device", BOARD, "--block", "mb_k3_e3", "--in", "16x7x7", "--out", "24")
    assert (
        code == 0
        and f"{BOARD}, onnxruntime-t2-b1-f32, published (Some board, CPU, 2 threads, TensorFlow Lite)" in out
    )
    assert "123.9 us, no interval is known" in out
    assert "measured row of this block, by others: yellow, imported: how it was measured is unknown" in out


def test_a_block_that_is_predicted_and_one_far_outside(place: Path) -> None:
    code, out, _ = typed(place, "--device", BOARD, "--block", "mb_k5_e4", "--in", "16x7x7", "--out", "24")
    assert code == 0 and "90 % interval of a prediction" in out and "OUTSIDE" not in out
    assert "predicted from 9 rows of 3 geometries by roofline" in out
    assert "on unseen layer geometries: MAPE " in out and "nearest geometry in the table: 16->24 7x7" in out
    code, out, _ = typed(place, "--device", BOARD, "--block", "mb_k5_e4", "--in", "512x200x200")
    assert code == 0 and "OUTSIDE the training range: the interval is widened\n" in out
    code, out, _ = typed(place, "--block", "mb_k5_e4", "--in", "512x200x200")
    assert code == 0 and "the interval is widened: profile a --space with such blocks" in out


def test_a_simulated_block_says_so_loudly(place: Path) -> None:
    code, out, err = typed(place, "--device", "pi4", "--runtime", "torch", "--block", str(BLOCKS[1]))
    assert code == 0 and "SIMULATED: pi4 was not measured" in err
    assert "pi4, torch-t1-b1-f32, SIMULATED" in out and "SIMULATED row of this block; no interval" in out
    code, out, _ = typed(place, "--device", "pi4", "--block", "mb_k5_e4", "--in", "16x8x8")
    assert "simulated: not evaluated" in out


def test_a_part_on_two_devices(place: Path) -> None:
    words = ["--block", "mb_k3_e3 16->24 8x8 /2", "--block", "identity 24->24 4x4"]
    code, out, err = typed(place, "--device", "local", "--device", "pi4", *words)
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["local", "pi4", "SIMULATED"]
    assert lines[1].startswith(" 1  mb_k3_e3 16->24 8x8 /2") and lines[3].startswith("    sum")
    assert lines[4].startswith("    corrected") and lines[4].rstrip().endswith("-")
    # Parts of one block have no junctions.
    assert "corrected: 1.100 x sum and " in out
    assert " per junction of blocks, from 4 whole models; 0.0% error on held-out models" in out
    assert "not corrected: a simulated device has no measured whole models" in out
    code, out, _ = typed(place, "--device", BOARD, *words)
    assert "not corrected: the published table has no whole models" in out


def test_a_part_that_was_measured_as_one_call(place: Path) -> None:
    code, out, _ = typed(place, "--json", "--block", str(BLOCKS[1]))
    (found,) = json.loads(out)["devices"]
    row = local_table().parts[0]
    assert found["total"]["row"]["latency_s"] == row.median_s
    assert found["total"]["corrected"]["latency_s"] == pytest.approx(row.median_s)


def test_an_architecture(place: Path) -> None:
    names = ",".join(choices[0].name for choices in DIGITS.choices[1:-1])
    code, out, _ = typed(place, "--arch", names)
    assert code == 0 and "12  head 32->10 2x2 h128" in out and "blocks: " in out


def test_everything_as_json(place: Path) -> None:
    code, out, _ = typed(place, "--json", "--device", BOARD, "--block", "mb_k5_e4", "--in", "512x200x200")
    (found,) = json.loads(out)["devices"]
    (block,) = found["blocks"]
    assert code == 0 and found["setting"] == "Some board, CPU, 2 threads, TensorFlow Lite"
    assert (block["kind"], block["coverage"], block["row"]) == ("extrapolated", 0.9, None)
    assert block["low_s"] < block["latency_s"] < block["high_s"]
    assert (found["simulated"], found["model"]["rows"], found["correction"]) == (False, 9, None)


def test_the_model_of_a_run(short_run: tuple[Workspace, RunResult]) -> None:
    place, _ = short_run
    code, out, err = typed(place.folder, "--run", "short")
    assert code == 0 and "SIMULATED: " in err
    assert " on cloud: sum" in out
    code, out, _ = typed(place.folder, "--run", "short", "--json")
    devices = json.loads(out)["devices"]
    assert [n for device in devices for cut in device["cuts"] for n in cut["layers"]] == list(
        range(1, DIGITS.N + 1)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected one of --block, --arch and --run. Examples: jmsnas predict --help"),
        (
            ("--block", "mb_k5_e6"),
            "mb_k5_e6 needs its input's channels, height and width, such as --in 32x28x28",
        ),
        (("--block", "mb_k5_e6", "--in", "32"), "cannot read --in '32'"),
        (("--block", "mb_k3_e3 8->8 4x4", "--device", "board"), f"unknown device 'board': expected {BOARD}"),
        (
            ("--block", "mb_k3_e3 8->8 4x4", "--device", "cloud"),
            "cloud has neither a table nor an estimator in",
        ),
        (("--block", "mb_k3_e3 8->8 4x4", "--device", "Pi4"), "device name 'Pi4' must be"),
        (("--block", "mb_k3_e3 8->8 4x4", "--runtime", "tflite"), "cannot run in 'tflite'"),
        (
            ("--block", "mb_k3_e3 8->8 4x4", "--runtime", "onnxruntime"),
            "local has no rows for onnxruntime-t1-b1-f32",
        ),
        (
            ("--block", "mb_k3_e3 8->8 4x4", "--key", "x"),
            "local has no rows for x: expected torch-t1-b1-f32, with --key",
        ),
        (("--arch", "mb_k3_e3", "--space", "nowhere"), "nowhere"),
        (("--run", "first"), "first"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(place: Path, words: tuple[str, ...], message: str) -> None:
    code, out, err = typed(place, *words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_help_teaches_and_loads_nothing_heavy() -> None:
    assert "jmsnas predict --device jetson" in CliRunner().invoke(app, ["predict", "--help"]).output
    script = (
        "import sys, jmsnas.cli.predict; "
        "print(sorted({'torch', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
