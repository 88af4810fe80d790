from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lut_files import LUT, csv_text
from profiling_jobs import a_row
from synthetic_published import a_record, records, write_published

from jmsnas.errors import DeviceError, MeasurementError, TableError
from jmsnas.profiler.exchange.import_table import ImportRequest, ImportResult, import_table
from jmsnas.profiler.exchange.lut_yaml import table_to_lut
from jmsnas.profiler.table.csv_export import table_to_csv
from jmsnas.profiler.table.journal import journal_path, table_lock
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.space import Block
from jmsnas.workspace import Workspace

V3_LUT = """\
Conv-input:32x32x3-output:16x16x16: {mean: 0.9}
expanded_conv-input:16x16x16-output:8x8x24-expand:64-kernel:3-stride:2-idskip:0-se:0-hs:0: {mean: 1.5}
AvgPool2D-input:8x8x96-output:1x1x96: {mean: 0.01}
Conv_2-input:1x1x96-output:1x1x128: {mean: 0.02}
Logits-input:1x1x128-output:10: {mean: 0.03}
Conv_2-input:1x1x7-output:1x1x9: {mean: 0.02}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def file(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def blocks(found: ImportResult) -> list[str]:
    return [str(row.block) for row in found.table.rows]


def test_a_look_up_table_of_proxylessnas(tmp_path: Path, workspace: Workspace) -> None:
    found = import_table(file(tmp_path, "lut.yaml", LUT), ImportRequest("pixel1"), workspace)
    assert blocks(found) == [
        "stem 3->16 32x32 /2",
        "mb_k3_e3 16->24 16x16 /2",
        "mb_k3_e6_skip 24->24 8x8",
        "classifier 64->10 8x8",
        "head 24->10 8x8 h64",
    ]
    assert found.path == workspace.table("pixel1") and read_table(found.path) == found.table
    assert (
        found.table.keys == (RuntimeKey(),)
        and not found.skipped
        and not found.findings
        and found.setting == ""
    )
    (environment,) = found.table.environments.values()
    assert environment["file"] == "lut.yaml" and len(environment["sha256"]) == 64
    assert found.table.rows[0].source == f"imported: lut.yaml, {environment['sha256'][:12]}"


def test_name_of_a_gpu_is_of_its_own_processor(tmp_path: Path, workspace: Workspace) -> None:
    lut = file(tmp_path, "lut.yaml", LUT)
    assert import_table(lut, ImportRequest("jetson"), workspace).table.keys == (RuntimeKey(processor="cuda"),)


def test_a_look_up_table_of_once_for_all(tmp_path: Path, workspace: Workspace) -> None:
    found = import_table(
        file(tmp_path, "lut.yml", V3_LUT), ImportRequest("note10", {"threads": 4}), workspace
    )
    assert blocks(found) == [
        "stem_hs 3->16 32x32 /2",
        "mbv3_k3_re 16->24 16x16 /2 h64",
        "classifier_hs 96->10 8x8 h128",
    ]
    assert found.skipped == {"Conv_2 alone": 1} and found.table.keys == (RuntimeKey(threads=4),)


def test_exported_look_up_table_round_trip(tmp_path: Path, workspace: Workspace) -> None:
    first = import_table(file(tmp_path, "lut.yaml", LUT), ImportRequest("pixel1"), workspace).table
    text, written = table_to_lut(first)
    again = import_table(file(tmp_path, "again.yaml", text), ImportRequest("pixel1"), workspace).table
    assert written == 4
    told = {row.block: (row.median_s, row.rounds) for row in first.rows if row.block.candidate.op != "head"}
    assert {row.block: (row.median_s, row.rounds) for row in again.rows} == told
    for row in again.rows:
        (same,) = (other for other in first.rows if other.block == row.block)
        assert (row.low_s, row.high_s) == pytest.approx((same.low_s, same.high_s))


def test_exported_csv_round_trip(tmp_path: Path, workspace: Workspace) -> None:
    first = import_table(file(tmp_path, "lut.yaml", LUT), ImportRequest("pixel1"), workspace).table
    again = import_table(
        file(tmp_path, "t.csv", table_to_csv(first)), ImportRequest("pixel1"), workspace
    ).table
    assert [replace(row, source="") for row in again.rows] == [replace(row, source="") for row in first.rows]
    assert again.rows[0].source.endswith(first.rows[0].source)


def test_a_published_table_gives_its_own_key(tmp_path: Path, workspace: Workspace) -> None:
    rows = [*records(6), *records(3, batch=8), a_record(activation="swish")]
    path = write_published(tmp_path / "p.parquet", rows)
    found = import_table(path, ImportRequest("board"), workspace)
    assert found.setting == "Some board, CPU, 2 threads, TensorFlow Lite"
    assert [key.label for key in found.table.keys] == ["onnxruntime-t2-b1-f32", "onnxruntime-t2-b8-f32"]
    assert len(found.table.rows) == 9 and found.skipped == {"mbconv with activation swish": 1}
    assert found.table.rows[0].median_s == pytest.approx(rows[0]["latency_ms"] / 1e3)
    assert found.table.rows[0].source.endswith("; Some board, CPU, 2 threads, TensorFlow Lite")
    stated = import_table(path, ImportRequest("board", {"runtime": "torch", "threads": 1}), workspace)
    assert [key.label for key in stated.table.keys] == ["torch-t1-b1-f32", "torch-t1-b8-f32"]


def test_one_of_several_settings(tmp_path: Path, workspace: Workspace) -> None:
    text = csv_text([*records(6), *records(3, processor="GPU")])
    path = file(tmp_path, "p.csv", text)
    with pytest.raises(
        TableError, match="p.csv has 2 settings .*: select one by a part of its name with --only"
    ):
        import_table(path, ImportRequest("board"), workspace)
    assert len(import_table(path, ImportRequest("board", only="gpu"), workspace).table.rows) == 3


def test_another_number_of_the_entries(tmp_path: Path, workspace: Workspace) -> None:
    path = file(tmp_path, "lut.json", '{"Conv-input:32x32x3-output:16x16x16": {"mean": 1, "gpu": 0.5}}')
    (row,) = import_table(path, ImportRequest("board", column="gpu"), workspace).table.rows
    assert row.median_s == 0.5e-3


def spoiled(workspace: Workspace, tmp_path: Path, name: str, text: str | list[dict[str, Any]]) -> str:
    path = file(tmp_path, name, text) if isinstance(text, str) else write_published(tmp_path / name, text)
    with pytest.raises(TableError) as caught:
        import_table(path, ImportRequest("board"), workspace)
    assert not workspace.table("board").exists() and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "", "t.txt has an unknown suffix: expected .csv, .parquet or .yaml, .yml, .json"),
        ("t.yaml", "a: {mean: 1}", "t.yaml: 'a' is not a look-up table key"),
        (
            "t.yaml",
            "AvgPool2D-input:8x8x9-output:1x1x9: {mean: 1}",
            "(1 x AvgPool2D alone): see docs/own_tables",
        ),
        ("t.yaml", LUT.replace("1.5", "-1.5"), "is '-1.5' ms: expected a number above 0"),
        ("t.yaml", LUT + V3_LUT, "t.yaml: "),
        ("t.parquet", "no", "t.parquet is damaged, or not a Parquet file"),
        ("t.parquet", [], "t.parquet is not a latency table: it lacks the columns"),
        ("t.csv", csv_text([a_record(activation="swish")]), "(1 x mbconv with activation swish): see docs"),
        (
            "t.csv",
            csv_text([a_record(), a_record(latency_ms="nan")]),
            "t.csv row 2 is invalid: latency_ms is",
        ),
        (
            "t.csv",
            csv_text([a_record(), a_record(latency_ms=9)]),
            "t.csv: a block occurs twice with different",
        ),
    ],
)
def test_invalid_files_give_one_line_and_no_table(
    tmp_path: Path, workspace: Workspace, name: str, text: str | list[dict[str, Any]], message: str
) -> None:
    assert message in spoiled(workspace, tmp_path, name, text)


def test_published_networks_are_no_blocks(tmp_path: Path, workspace: Workspace) -> None:
    network = {"device": "x", "runtime": "y", "batch": 1, "latency_ms": 1.0, "arch": "0123"}
    assert "t.parquet has whole models, not blocks" in spoiled(workspace, tmp_path, "t.parquet", [network])


def test_files_that_are_not_there_too_large_or_no_text(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(TableError, match="cannot read .*nowhere.yaml: No such file"):
        import_table(tmp_path / "nowhere.yaml", ImportRequest("board"), workspace)
    (tmp_path / "large.csv").write_bytes(b" " * ((8 << 20) + 1))
    with pytest.raises(TableError, match="large.csv is larger than 8388608 bytes: expected a latency table"):
        import_table(tmp_path / "large.csv", ImportRequest("board"), workspace)
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe")
    with pytest.raises(TableError, match="t.csv is not UTF-8 text: invalid start byte at byte 4"):
        import_table(tmp_path / "t.csv", ImportRequest("board"), workspace)


def test_jmsnas_tables_are_not_imported(tmp_path: Path, workspace: Workspace) -> None:
    write_table(tmp_path / "t.parquet", LatencyTable("local", (a_row(),), {}))
    with pytest.raises(TableError, match="is a table of JMSNAS already. Fit to it with jmsnas fit-estimator"):
        import_table(tmp_path / "t.parquet", ImportRequest("board"), workspace)


def test_names_that_cannot_be(tmp_path: Path, workspace: Workspace) -> None:
    path = file(tmp_path, "lut.yaml", LUT)
    with pytest.raises(DeviceError, match="local is this host, which is measured: give another name"):
        import_table(path, ImportRequest("local"), workspace)
    with pytest.raises(DeviceError, match="device name '../x' must be"):
        import_table(path, ImportRequest("../x"), workspace)


def test_other_units_are_refused_and_forced_rows_are_red(tmp_path: Path, workspace: Workspace) -> None:
    rows = records(15)
    rows[7]["latency_ms"] *= 1000
    path = write_published(tmp_path / "t.parquet", rows)
    with pytest.raises(
        TableError,
        match="t.parquet does not pass the quality gate, nothing was written. .*units: 1 rows are over 300 "
        "times off the roofline fitted to their table, probably in another unit.*: --force",
    ):
        import_table(path, ImportRequest("board"), workspace)
    assert not workspace.table("board").exists()
    found = import_table(path, ImportRequest("board", force=True), workspace)
    assert {entry.rule for entry in found.findings if entry.severity == "error"} >= {"units"}
    assert [row.trust for row in found.table.rows].count("red") >= 1
    assert found.table.rows[7].trust == "red" and "units" in found.table.rows[7].trust_reason


def test_one_devices_figures_under_another_name_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    path = file(tmp_path, "lut.yaml", LUT)
    import_table(path, ImportRequest("pixel1"), workspace)
    import_table(path, ImportRequest("pixel1"), workspace)
    with pytest.raises(
        TableError,
        match="copied: note10 and pixel1 .* have identical latencies in 5 of 5 common blocks: one is",
    ):
        import_table(path, ImportRequest("note10"), workspace)
    # What is wrong with two others is not this table's fault.
    import_table(path, ImportRequest("note10", force=True), workspace)
    other = import_table(file(tmp_path, "v3.yaml", V3_LUT), ImportRequest("board"), workspace)
    assert not other.findings


def test_a_table_beside_it_that_cannot_be_read_does_not_matter(tmp_path: Path, workspace: Workspace) -> None:
    import_table(file(tmp_path, "lut.yaml", LUT), ImportRequest("pixel1"), workspace)
    workspace.table("broken").write_bytes(b"no")
    assert import_table(file(tmp_path, "v3.yaml", V3_LUT), ImportRequest("board"), workspace).path.exists()


def test_a_measured_table_is_never_replaced(tmp_path: Path, workspace: Workspace) -> None:
    path = file(tmp_path, "lut.yaml", LUT)
    write_table(workspace.table("board"), LatencyTable("board", (replace(a_row(), device="board"),), {}))
    before = workspace.table("board").read_bytes()
    with pytest.raises(TableError, match="has 1 measured rows, which an import never replaces. Give another"):
        import_table(path, ImportRequest("board", force=True), workspace)
    assert workspace.table("board").read_bytes() == before
    journal_path(workspace.table("new")).write_text("")
    with pytest.raises(TableError, match="has an unfinished run of jmsnas profile, which an import never"):
        import_table(path, ImportRequest("new"), workspace)


def test_a_table_that_is_being_written_is_left_alone(tmp_path: Path, workspace: Workspace) -> None:
    with table_lock(workspace.table("board")), pytest.raises(MeasurementError):
        import_table(file(tmp_path, "lut.yaml", LUT), ImportRequest("board"), workspace)


def test_a_search_reads_an_imported_table(tmp_path: Path, workspace: Workspace) -> None:
    import_table(file(tmp_path, "lut.yaml", LUT), ImportRequest("pixel1"), workspace)
    (row,) = (
        r
        for r in read_table(workspace.table("pixel1")).for_key(RuntimeKey()).rows
        if r.block == Block.parse("mb_k3_e6_skip 24->24 8x8")
    )
    assert row.median_s == 1e-3


CASES = Path(__file__).parents[2] / "cases" / "tables"


@pytest.mark.parametrize("count", ["count: 0", "count: 0.0"])
def test_means_of_no_run_are_noticed_and_red(count: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text((CASES / "count0.yaml").read_text().replace("count: 0", count))
    found = import_table(tmp_path / "c.yaml", ImportRequest("phone"), Workspace(tmp_path))
    assert {row.trust for row in found.table.rows} == {"red"}
    (finding,) = [entry for entry in found.findings if entry.rule == "runs"]
    assert finding.message.startswith("16 of 16 rows are means of 0 runs, so not measured")


@pytest.mark.parametrize("device", ["pi4", "my-board"])
@pytest.mark.parametrize(
    ("factor", "words"), [(1.0, ""), (1e3, "s"), (1e-3, "faster")], ids=["right", "us", "s"]
)
def test_unit_that_is_wrong_by_a_thousand_is_one_finding(
    device: str, factor: float, words: str, tmp_path: Path
) -> None:
    header, *lines = (CASES / "semi.csv").read_text().splitlines()
    cells = [line.rpartition(";") for line in lines]
    rows = [f"{row};{float(ms) * factor!r}" for row, _, ms in cells]
    (tmp_path / "b.csv").write_text("\n".join([header, *rows]))
    found = import_table(tmp_path / "b.csv", ImportRequest(device, force=True), Workspace(tmp_path))
    levels = [entry.message for entry in found.findings if entry.rule == "level"]
    assert len(levels) == bool(words)
    assert all(words in message and "in milliseconds" in message for message in levels)
