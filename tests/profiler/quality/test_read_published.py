import csv
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.errors import TableError
from jmsnas.profiler.quality.read_published import entries_of_records, read_entries, read_published_records
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space import Block, Candidate, Layer

RECORD: dict[str, Any] = {
    "device": "Some board",
    "processor": "GPU",
    "runtime": "TensorFlow Lite",
    "batch": 1,
    "op": "mbconv",
    "kernel_size": 5,
    "expansion": 3.0,
    "mid_channels": 24,
    "pw_groups": 1,
    "se": False,
    "stride": 2,
    "shortcut": False,
    "in_channels": 8,
    "out_channels": 16,
    "height": 7,
    "width": 7,
    "latency_ms": 0.5,
    "n_runs": 100,
    "latency_var_ms2": 0.01,
}


def test_block_of_a_published_table() -> None:
    (found,) = entries_of_records([RECORD], "t")
    assert found.median_s == pytest.approx(5e-4)
    assert (found.device, found.setting) == ("Some board, GPU", "TensorFlow Lite, batch 1")
    assert (found.label, found.variant, found.row) == ("mb_k5_e3 8->16 7x7 /2", "", 1)
    # 7x7 at stride 2 gives 4x4: 49 * 8 * 24 + 16 * 24 * 25 + 16 * 24 * 16
    assert found.macs == 9408 + 9600 + 6144
    # 49 * (8 + 2 * 24) + 16 * (2 * 24 + 16)
    assert found.moved == 2744 + 1024
    # standard deviation 0.1 ms over sqrt(100): 0.01 ms, times 1.96
    assert found.low_s == pytest.approx(5e-4 - 1.96e-5) and found.high_s == pytest.approx(5e-4 + 1.96e-5)
    assert found.converged is None and not found.simulated


@pytest.mark.parametrize(
    ("changes", "macs"),
    [
        ({"batch": 2}, 2 * 25152),
        # groups halve the two 1x1 convolutions
        ({"pw_groups": 2}, 4704 + 9600 + 3072),
        # no expansion: depthwise 16 * 8 * 25 and project 16 * 8 * 16
        ({"expansion": 1.0, "mid_channels": 8}, 3200 + 2048),
        ({"op": "stem_conv3x3", "kernel_size": 3}, 16 * 9 * 8 * 16),
        ({"op": "head_conv1x1", "kernel_size": 1, "stride": 1}, 49 * 8 * 16),
        ({"op": "pool_fc"}, 128),
        ({"op": "identity"}, 0),
    ],
)
def test_macs(changes: dict[str, Any], macs: float) -> None:
    assert entries_of_records([RECORD | changes], "t")[0].macs == macs


def test_variants_of_blocks() -> None:
    other = {"pw_groups": 2, "se": True, "se_channels": 4, "activation": "swish", "campaign": 0}
    one, two = entries_of_records([RECORD, RECORD | other], "t")
    assert two.variant == "pw_groups 2 se True se_channels 4 activation swish"
    assert (one.campaign, two.campaign) == ("", "campaign 0") and one.block != two.block


def test_network_is_known_by_its_architecture() -> None:
    record = {"device": "d", "runtime": "r", "batch": 32, "latency_ms": 9.0, "arch": "0123", "space": "s"}
    (found,) = entries_of_records([record], "t")
    assert (found.op, found.variant, found.macs) == ("model", "space s arch 0123", 0.0)


@given(st.none() | st.floats())
def test_no_latency_is_refused(latency_ms: float | None) -> None:
    (found,) = entries_of_records([RECORD | {"latency_ms": latency_ms}], "t")
    if latency_ms is None or math.isnan(latency_ms):
        assert math.isnan(found.median_s)
    else:
        assert found.median_s == latency_ms * 1e-3


