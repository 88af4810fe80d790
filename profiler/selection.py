"""Select the blocks to measure next: missing rows, rows with the widest intervals, and rows to repeat."""

import math
from collections.abc import Sequence

import numpy as np

from jmsnas.cost import operators
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.trust import is_disturbed
from jmsnas.space import BlockOrPart, Part

# A tenth, but at least as many as give the noise floor a 90th percentile.
_REPEATED_SHARE, _MIN_REPEATED = 0.1, 8


def select_to_measure(
    table: LatencyTable, key: RuntimeKey, subjects: Sequence[BlockOrPart], *, refine: bool
) -> list[BlockOrPart]:
    """Select the blocks and parts to measure under a runtime key, in the order given.

    These are the ones without a row or whose row was disturbed; with `refine` also those that did not
    converge, or where there are none of all these the half of the rows with the widest intervals. Under
    torchprof, blocks without operators (Identity) and models that contain one are left out.
    """
    if key.timer == "torchprof":
        subjects = [subject for subject in subjects if _has_operators(subject)]
    rows = {row.block: row for row in _measured(table, key)}
    wanted = [
        subject
        for subject in subjects
        if subject not in rows or is_disturbed(rows[subject]) or (refine and not rows[subject].converged)
    ]
    if wanted or not refine:
        return wanted
    widest = sorted(subjects, key=lambda subject: -rows[subject].half_width)[: math.ceil(len(subjects) / 2)]
    return [subject for subject in subjects if subject in set(widest)]


def select_to_repeat(table: LatencyTable, key: RuntimeKey, environment: str, seed: int) -> list[BlockOrPart]:
    """Select random blocks to repeat in a second process, until a tenth of a key's rows are repeated."""
    rows = [row for row in _measured(table, key) if row.environment == environment]
    once = [row.block for row in rows if len(row.process_rounds) == 1]
    enough = min(len(rows), max(_MIN_REPEATED, math.ceil(_REPEATED_SHARE * len(rows))))
    missing = enough - (len(rows) - len(once))
    if missing <= 0:
        return []
    chosen = np.random.default_rng(seed).permutation(len(once))[:missing]
    return [once[index] for index in sorted(chosen.tolist())]


def _has_operators(subject: BlockOrPart) -> bool:
    return all(operators(block) for block in (subject.blocks if isinstance(subject, Part) else (subject,)))


def _measured(table: LatencyTable, key: RuntimeKey) -> list[AnyRow]:
    return [row for row in table.all_rows if row.key == key and row.kind == "measured"]
