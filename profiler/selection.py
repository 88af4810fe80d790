"""Which blocks a sweep measures next: those that are missing, those known worst, those to repeat."""

import math
from collections.abc import Sequence

import numpy as np

from jmsnas.cost import operators
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.trust import is_disturbed
from jmsnas.space import BlockOrPart, Part

# A tenth, but no fewer than give the noise floor a 90th percentile.
_REPEATED_SHARE, _FEWEST_REPEATED = 0.1, 8


def select_to_measure(
    table: LatencyTable, key: RuntimeKey, subjects: Sequence[BlockOrPart], *, refine: bool
) -> list[BlockOrPart]:
    """Blocks and parts to measure under a key, in the order given.

    What the table lacks and what was disturbed when it was measured; with `refine` also rows that did not
    converge, or where there is none of all these the wider half of the rows. Identity runs no operator, so
    torchprof, which sees operators, is not asked for it, nor for networks with one.
    """
    if key.timer == "torchprof":
        subjects = [subject for subject in subjects if _seen_by_torchprof(subject)]
    have = {row.block: row for row in _measured(table, key)}
    wanted = [
        s for s in subjects if s not in have or is_disturbed(have[s]) or (refine and not have[s].converged)
    ]
    if wanted or not refine:
        return wanted
    widest = sorted((s for s in subjects), key=lambda s: -have[s].half_width)[: math.ceil(len(subjects) / 2)]
    return [subject for subject in subjects if subject in set(widest)]


def select_to_repeat(table: LatencyTable, key: RuntimeKey, environment: str, seed: int) -> list[BlockOrPart]:
    """Blocks to measure in a second process, so that a tenth of a key's rows have been: a random choice."""
    rows = [row for row in _measured(table, key) if row.environment == environment]
    once = [row.block for row in rows if len(row.process_rounds) == 1]
    enough = min(len(rows), max(_FEWEST_REPEATED, math.ceil(_REPEATED_SHARE * len(rows))))
    missing = enough - (len(rows) - len(once))
    if missing <= 0:
        return []
    chosen = np.random.default_rng(seed).permutation(len(once))[:missing]
    return [once[index] for index in sorted(chosen.tolist())]


def _seen_by_torchprof(subject: BlockOrPart) -> bool:
    return all(operators(block) for block in (subject.blocks if isinstance(subject, Part) else (subject,)))


def _measured(table: LatencyTable, key: RuntimeKey) -> list[AnyRow]:
    return [row for row in table.all_rows if row.key == key and row.kind == "measured"]
