import csv
import io
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lut_files import csv_text
from profiling_jobs import PART, a_row
from synthetic_published import a_record

from jmsnas.errors import TableError
from jmsnas.profiler.exchange.lut_csv import (
    published_entries,
    read_csv_records,
    rows_of_export,
    select_setting,
    to_csv_records,
)
from jmsnas.profiler.exchange.lut_keys import HeadPiece, MeanLatency
from jmsnas.profiler.table.csv_export import table_to_csv
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.space import Block
from jmsnas.streams import printable


def figures(*records: dict[str, Any]) -> tuple[dict[int, Any], Counter[str]]:
    return published_entries(dict(enumerate(to_csv_records(records), 1)), "t")


def block_of(record: dict[str, Any]) -> str:
    (((meanings, _),),) = figures(record)[0].values()
    assert isinstance(meanings[0], Block)
    return str(meanings[0])


def test_exported_table_round_trip_without_samples() -> None:
    part = replace(a_row(PART, (3.0, 3.1)), host_faults=("hot", "throttles"), energy_j=2.5e-4)
    table = LatencyTable("local", (a_row(ratios=(1.0, 1.02)),), {}, (part,))
    cells = read_csv_records(table_to_csv(table), "t")
    rows = rows_of_export(cells, "t")
    assert rows == tuple(replace(row, samples=()) for row in table.all_rows)


@given(st.floats(1e-9, 3000), st.floats(0, 1e3))
def test_exported_numbers_are_exact(median_s: float, energy_j: float) -> None:
    row = replace(a_row(), median_s=median_s, low_s=median_s, high_s=median_s, energy_j=energy_j)
    (found,) = rows_of_export(read_csv_records(table_to_csv(LatencyTable("local", (row,), {})), "t"), "t")
    assert (found.median_s, found.energy_j) == (median_s, energy_j)


