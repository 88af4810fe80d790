"""Profile blocks stage by stage with torchprof, and store the result as JSON and in the latency table.

Schema history: 1 (2026-11) first version. docs/torchprof.md describes the values.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from jmsnas.blocks import example_input
from jmsnas.errors import InputError, MeasurementError
from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host, environment_id
from jmsnas.profiler.table.journal import journal_path, table_lock
from jmsnas.profiler.table.latency_table import BlockRow, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn, merge_journal
from jmsnas.profiler.table.parquet import write_table
from jmsnas.profiler.timing.backends import pinned
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.torchprof_backend import Breakdown, stage_latency_s
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block

SCHEMA_VERSION = 1
TIMER = "torchprof 0.3.0 (hooks add to every layer)"
# All stages, in the order of tables and legends.
STAGES = ("expand", "depthwise", "project", "add", "stem", "head_conv", "head_pool", "head_dense")
# The first profiled runs include Kineto's start and torch's selection of kernels.
_WARM_UP_ROUNDS = 5
# A breakdown belongs to rows of eager torch: those of torchprof, and wall clock of the same runtime.
_KEYS = (RuntimeKey("torch"), RuntimeKey("torch", timer="torchprof"))


def profile_breakdowns(
    blocks: Sequence[Block],
    *,
    runs: int = 30,
    seed: int = 0,
    progress: Progress = no_progress,
    warn: Callable[[str], object] = warnings.warn,
) -> tuple[Breakdown, ...]:
    """Profile the stages of blocks with torchprof in eager torch, one thread, batch 1.

    Blocks run in rounds in random order, so that changes of the host's speed affect all alike. Identity runs
    no operator and is skipped.

    Parameters
    ----------
    blocks
        Blocks to profile; the breakdowns are in their order.
    runs, seed
        Rounds to take the median over, besides those of the warm-up; seed of weights, inputs and the order.
    progress, warn
        Called with the number of rounds done, and with a line for each block that torchprof refuses.

    Raises
    ------
    InputError, MeasurementError
        For fewer runs than 1; when no block is left.
    """
    if runs < 1:
        raise InputError(f"cannot take the median of {runs} runs: expected 1 or more")
    wanted = [block for block in dict.fromkeys(blocks) if block.candidate.op != "identity"]
    prepared = [(block, seeded_module(block, seed), example_input(block, 1, seed)) for block in wanted]
    found: dict[Block, list[dict[str, float]]] = {block: [] for block in wanted}
    generator, rounds = np.random.default_rng(seed), _WARM_UP_ROUNDS + runs
    with pinned(RuntimeKey("torch")):
        for done in range(rounds):
            progress(done, rounds, "torchprof: rounds over all blocks")
            for index in generator.permutation(len(prepared)):
                block, module, x_NCHW = prepared[index]
                try:
                    if block in found:
                        module(x_NCHW)  # not counted: the caches hold the previous block
                        seconds = stage_latency_s(block, module, x_NCHW)
                        found[block] += [seconds] if done >= _WARM_UP_ROUNDS else []
                except MeasurementError as error:
                    del found[block]
                    warn(f"{block} is left out of the breakdown: {error}")
    if not found:
        raise MeasurementError(
            f"none of {len(blocks)} blocks was broken down: expected one or more that run operators "
            "(an Identity has none) and that torchprof can profile. Give another --space, or reinstall jmsnas"
        )
    progress(rounds, rounds, "torchprof: done")
    return tuple(_medians(block, of) for block, of in found.items())


def _medians(block: Block, runs: Sequence[Mapping[str, float]]) -> Breakdown:
    stages = tuple((stage, median(run[stage] for run in runs)) for stage in runs[0])
    return Breakdown(block, stages, median(sum(run.values()) - run.get("add", 0.0) for run in runs))


def add_stages_to_table(device: str, path: Path, found: Sequence[Breakdown], warn: Warn) -> int:
    """Add breakdowns to the rows of a latency table that eager torch gave on this host.

    Returns the number of rows changed. The file at `path` need not exist. `warn` and the errors are those of
    `merge_journal`; MeasurementError is raised when another profiler is writing this table.
    """
    stages = {each.block: each.stages for each in found}
    environment = environment_id(describe_host())

    def with_stages(row: BlockRow) -> BlockRow:
        matches = row.kind == "measured" and row.key in _KEYS and row.environment == environment
        if not matches or row.block not in stages:
            return row
        names, seconds = zip(*stages[row.block], strict=True)
        return replace(row, stages=names, stages_s=seconds)

    if not (path.exists() or journal_path(path).exists()):
        return 0
    with table_lock(path):
        table = merge_journal(device, path, warn)
        rows = tuple(map(with_stages, table.rows))
        changed = sum(row is not before for row, before in zip(rows, table.rows, strict=True))
        if changed:
            write_table(path, replace(table, rows=rows))
    return changed


def sum_of_stages_s(found: Breakdown) -> float:
    """Sum all stages in seconds, including the addition, which `total_s` excludes."""
    return sum(seconds for _, seconds in found.stages)


def write_breakdowns(
    path: Path, device: str, found: Sequence[Breakdown], environment: dict[str, str]
) -> dict[str, Any]:
    """Write breakdowns as JSON (`tables/<device>.breakdown.json`), in seconds, and return the document.

    `environment` is the device's description by `describe_host`. Raises StorageError when the file cannot be
    written; an existing file is not changed.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "device": device,
        "timer": TIMER,
        "environment": environment,
        "blocks": [
            {"block": str(each.block), "total_s": each.total_s, "stages": dict(each.stages)} for each in found
        ],
    }
    write_json(path, document)
    return document
