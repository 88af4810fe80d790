import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from profiling_jobs import PART, a_row
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space_file import load_space

BLOCKS = load_space("digits").blocks()


def typed(*words: object) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["table", *map(str, words)])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture
def pi4(tmp_path: Path) -> Path:
    write_table(tmp_path / "pi4.parquet", simulated_table("pi4", BLOCKS, [RuntimeKey()]))
    return tmp_path / "pi4.parquet"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    shape = {"expansion": 3.0, "stride": 1, "shortcut": True, "in_channels": 8, "out_channels": 8}
    common = {"device": "board", "runtime": "TFLite", "batch": 1, "op": "mbconv", "height": 4, "width": 4}
    records = [common | shape | {"kernel_size": k, "latency_ms": ms} for k, ms in ((3, 1.0), (5, -1.0))]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "published.parquet")
    return tmp_path / "published.parquet"


def slower(path: Path, factor: float) -> Path:
    table = simulated_table("pi4", BLOCKS, [RuntimeKey()])
    rows = [
        replace(r, median_s=r.median_s * factor, low_s=r.low_s * factor, high_s=r.high_s * factor)
        for r in table.rows
    ]
    write_table(path, LatencyTable("pi4", tuple(rows), table.environments))
    return path


def test_check_of_a_sound_table_is_exit_0(pi4: Path) -> None:
    code, out, err = typed("check", pi4)
    assert (code, err) == (0, "")
    assert f"warning  simulated            {pi4}: 53 of 53 rows of {pi4} are simulated" in out
    assert out.endswith("53 rows: 0 errors, 1 warning\n")


def test_check_that_finds_an_error_is_exit_1(pi4: Path, published: Path) -> None:
    code, out, _ = typed("check", pi4, published)
    assert code == 1
    assert f"error    positive             {published}: 1 rows are not a number above 0" in out
    assert out.endswith("55 rows: 1 error, 1 warning\n")


def test_tables_of_one_name_in_two_folders_stay_two(pi4: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    code, out, _ = typed("check", pi4, slower(tmp_path / "other" / "pi4.parquet", 1.5))
    assert code == 0 and "duplicate" not in out and out.endswith("106 rows: 0 errors, 2 warnings\n")


def test_check_as_json(published: Path) -> None:
    code, out, _ = typed("check", "--json", published)
    document = json.loads(out)
    assert code == 1 and (document["rows"], document["errors"]) == (2, 1)
    (entry,) = document["findings"]
    assert entry["rule"] == "positive" and entry["rows"] == [[str(published), 2]]


@pytest.mark.parametrize("verb", [["check", "X"], ["compare", "X", "X"], ["export", "X", "--csv", "Y"]])
def test_unreadable_input_is_one_line_and_exit_2(tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "X").write_text("no table")
    words = [str(tmp_path / word) if word in ("X", "Y") else word for word in verb]
    code, out, err = typed(*words)
    assert (code, out) == (2, "") and "not a Parquet file" in err and err.count("\n") == 1
    assert not (tmp_path / "Y").exists()


def test_compare_that_agrees_and_that_differs(pi4: Path, tmp_path: Path) -> None:
    code, out, _ = typed("compare", pi4, slower(tmp_path / "b", 1.04))
    assert code == 0
    assert (
        "They agree: median ratio 1.040 over 53 blocks (tolerance 5%; the reference block alone 1.000)" in out
    )
    assert "  1.040  1.040 to 1.040    onnxruntime-t1-b1-f32  mb_k5_e6 16->24 8x8 /2  disjoint\n" in out
    code, out, _ = typed("compare", pi4, tmp_path / "b", "--tolerance", "0.03", "--json")
    document = json.loads(out)
    assert code == 1 and document["verdict"] == "differ" and len(document["blocks"]) == 53
    assert document["median_ratio"] == pytest.approx(1.04) and document["disjoint_share"] == 1.0


def test_compare_refused_is_exit_2(pi4: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "torch.parquet", simulated_table("pi4", BLOCKS, [RuntimeKey("torch")]))
    code, out, err = typed("compare", pi4, tmp_path / "torch.parquet")
    assert (code, out) == (2, "") and "no key is common" in err and err.count("\n") == 1


def test_compare_says_what_is_not_compared(pi4: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "part.parquet", simulated_table("laptop-cpu", BLOCKS[:9], [RuntimeKey()]))
    code, out, _ = typed("compare", pi4, tmp_path / "part.parquet")
    assert code == 1 and "not compared: 44 rows only in A, 0 only in B" in out
    assert "changed: host from none: simulated Raspberry Pi 4" in out


def test_export_writes_the_whole_file(pi4: Path, tmp_path: Path) -> None:
    code, out, _ = typed("export", pi4, "--csv", tmp_path / "deep" / "t.csv")
    assert code == 0 and out == f"{tmp_path}/deep/t.csv: 53 rows of pi4\n"
    with (tmp_path / "deep" / "t.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 53
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["t.csv"]
    code, out, _ = typed("export", pi4, "--csv", tmp_path / "t.csv", "--json")
    assert json.loads(out) == {"schema_version": 2, "csv": str(tmp_path / "t.csv"), "rows": 53}


def test_export_counts_whole_parts_too(tmp_path: Path) -> None:
    write_table(tmp_path / "local.parquet", LatencyTable("local", (a_row(),), {}, (a_row(PART),)))
    code, out, _ = typed("export", tmp_path / "local.parquet", "--csv", tmp_path / "t.csv")
    assert code == 0 and out == f"{tmp_path}/t.csv: 2 rows of local\n"
    assert (tmp_path / "t.csv").read_text().count("\n") == 3


def test_export_that_cannot_be_written_is_exit_1(pi4: Path, tmp_path: Path) -> None:
    code, _, err = typed("export", pi4, "--csv", pi4 / "t.csv")
    assert code == 1 and "cannot write" in err and err.count("\n") == 1


def test_help_teaches_by_example_and_keeps_its_order() -> None:
    out = CliRunner().invoke(app, ["table", "check", "--help"], env={"COLUMNS": "80"}).output
    assert "jmsnas table check --json published.parquet" in out
    out = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    places = [
        out.index(f"│ {verb} ") for verb in ("quickstart", "profile", "table", "fit-estimator", "search")
    ]
    assert places == sorted(places)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from jmsnas.cli import app; sys.argv[1:] = ['table', 'check', '--help']\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pyarrow', 'numpy', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")
