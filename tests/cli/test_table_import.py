import json
from pathlib import Path

import pytest
from lut_files import LUT
from synthetic_published import a_record, records, write_published
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import read_table


def typed(*words: object) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["table", *map(str, words)])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture
def lut(tmp_path: Path) -> Path:
    (tmp_path / "lut.yaml").write_text(LUT)
    return tmp_path / "lut.yaml"


def test_a_look_up_table_goes_in_and_out_again(lut: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    code, out, err = typed("import", lut, "--device", "pixel1", "--workspace", workspace)
    table = workspace / "tables" / "pixel1.parquet"
    assert (code, err) == (0, "")
    assert out.startswith(f"{table}: 5 imported rows of pixel1 (onnxruntime-t1-b1-f32)\n")
    assert out.endswith("Next: jmsnas fit-estimator --device pixel1\n")
    code, out, _ = typed("export", table, "--yaml", tmp_path / "out.yaml")
    assert code == 0
    assert out == f"{tmp_path}/out.yaml: 4 rows of pixel1; 1 cannot be in a look-up table\n"
    assert "  mean: 1.5\n" in (tmp_path / "out.yaml").read_text()
    code, out, _ = typed("export", table, "--yaml", tmp_path / "out.yaml", "--json")
    document = json.loads(out)
    assert (document["yaml"], document["rows"], document["skipped"]) == (f"{tmp_path}/out.yaml", 4, 1)
    code, out, _ = typed("export", table, "--csv", tmp_path / "t.csv")
    code, out, _ = typed("import", tmp_path / "t.csv", "--device", "pixel1", "--workspace", workspace)
    assert code == 0 and "5 imported rows" in out


def test_what_the_file_says_and_what_is_left_out(tmp_path: Path) -> None:
    rows = [*records(12), *records(3, processor="GPU"), a_record(activation="swish")]
    rows[3]["latency_ms"] *= 0.9
    path = write_published(tmp_path / "p.parquet", rows)
    words = (path, "--device", "board", "--only", "cpu", "--runtime", "torch", "--threads", "4")
    code, out, _ = typed("import", *words, "--workspace", tmp_path / "ws")
    assert code == 0 and "12 imported rows of board (torch-t4-b1-f32)\n" in out
    assert "setting of the file: Some board, CPU, 2 threads, TensorFlow Lite\n" in out
    assert "skipped, not a block of JMSNAS: 1 x mbconv with activation swish\n" in out
    code, out, _ = typed("import", *words, "--workspace", tmp_path / "ws", "--json")
    document = json.loads(out)
    assert (document["rows"], document["keys"]) == (12, ["torch-t4-b1-f32"])
    assert document["setting"].startswith("Some board") and document["findings"] == []


def test_findings_are_printed_and_errors_refused(tmp_path: Path) -> None:
    rows = records(15)
    rows[7]["latency_ms"] *= 1000
    path, workspace = write_published(tmp_path / "p.parquet", rows), tmp_path / "ws"
    code, out, err = typed("import", path, "--device", "board", "--workspace", workspace)
    assert (code, out) == (2, "") and "does not pass the quality gate" in err and err.count("\n") == 1
    assert not workspace.exists()
    code, out, err = typed("import", path, "--device", "board", "--workspace", workspace, "--force")
    assert code == 0 and "error: units: 1 rows are over 300 times off" in err
    assert sum(row.trust == "red" for row in read_table(workspace / "tables" / "board.parquet").rows) >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "local"], "local is this host, which is measured"),
        (["--device", "Pixel"], "device name 'Pixel' must be"),
        (["--device", "x", "--runtime", "tflite"], "cannot run in 'tflite'"),
        (["--device", "x", "--threads", "0"], "cannot run in 'onnxruntime' with 0 threads"),
        (["--device", "x", "--dtype", "float16"], "cannot measure float16 on the cpu"),
        (["--device", "x", "--field", "gpu"], "has no gpu: expected milliseconds. It has count, mean, std"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(lut: Path, tmp_path: Path, words: list[str], message: str) -> None:
    code, out, err = typed("import", lut, *words, "--workspace", tmp_path / "ws")
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "ws").exists()


def test_an_export_is_of_one_kind_and_one_key(lut: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    typed("import", lut, "--device", "pixel1", "--workspace", workspace)
    table = workspace / "tables" / "pixel1.parquet"
    for words in ([], ["--csv", "a.csv", "--yaml", "a.yaml"]):
        code, _, err = typed("export", table, *words)
        assert code == 2 and "expected an output file: either --csv OUT or --yaml OUT" in err
    code, _, err = typed("export", table, "--yaml", tmp_path / "a.yaml", "--key", "torch-t1-b1-f32")
    assert code == 2 and "the table of pixel1 has no key 'torch-t1-b1-f32': expected --key with one of" in err
    assert read_table(table).keys == (RuntimeKey(),)
    assert typed("export", table, "--csv", tmp_path / "a.csv", "--key", RuntimeKey().label)[0] == 0


def test_help_teaches_by_example() -> None:
    out = CliRunner().invoke(app, ["table", "import", "--help"], env={"COLUMNS": "100"}).output
    assert "jmsnas table import mobile_trim.yaml --device pixel1" in out and "docs/own_tables.md" in out
