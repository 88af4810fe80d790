"""Made-up tables for the quality gate: sound ones, and ways to spoil them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from jmsnas.profiler.quality.latency_entry import LatencyEntry, entries_of_table
from jmsnas.profiler.quality.rules import QualityFinding
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space_file import load_space

BLOCKS = load_space("digits").blocks()


def a_table(device: str = "board", source: str = "pi4", table: str = "t") -> list[LatencyEntry]:
    """A sound measured table: a roofline's numbers of the digits space, 1 % wide."""
    made = entries_of_table(simulated_table(source, BLOCKS, [RuntimeKey()]), table)
    return [
        replace(r, device=device, simulated=False, low_s=r.median_s * 0.995, high_s=r.median_s * 1.005)
        for r in made
    ]


def changed(rows: Sequence[LatencyEntry], index: int, factor: float) -> list[LatencyEntry]:
    """The table with one latency (and its interval) times `factor`."""
    row = rows[index]
    assert row.low_s is not None and row.high_s is not None
    other = replace(row, median_s=row.median_s * factor, low_s=row.low_s * factor, high_s=row.high_s * factor)
    return [*rows[:index], other, *rows[index + 1 :]]


def place(rows: Sequence[LatencyEntry], text: str) -> int:
    return next(i for i, row in enumerate(rows) if row.label == text)


def only(found: Sequence[QualityFinding], rule: str) -> QualityFinding:
    (one,) = [entry for entry in found if entry.rule == rule]
    return one


def without_intervals(rows: Sequence[LatencyEntry]) -> list[LatencyEntry]:
    return [replace(row, low_s=None, high_s=None) for row in rows]


def cold(slow: float, head: int = 8) -> list[LatencyEntry]:
    """Rows in a random order (seed 3), 1 % noise, the first `head` slower by `slow`."""
    generator = np.random.default_rng(3)
    rows = [without_intervals(a_table())[i] for i in generator.permutation(len(BLOCKS))]
    factors = 1 + 0.01 * generator.standard_normal(len(rows))
    factors[: sum(1 for _ in rows[:head])] *= 1 + slow
    return [
        replace(r, row=i, median_s=r.median_s * f, measured_at=f"2026-11-23T00:00:{i:02}")
        for i, (r, f) in enumerate(zip(rows, factors, strict=True), 1)
    ]


def times(text: str, factor: float) -> list[LatencyEntry]:
    """The sound table with the latency of one block times `factor`."""
    rows = a_table()
    return changed(rows, place(rows, text), factor)


def larger_image(factor: float) -> list[LatencyEntry]:
    """The sound table and its stem on a larger image, in `factor` of the time."""
    rows = a_table()
    stem = next(row for row in rows if row.op == "stem")
    return [*rows, *changed([replace(stem, row=99, height=16, width=16, macs=4 * stem.macs)], 0, factor)]


def one_float() -> list[LatencyEntry]:
    rows = without_intervals(a_table())
    names = [f"mb_k{k}_e{e} 32->32 2x2" for k, e in ((3, 3), (5, 6), (7, 6))]
    return [replace(row, median_s=2e-4) if row.label in names else row for row in rows]


# For every rule a table that trips it: the defects of published tables, and those of a careless sweep.
SPOILED: dict[str, Callable[[], list[LatencyEntry]]] = {
    "positive": lambda: times("stem 1->16 8x8", -1.0),
    "units": lambda: times("mb_k3_e3 16->16 8x8", 1000.0),
    "throughput": lambda: [replace(r, median_s=r.macs / 11e9 or 1.0) for r in a_table(device="pi4")],
    "copied": lambda: [*a_table("a Raspberry Pi"), *a_table("GeForce GTX 1080 Ti", table="u")],
    "placeholder": one_float,
    "duplicate": lambda: [*a_table(), *changed([replace(a_table()[3], row=54)], 0, 2.18)],
    "identity": lambda: times("identity 24->24 4x4", 50.0),
    "monotone-kernel": lambda: times("mb_k7_e3_skip 16->16 8x8", 0.5),
    "monotone-expansion": lambda: times("mb_k7_e6 16->24 8x8 /2", 0.5),
    "monotone-resolution": lambda: larger_image(0.9),
    "cold-start": lambda: cold(0.3, head=10),
    "unconverged": lambda: [replace(row, converged=row.row > 8) for row in a_table()],
    "distrusted": lambda: [replace(r, red_reason="it throttles" * (r.row < 4)) for r in a_table()],
    "simulated": lambda: [replace(row, simulated=True) for row in a_table()],
}
