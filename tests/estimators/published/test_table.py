from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_published import a_record, records, write_published

from jmsnas.errors import TableError
from jmsnas.estimators.published.table import read_published


def read(tmp_path: Path, rows: list[dict[str, Any]]) -> Any:
    return read_published(write_published(tmp_path / "t.parquet", rows))


def test_rows_of_a_published_table(tmp_path: Path) -> None:
    rows = records(4)
    (found,) = read(tmp_path, rows)
    assert str(found.origin) == "Some board, CPU, 2 threads, TensorFlow Lite"
    assert [str(shape) for shape in found.shapes][:2] == ["mb_k3_e3 16->24 7x7", "mb_k5_e6 16->24 7x7"]
    assert found.measured_s.tolist() == pytest.approx([row["latency_ms"] / 1e3 for row in rows])
    assert not found.left_out and found.records[0]["source"] == "somebody/something@1234567 table"


def test_settings_stay_apart(tmp_path: Path) -> None:
    rows = [
        a_record(),
        a_record(batch=8),
        a_record(processor="GPU"),
        a_record(campaign=1),
        a_record(campaign=0),
    ]
    found = read(tmp_path, rows)
    assert [str(each.origin) for each in found] == [
        "Some board, CPU, 2 threads, TensorFlow Lite",
        "Some board, CPU, 2 threads, TensorFlow Lite, batch 8",
        "Some board, GPU, TensorFlow Lite",
        "Some board, CPU, 2 threads, TensorFlow Lite, campaign 1",
        "Some board, CPU, 2 threads, TensorFlow Lite, campaign 0",
    ]
    assert all(len(each.shapes) == 1 for each in found)


def test_what_nothing_is_learned_from_is_counted(tmp_path: Path) -> None:
    rows = [a_record(), *(a_record(latency_ms=ms) for ms in (None, float("nan"), 0.0, -1.0, float("inf")))]
    (found,) = read(
        tmp_path, [*rows, a_record(op="pool_fc"), a_record(op="head_conv1x1"), a_record(op="pool_fc")]
    )
    assert len(found.shapes) == len(found.records) == len(found.measured_s) == 1
    assert found.left_out == {
        "no latency above 0": 5,
        "pool_fc (no MBConv)": 2,
        "head_conv1x1 (no MBConv)": 1,
    }


def test_blocks_of_a_space_with_groups_always_expand(tmp_path: Path) -> None:
    plain = a_record(expansion=1.0)
    assert read(tmp_path, [plain])[0].shapes[0].operators[0].kind != "pointwise"
    assert read(tmp_path, [plain, a_record(pw_groups=2)])[0].shapes[0].operators[0].kind == "pointwise"
    # A row that says nothing does not say so either.
    lost = a_record(pw_groups=2, latency_ms=-1.0)
    assert read(tmp_path, [plain, lost])[0].shapes[0].operators[0].kind == "depthwise"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([a_record(), a_record() | {"kernel_size": 0}], "t.parquet row 2 is invalid: got kernel size 0"),
        (
            [a_record(), a_record() | {"in_channels": -1}],
            "t.parquet row 2 is invalid: got -1->24 channels",
        ),
        (
            [{"device": "x", "runtime": "y", "batch": 1, "latency_ms": 1.0, "arch": "01"}],
            "holds latencies of whole",
        ),
        (
            [{"device": "x", "latency_ms": 1.0}],
            "t.parquet is not a latency table: it lacks the columns runtime",
        ),
    ],
)
def test_what_is_no_table_of_blocks_is_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read(tmp_path, rows)


def test_a_batch_or_a_width_as_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="row 1 is invalid: invalid literal for int"):
        read(tmp_path, [a_record(batch="one")])
    with pytest.raises(TableError, match="row 1 is invalid: invalid literal for int"):
        read(tmp_path, [a_record(mid_channels=48) | {"in_channels": "wide"}])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"no")
    with pytest.raises(TableError, match="no.parquet is damaged, or not a Parquet file"):
        read_published(tmp_path / "no.parquet")
    with pytest.raises(TableError, match="cannot read .*nowhere.parquet"):
        read_published(tmp_path / "nowhere.parquet")


def test_more_rows_than_can_be_fitted_are_refused(tmp_path: Path) -> None:
    many = pa.Table.from_pylist([a_record()]).take([0] * 100_001)
    pq.write_table(many, tmp_path / "t.parquet")
    with pytest.raises(
        TableError, match="t.parquet has 100001 rows: expected at most 100000 blocks to fit to"
    ):
        read_published(tmp_path / "t.parquet")
