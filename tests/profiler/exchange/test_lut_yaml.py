import json
import math
from contextlib import suppress
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from profiling_jobs import PART, a_row

from jmsnas.errors import TableError
from jmsnas.profiler.exchange.lut_keys import MeanLatency
from jmsnas.profiler.exchange.lut_yaml import parse_ms, read_lut, table_to_lut
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey
from jmsnas.space import HEAD, Block, Candidate, Layer
from jmsnas.space_file import load_space

KEY = "expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:5-stride:2-idskip:0"


def measured(block: Block, median_s: float, half_s: float = 0.0, rounds: int = 25) -> BlockRow:
    row = a_row(block)
    assert isinstance(row, BlockRow)
    return replace(row, median_s=median_s, low_s=median_s - half_s, high_s=median_s + half_s, rounds=rounds)


def test_count_mean_and_std_give_an_interval() -> None:
    # 0.1 ms over sqrt(100) is 0.01 ms, times 1.96
    found = read_lut(f"{KEY}:\n  count: 100\n  mean: 2.5\n  std: 0.1\n", "t")
    assert found == {KEY: MeanLatency(2.5e-3, pytest.approx(1.96e-5), 100)}


def test_var_is_the_square_of_std_and_other_fields_do_not_matter() -> None:
    # big and small stand in a table of ProxylessNAS that was measured again on another board
    found = read_lut(f"{KEY}: {{count: 100, mean: 2.5, var: 0.01, big: 0.2, small: 0.4}}", "t")
    assert found[KEY].half_s == pytest.approx(1.96e-5)


@pytest.mark.parametrize("fields", ["mean: 2.5", "mean: 2.5, std: 0.1", "count: 0, mean: 2.5, std: 0.1"])
def test_without_runs_or_spread_there_is_no_interval(fields: str) -> None:
    assert read_lut(f"{KEY}: {{{fields}}}", "t") == {KEY: MeanLatency(2.5e-3, None, 0)}


def test_another_field_is_read_when_named_and_has_no_interval() -> None:
    text = f"{KEY}: {{count: 100, mean: 2.5, var: 0.01, big: 0.75}}"
    assert read_lut(text, "t", "big") == {KEY: MeanLatency(0.75e-3, None, 100)}
    with pytest.raises(TableError, match="has no gpu: expected milliseconds. It has count, mean, var, big"):
        read_lut(text, "t", "gpu")


def test_json_is_read_too() -> None:
    assert read_lut(json.dumps({KEY: {"count": 4, "mean": 2.5}}, indent=2), "t") == {
        KEY: MeanLatency(2.5e-3, None, 4)
    }


