import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiling_jobs import BLOCKS, PART, a_row

from jmsnas.errors import TableError
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.schema import SCHEMA, row_from_record, row_to_record, separate_parts
from jmsnas.space import HEAD, STEM, Block, BlockOrPart, Candidate, Layer, Part

SUBJECTS = (
    Block(STEM, Layer(1, 16, 1, 8, 8, "stem")),
    Block(Candidate(5, 6, True), Layer(24, 24, 1, 4, 4)),
    Block(Candidate(3, 3), Layer(16, 24, 2, 8, 8)),
    Block(HEAD, Layer(32, 10, 1, 2, 2, "head", 128)),
    Block(Candidate(5, 0, True, "mbv3_hs_se"), Layer(40, 40, 1, 14, 14, hidden_channels=120)),
    PART,
    Part(BLOCKS[:1]),
)
KEYS = (
    RuntimeKey("torch", 4, 2),
    RuntimeKey("torch", 1, 8, "float16", "cuda", "channels_last", "torchprof"),
    RuntimeKey("onnxruntime", processor="cuda"),
)
TOLD = {
    "drift": 0.31,
    "interrupted": 0.05,
    "host_faults": ("the host is at 91 C", "the clock of cpu0 went from 2.00 to 1.00 GHz"),
    "trust": "red",
    "trust_reason": "95 % interval of +-20%",
    "energy_j": 3e-5,
}
MB = SUBJECTS[1]


@given(
    st.floats(1e-9, 1e3),
    st.floats(1e-9, 1e-3),
    st.sampled_from(SUBJECTS),
    st.sampled_from(KEYS),
    st.integers(1, 9),
    st.booleans(),
)
def test_row_and_its_record_say_the_same(
    ratio: float, level_s: float, subject: BlockOrPart, key: RuntimeKey, processes: int, told: bool
) -> None:
    row = a_row(subject, (ratio,) * processes, key, level_s)
    row = replace(row, **TOLD) if told else row
    record = row_to_record(row)
    assert [*record] == [*dict.fromkeys(record)] and {*record} == {*SCHEMA.names}
    assert row_from_record(json.loads(json.dumps(record, allow_nan=False))) == row


def test_part_has_all_blocks_and_the_geometry_of_the_first() -> None:
    record = row_to_record(a_row(PART))
    assert (record["candidate"], record["op"]) == ("part", "part")
    assert record["part_blocks"] == [str(block) for block in PART.blocks]
    assert (record["in_channels"], record["stride"], record["role"]) == (1, 2, "stem")
    assert row_to_record(a_row())["part_blocks"] == []


def test_rows_are_sorted_into_blocks_and_parts() -> None:
    rows = [a_row(PART), a_row(), a_row(Part(BLOCKS[:1])), a_row(MB)]
    assert separate_parts(iter(rows)) == ((rows[1], rows[3]), (rows[0], rows[2]))


def spoilt(changes: dict[str, Any], subject: BlockOrPart = MB) -> None:
    row_from_record(row_to_record(a_row(subject)) | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"median_s": -1.0}, "is invalid: .*expected 0 < low <= median <= high"),
        (
            {"ratio": math.nan},
            "is invalid: .*expected one of measured, simulated, imported and 0 < low <= ratio",
        ),
        ({"kind": "guessed"}, "'guessed' with ratio"),
        ({"runtime": "tflite"}, "cannot run in 'tflite'.*expected a runtime of onnxruntime, torch"),
        (
            {"layout": "upside_down"},
            "unknown layout 'upside_down': expected one of contiguous, channels_last",
        ),
        ({"kernel_size": 4}, "needs an odd kernel_size"),
        ({"candidate": "mb_k3_e3"}, "named 'mb_k3_e3' but has the columns of 'mb_k5_e6_skip'"),
        ({"stride": 2}, "needs a layer that keeps its shape"),
        ({"samples": None}, "is invalid"),
        ({"process_rounds": [20]}, "has 21 samples, but `process_rounds` sum to 20: expected"),
        ({"trust": "blue"}, "has trust 'blue': expected one of green, yellow, red"),
        ({"threads": "two"}, "is invalid"),
    ],
)
def test_invalid_record(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        spoilt(changes)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "a part needs one block or more"),
        (None, "is invalid"),
        (["no block"], "cannot read the block 'no block'"),
        ([str(BLOCKS[0]), str(MB)], "cannot follow"),
    ],
)
def test_invalid_part(blocks: list[str] | None, message: str) -> None:
    with pytest.raises(TableError, match=message):
        spoilt({"part_blocks": blocks}, PART)


@pytest.mark.parametrize("name", ["height", "timer", "process_rounds", "trust_reason"])
def test_record_that_lacks_a_column(name: str) -> None:
    record = row_to_record(a_row())
    del record[name]
    with pytest.raises(TableError, match=f"a row lacks the column '{name}'"):
        row_from_record(record)