@given(st.text(st.sampled_from("=+-@\t\r\n'a;, |"), max_size=8), st.text(max_size=8))
def test_text_of_an_exported_table_is_no_formula_and_reads_back(device: str, source: str) -> None:
    row = replace(a_row(), device=device, source=source, host_faults=(device.replace("|", "") or "a",))
    text = table_to_csv(LatencyTable(device, (row,), {}))
    (header, cells) = csv.reader(io.StringIO(text, newline=""))
    assert not [
        (name, cell)
        for name, cell in zip(header, cells, strict=True)
        if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    ]
    (found,) = rows_of_export(read_csv_records(text, "t"), "t")
    assert (found.device, found.source) == (printable(device), printable(source))
    assert found.host_faults == tuple(map(printable, row.host_faults))


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("median_s", "", "t row 1 is invalid: median_s is empty"),
        ("median_s", "nan", "t row 1 is invalid: nan is not a finite number"),
        ("median_s", "-1", "t row 1 is invalid: .*expected 0 < low <= median"),
        ("converged", "maybe", "t row 1 is invalid: converged is 'maybe', expected true or false"),
        ("rounds", "1e3", "t row 1 is invalid: invalid literal"),
        ("batch", "99999999999", "t row 1 is invalid: 99999999999 is too large"),
        ("candidate", "mb_k9_e9", "t row 1 is invalid: it is named 'mb_k9_e9' but has the columns of"),
        ("stride", "7", "t row 1 is invalid: .*stride 1 or 2"),
    ],
)
def test_invalid_cells_of_an_exported_table(column: str, cell: str, message: str) -> None:
    record = dict(read_csv_records(table_to_csv(LatencyTable("local", (a_row(),), {})), "t")[0])
    with pytest.raises(TableError, match=message):
        rows_of_export([record | {column: cell}], "t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t is not a latency table: it lacks the columns device, runtime, batch"),
        ("a,b\n1,2\n", "it lacks the columns device, .*Expected those of docs/own_tables.md"),
        ("candidate,device\nmb_k3_e3,x\n", "t is not a latency table: it lacks the columns runtime, threads"),
        (csv_text([a_record()]).splitlines()[0] + "\n", "t is not a latency table: it has no rows"),
        (csv_text([a_record()]).replace("source", "se", 1), "t has duplicate columns: expected each once"),
        (
            csv_text([a_record()]).rstrip() + ",1,2\n",
            r"t row 1 has \d+ cells, expected \d+ as in the first line",
        ),
        ("a\n" + "x" * 200_000 + "\n", "t is not a CSV file: field larger than field limit"),
        ('a\n"x\n', "t is not a CSV file: unexpected end of data"),
    ],
)
def test_invalid_csv_gives_one_line(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        read_csv_records(text, "t")
    assert "\n" not in str(caught.value)


def test_more_rows_than_a_table_has_are_refused() -> None:
    header, row = csv_text([a_record()]).splitlines()
    with pytest.raises(TableError, match="t has more than 50000 rows: expected at most"):
        read_csv_records("\n".join([header, *[row] * 50_001]), "t")


def test_blocks_of_a_published_table() -> None:
    assert block_of(a_record(kernel_size=5, expansion=6.0, stride=2)) == "mb_k5_e6 16->24 14x14 /2"
    same = {"out_channels": 16, "shortcut": True}
    assert block_of(a_record(**same)) == "mb_k3_e3_skip 16->16 14x14"
    identity = {"op": "identity", "kernel_size": 0, "expansion": 0.0, "latency_ms": 0.1}
    assert block_of(a_record(**same, **identity)) == "identity 16->16 14x14"
    stem = {"op": "stem_conv3x3", "expansion": None, "in_channels": 3, "stride": 2}
    assert block_of(a_record(**stem)) == "stem 3->24 14x14 /2"
    assert block_of(a_record(**stem, activation="h_swish")) == "stem_hs 3->24 14x14 /2"


def test_blocks_whose_width_is_no_multiple_are_those_of_mobilenet_v3() -> None:
    assert block_of(a_record(mid_channels=40, expansion=2.5)) == "mbv3_k3_re 16->24 14x14 h40"
    # a quarter of 48 in multiples of 8: 12 -> 16, as squeeze-and-excitation of MobileNetV3 has it
    assert block_of(a_record(se=True)) == "mbv3_k3_re_se 16->24 14x14 h48"
    assert block_of(a_record(se=True, se_channels=16)) == "mbv3_k3_re_se 16->24 14x14 h48"
    assert block_of(a_record(activation="hard_swish")) == "mbv3_k3_hs 16->24 14x14 h48"


def test_pieces_of_a_head() -> None:
    mix = a_record(op="head_conv1x1", kernel_size=1, expansion=None)
    end = a_record(op="pool_fc", kernel_size=0, expansion=None, in_channels=24, out_channels=10)
    ((first, _), (second, _)) = figures(mix, end)[0][1]
    assert first == (HeadPiece("Conv_1", (14, 14, 16), (14, 14, 24)),)
    assert str(second[0]) == "classifier 24->10 14x14"
    assert second[1] == HeadPiece("Logits", (14, 14, 24), (1, 1, 10))


def test_runs_and_variance_give_an_interval_per_batch() -> None:
    known = a_record(latency_ms=2.5, n_runs=100, latency_var_ms2=0.01, batch=8)
    found, _ = figures(known, a_record(latency_ms=1.0, n_runs=10))
    assert list(found) == [8, 1]
    assert found[8][0][1] == MeanLatency(2.5e-3, pytest.approx(1.96e-5), 100) and found[1][0][
        1
    ] == MeanLatency(1e-3, None, 10)


def test_unsupported_blocks_are_skipped_and_counted() -> None:
    swish = a_record(activation="swish")
    squeezed = a_record(se=True, se_channels=24)
    found, left_out = figures(swish, swish, squeezed, a_record())
    assert left_out == {"mbconv with activation swish": 2, "squeeze-and-excitation of another width": 1}
    assert len(found[1]) == 1
    # Blocks of the space that has grouped convolutions expand by 1 with a convolution, JMSNAS blocks without.
    grouped, plain = a_record(pw_groups=2), a_record(expansion=1.0)
    found, left_out = figures(grouped, plain)
    assert left_out == {"grouped 1x1 convolutions": 1, "an expansion by 1": 1} and not found
    assert not figures(plain)[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency_ms": None}, "t row 2 is invalid: latency_ms is '': expected milliseconds"),
        (
            {"latency_ms": float("nan")},
            "t row 2 is invalid: latency_ms is 'nan' ms: expected a number above 0",
        ),
        ({"latency_ms": 0}, "t row 2 is invalid: latency_ms is '0' ms: expected a number above 0"),
        ({"latency_ms": -0.5}, "t row 2 is invalid: latency_ms is '-0.5' ms: expected a number above 0"),
        ({"op": "conv7x7"}, "t row 2 is invalid: op is 'conv7x7', expected one of mbconv, identity"),
        ({"kernel_size": 4}, "t row 2 is invalid: mb needs an odd kernel_size"),
        ({"kernel_size": 2.5}, "t row 2 is invalid: kernel_size is '2.5', expected a whole number"),
        ({"in_channels": "many"}, "t row 2 is invalid: in_channels is 'many', expected a whole number"),
        ({"in_channels": 0, "mid_channels": 8}, "t row 2 is invalid"),
        ({"shortcut": "perhaps"}, "t row 2 is invalid: shortcut is 'perhaps', expected true or false"),
        ({"shortcut": True}, "t row 2 is invalid: mb_k3_e3_skip needs a layer that keeps its shape"),
        ({"n_runs": 5, "latency_var_ms2": -1}, "latency_var_ms2 is -1, expected 0 or more"),
        ({"stride": 3}, "t row 2 is invalid: .*stride 1 or 2"),
    ],
)
def test_invalid_rows_give_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        figures(a_record(), a_record() | changes)