def test_equal_duplicate_entries_are_one() -> None:
    assert len(read_lut(f"{KEY}: {{mean: 2.5}}\n{KEY}: {{mean: 2.50}}\n", "t")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t has no entries: expected a look-up table"),
        ("just words", "t: line 1 is not a look-up table entry"),
        ("- 1\n- 2\n", "t: line 1 is not a look-up table entry"),
        (f"{KEY}: 2.5\n", "t: line 1 is not a look-up table entry: expected a key, and below it count"),
        (f"{KEY}: {{mean: [2.5]}}\n", "t: line 1 is not a look-up table entry"),
        (f"{KEY}: {{mean: {{a: 1}}}}\n", "t: line 1 is not a look-up table entry"),
        ("a: &x {mean: 1}\nb: *x\n", "t: line 2 is not a look-up table entry"),
        (f"{KEY}: {{mean: 2.5\n", "t is not a YAML file: "),
        (f"{KEY}: {{count: 3}}\n", "t: .* has no mean: expected milliseconds. It has count"),
        (f"{KEY}: {{mean: 1, mean: 2}}\n", "has mean twice"),
        (f"{KEY}: {{mean: 1}}\n{KEY}: {{mean: 2}}\n", "occurs twice: 1 ms and 2 ms. Keep one"),
        (f"{KEY}: {{mean: fast}}\n", "t: mean of .* is 'fast': expected milliseconds"),
        (f"{KEY}: {{mean: 0}}\n", "is '0' ms: expected a number above 0"),
        (f"{KEY}: {{mean: -1.5}}\n", "is '-1.5' ms: expected a number above 0"),
        (f"{KEY}: {{mean: .nan}}\n", "is '.nan': expected milliseconds"),
        (f"{KEY}: {{mean: NaN}}\n", "is 'NaN' ms: expected a number above 0"),
        (f"{KEY}: {{mean: 1e999}}\n", "is '1e999' ms: expected a number above 0"),
        (f"{KEY}: {{mean: 1, count: many}}\n", "count of .* is 'many': expected a number"),
        (f"{KEY}: {{mean: 1, count: 1.5}}\n", "count of .* is '1.5': expected a number of runs"),
        (f"{KEY}: {{mean: 1, count: -3}}\n", "count of .* is '-3': expected a number of runs"),
        (f"{KEY}: {{mean: 1, count: 3, std: -1}}\n", "std of .* is '-1': expected 0 or more"),
        (f"{KEY}: {{mean: 1, count: 3, var: .inf}}\n", "var of .* is '.inf': expected a number"),
        (f"{KEY}: {{mean: 1, count: 3, var: inf}}\n", "var of .* is 'inf': expected a finite number"),
    ],
)
def test_invalid_look_up_tables_give_one_line(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        read_lut(text, "t")
    assert "\n" not in str(caught.value)


def test_tags_make_nothing() -> None:
    apply = "!!python/object/apply:os.system ['true']: {mean: 1}\n"
    text = f"{apply}{KEY}: {{mean: !!python/name:os.system 2.5}}\n"
    with pytest.raises(TableError, match="is not a look-up table entry"):
        read_lut(text, "t")
    assert read_lut(text.splitlines()[1], "t") == {KEY: MeanLatency(2.5e-3)}


def test_a_bomb_of_aliases_is_not_unfolded() -> None:
    bomb = "a: &a {mean: 1}\n" + "".join(
        f"{c}: [*{b}, *{b}]\n" for b, c in zip("abcdef", "bcdefg", strict=True)
    )
    with pytest.raises(TableError, match="line 2 is not a look-up table entry"):
        read_lut(bomb, "t")


@given(st.floats(1e-9, 1e3))
def test_milliseconds_are_read_and_written_exactly(seconds: float) -> None:
    table = LatencyTable("local", (measured(Block(Candidate(3, 3), Layer(8, 8, 1, 4, 4)), seconds),), {})
    text, _ = table_to_lut(table)
    (figure,) = read_lut(text, "t").values()
    assert figure.mean_s == seconds


def test_read_ms_shifts_the_point() -> None:
    # 0.1 ms / 1000 in binary would be 1.0000000000000001e-4
    assert parse_ms("0.1", "x") == 1e-4 and parse_ms("2.5e1", "x") == 0.025


def test_a_table_as_other_programs_read_it() -> None:
    block = Block.parse("mb_k5_e6 24->40 56x56 /2")
    head = Block(HEAD, Layer(8, 3, 1, 4, 4, "head", 16))
    table = LatencyTable(
        "local", (measured(block, 2.5e-3, 1.96e-5), measured(head, 1e-3)), {}, (a_row(PART),)
    )
    text, written = table_to_lut(table)
    assert written == 1
    entry = yaml.safe_load(text)[KEY]
    # half width 19.6 us of 25 samples: std = 19.6 us * sqrt(25) / 1.96
    assert entry == {"count": 25, "mean": 2.5, "std": pytest.approx(0.05)}
    assert math.isclose(read_lut(text, "t")[KEY].half_s or 0, 1.96e-5)


def test_mobilenet_v3_is_written_in_the_form_of_once_for_all() -> None:
    block = Block.parse("mbv3_k5_re_se 24->40 56x56 /2 h72")
    text, _ = table_to_lut(LatencyTable("local", (measured(block, 1e-3, rounds=0),), {}))
    expected = "expanded_conv-input:56x56x24-output:28x28x40-expand:72-kernel:5-stride:2-idskip:0-se:1-hs:0"
    assert yaml.safe_load(text) == {expected: {"mean": 1}}


def test_simulated_rows_are_never_written_as_a_look_up_table() -> None:
    table = simulated_table("pi4", load_space("digits").blocks(), [RuntimeKey()])
    with pytest.raises(
        TableError, match="53 of 53 rows of pi4 are simulated, which a look-up table cannot express"
    ):
        table_to_lut(table)


def test_table_without_expressible_blocks_is_refused() -> None:
    head = Block(HEAD, Layer(8, 3, 1, 4, 4, "head", 16))
    with pytest.raises(TableError, match="the table of local has no block that a look-up table can express"):
        table_to_lut(LatencyTable("local", (measured(head, 1e-3),), {}))


PIECES = st.sampled_from(
    [
        KEY,
        ": ",
        "{",
        "}",
        "[",
        "mean",
        "count",
        "1.5",
        ",",
        "\n",
        "  ",
        "- ",
        "&a ",
        "*a",
        "!!map ",
        "|",
        "\t",
        "\x00",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40))
def test_no_text_brings_the_reader_down(text: str) -> None:
    with suppress(TableError):
        assert all(figure.mean_s > 0 for figure in read_lut(text, "t").values())
