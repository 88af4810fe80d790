from dataclasses import replace

import pytest
from profiling_jobs import BLOCKS, EAGER, PART, a_row

from jmsnas.profiler.selection import select_to_measure, select_to_repeat
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.schema import separate_parts
from jmsnas.space import Block, Candidate, Layer
from jmsnas.space_file import load_space

SUBJECTS = (*BLOCKS[:3], PART)
MANY = load_space("digits").blocks()


def table(*rows: AnyRow) -> LatencyTable:
    blocks, parts = separate_parts(rows)
    return LatencyTable("local", blocks, {}, parts)


def whole() -> list[AnyRow]:
    """A row of every subject; each half as wide as the one before."""
    return [a_row(subject, half_width=0.008 / 2**n) for n, subject in enumerate(SUBJECTS)]


def test_all_of_an_empty_table_in_the_order_given() -> None:
    for refine in (False, True):
        assert select_to_measure(table(), EAGER, SUBJECTS[::-1], refine=refine) == [*SUBJECTS[::-1]]


def test_what_is_missing_under_this_key() -> None:
    rows = [
        whole()[0],
        whole()[3],
        a_row(SUBJECTS[1], key=RuntimeKey()),
        replace(whole()[2], kind="simulated"),
    ]
    assert select_to_measure(table(*rows), EAGER, SUBJECTS, refine=False) == [SUBJECTS[1], SUBJECTS[2]]


def test_what_was_disturbed_is_measured_again() -> None:
    rows = whole()
    rows[1], rows[3] = replace(rows[1], host_faults=("hot",)), replace(rows[3], interrupted=0.3)
    assert select_to_measure(table(*rows), EAGER, SUBJECTS, refine=False) == [SUBJECTS[1], SUBJECTS[3]]


def test_torchprof_is_not_asked_for_what_runs_no_operator() -> None:
    key = RuntimeKey("torch", timer="torchprof")
    assert select_to_measure(table(), key, SUBJECTS, refine=False) == [BLOCKS[0], BLOCKS[1], PART]
    rows = [a_row(subject, key=key) for subject in (BLOCKS[0], BLOCKS[1], PART)]
    assert select_to_measure(table(*rows), key, SUBJECTS, refine=False) == []


def test_refining_takes_what_did_not_converge() -> None:
    rows = whole()
    rows[2] = replace(rows[2], converged=False)
    assert select_to_measure(table(*rows), EAGER, SUBJECTS, refine=True) == [SUBJECTS[2]]
    assert select_to_measure(table(*rows), EAGER, SUBJECTS, refine=False) == []


def test_refining_a_whole_table_takes_the_wider_half() -> None:
    assert select_to_measure(table(*whole()), EAGER, SUBJECTS, refine=True) == [SUBJECTS[0], SUBJECTS[1]]
    # Of an odd number the larger half; in the order given, not of width.
    subjects = (SUBJECTS[3], SUBJECTS[1], SUBJECTS[0])
    assert select_to_measure(table(*whole()), EAGER, subjects, refine=True) == [SUBJECTS[1], SUBJECTS[0]]
    assert select_to_measure(table(*whole()), EAGER, (), refine=True) == []


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (8, 8), (20, 8), (53, 8)])
def test_at_least_eight_are_repeated(rows: int, expected: int) -> None:
    assert len(select_to_repeat(table(*map(a_row, MANY[:rows])), EAGER, "abc", 0)) == expected


def test_tenth_is_repeated() -> None:
    rows = [a_row(Block(Candidate(3, 3), Layer(8, 8, 1, height, 4))) for height in range(1, 102)]
    assert len(select_to_repeat(table(*rows), EAGER, "abc", 0)) == 11, "of 101, rounded up"


def test_choice_follows_the_seed_and_keeps_the_order() -> None:
    of = table(*map(a_row, MANY))
    first, same, other = (select_to_repeat(of, EAGER, "abc", seed) for seed in (1, 1, 2))
    assert first == same != other
    assert first == [block for block in MANY if block in first]


def test_none_when_enough_were_repeated() -> None:
    rows = [a_row(block, (1.0, 1.01) if n < 8 else (1.0,)) for n, block in enumerate(MANY)]
    assert select_to_repeat(table(*rows), EAGER, "abc", 0) == []
    rows = [a_row(block, (1.0, 1.01) if n < 5 else (1.0,)) for n, block in enumerate(MANY)]
    found = select_to_repeat(table(*rows), EAGER, "abc", 0)
    assert len(found) == 3 and not {*found} & {*MANY[:5]}


def test_only_rows_of_this_key_and_environment() -> None:
    rows = [
        a_row(MANY[0], key=RuntimeKey()),
        replace(a_row(MANY[1]), environment="another"),
        replace(a_row(MANY[2]), kind="simulated"),
        a_row(MANY[3]),
        a_row(PART),
    ]
    assert select_to_repeat(table(*rows), EAGER, "abc", 0) == [MANY[3], PART]