def test_setting_is_selected_by_a_part_of_its_name() -> None:
    records = to_csv_records(
        [a_record(campaign=0), a_record(campaign=1), a_record(processor="GPU", campaign=1)]
    )
    words, found = select_setting(records, "t", "gpu")
    assert str(words) == "Some board, GPU, TensorFlow Lite, campaign 1" and found == {3: records[2]}
    assert select_setting(records[:1], "t", None)[1] == {1: records[0]}
    with pytest.raises(
        TableError, match=r"t has 3 settings \(.*campaign 0; .*\): select one by a part of its name with"
    ):
        select_setting(records, "t", None)
    with pytest.raises(TableError, match=r"t has no setting with 'NPU' \(.*GPU.*\): select one by"):
        select_setting(records, "t", "NPU")


CELLS = st.sampled_from(
    [
        "",
        "nan",
        "-1",
        "1e400",
        "1e9",
        "0",
        "3",
        "2.5",
        "true",
        "mbconv",
        "identity",
        "pool_fc",
        "stem_conv3x3",
    ]
)


@given(st.dictionaries(st.sampled_from(sorted(a_record())), CELLS | st.text(max_size=5), min_size=1))
def test_no_cells_bring_the_reader_down(changes: dict[str, str]) -> None:
    record = to_csv_records([a_record()])[0] | changes
    with suppress(TableError):
        entries, left_out = published_entries({1: record}, "t")
        assert len(entries) + left_out.total() == 1


def test_mean_of_no_run_differs_from_an_unknown_number_of_runs() -> None:
    for runs, of_no_run in ((None, False), ("", False), ("7", False), ("0", True), ("0.0", True)):
        ((_, latency),) = figures(a_record(n_runs=runs))[0][1]
        assert latency.of_no_run is of_no_run