def test_interval_needs_runs_and_variance() -> None:
    for changes in ({"n_runs": None}, {"latency_var_ms2": None}, {"latency_var_ms2": math.nan}):
        (found,) = entries_of_records([RECORD | changes], "t")
        assert found.low_s is None and found.high_s is None


def test_cell_of_the_wrong_kind() -> None:
    with pytest.raises(TableError, match=r"t row 2 is invalid: .*Expected the columns of docs/table\.md"):
        entries_of_records([RECORD, RECORD | {"height": "tall"}], "t")


def test_files_of_both_kinds(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([RECORD, RECORD]), tmp_path / "published.parquet")
    assert [r.row for r in read_entries(tmp_path / "published.parquet")] == [1, 2]
    block = Block(Candidate(3, 3), Layer(8, 8, 1, 4, 4))
    write_table(tmp_path / "ours.parquet", simulated_table("pi4", [block], [RuntimeKey()]))
    (found,) = read_entries(tmp_path / "ours.parquet")
    assert found.simulated and found.table == str(tmp_path / "ours.parquet")


def test_jmsnas_table_of_another_version(tmp_path: Path) -> None:
    write_table(tmp_path / "ours.parquet", LatencyTable("pi4", (), {}))
    old = pq.read_table(tmp_path / "ours.parquet")
    metadata = {**old.schema.metadata, b"jmsnas.schema": b"1"}
    pq.write_table(old.replace_schema_metadata(metadata), tmp_path / "ours.parquet")
    with pytest.raises(TableError, match="has schema 1, this version reads 3"):
        read_entries(tmp_path / "ours.parquet")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot read .*No such file"):
        read_entries(tmp_path / "t")


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("no table at all")
    with pytest.raises(TableError, match="t is damaged, or not a Parquet file: .*Expected a latency table"):
        read_entries(tmp_path / "t")


def test_too_large(tmp_path: Path) -> None:
    with (tmp_path / "t").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(TableError, match="is larger than 67108864 bytes or 1000000 rows"):
        read_entries(tmp_path / "t")


def test_missing_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"device": ["x"], "latency_ms": [1.0]}), tmp_path / "t")
    with pytest.raises(
        TableError, match="not a latency table: it lacks the columns runtime, batch, op, kernel_size"
    ):
        read_entries(tmp_path / "t")


def test_differences_are_not_latencies(tmp_path: Path) -> None:
    pq.write_table(pa.table({"latency_minus_skip_ms": [1.0]}), tmp_path / "t")
    with pytest.raises(TableError, match="has differences to a skip operator.*Expected a column latency_ms"):
        read_entries(tmp_path / "t")


def as_csv(path: Path, *records: dict[str, Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(RECORD))
        writer.writeheader()
        writer.writerows(records)
    return path


def test_a_csv_file_is_read_as_the_same_table(tmp_path: Path) -> None:
    second = {**RECORD, "kernel_size": 3, "processor": "", "n_runs": "", "latency_ms": 4}
    pq.write_table(pa.Table.from_pylist([RECORD]), tmp_path / "t.parquet")
    (parquet,) = read_published_records(tmp_path / "t.parquet")
    first, other = read_published_records(as_csv(tmp_path / "t.csv", RECORD, second))
    assert first == parquet and (other["n_runs"], other["processor"]) == (None, "")
    assert read_entries(as_csv(tmp_path / "t.csv", second))[0].device == "Some board"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv is not a CSV table: Empty CSV file. Expected a latency table"),
        (b"device,runtime\nx\n", "t.csv is not a CSV table: CSV parse error: .* Expected 2 columns, got 1"),
        (b"device,runtime\nx,y\n", "t.csv is not a latency table: it lacks the columns batch, latency_ms"),
        (b"\x00\x01,\xff\n\n\x02\x03\xfe\n", "t.csv is not a "),
    ],
)
def test_a_csv_file_that_is_no_table_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(TableError, match=message) as raised:
        read_published_records(tmp_path / "t.csv")
    assert str(raised.value).isprintable()
