"""Made-up tables for the quality gate: sound ones, and ways to spoil them."""

from collections.abc import Sequence
from dataclasses import replace

from jmsnas.profiler.gate_rules import Finding
from jmsnas.profiler.readings import Reading, readings_of
from jmsnas.profiler.simulated import simulated_table
from jmsnas.profiler.table import Key
from jmsnas.space_file import load_space

BLOCKS = load_space("digits").blocks()


def a_table(device: str = "board", source: str = "pi4", table: str = "t") -> list[Reading]:
    """A sound measured table: a roofline's numbers of the digits space, 1 % wide."""
    made = readings_of(simulated_table(source, BLOCKS, [Key()]), table)
    return [
        replace(r, device=device, simulated=False, low_s=r.median_s * 0.995, high_s=r.median_s * 1.005)
        for r in made
    ]


def changed(rows: Sequence[Reading], index: int, factor: float) -> list[Reading]:
    """The table with one latency (and its interval) times `factor`."""
    row = rows[index]
    assert row.low_s is not None and row.high_s is not None
    other = replace(row, median_s=row.median_s * factor, low_s=row.low_s * factor, high_s=row.high_s * factor)
    return [*rows[:index], other, *rows[index + 1 :]]


def place(rows: Sequence[Reading], text: str) -> int:
    return next(i for i, row in enumerate(rows) if row.text == text)


def only(found: Sequence[Finding], rule: str) -> Finding:
    (one,) = [entry for entry in found if entry.rule == rule]
    return one


def without_intervals(rows: Sequence[Reading]) -> list[Reading]:
    return [replace(row, low_s=None, high_s=None) for row in rows]
