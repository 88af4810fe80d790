"""Breakdowns of many blocks, the JSON file that keeps them, and the rows of a latency table that show them.

Schema history: 1 (2026-11) first version. docs/torchprof.md tells what the numbers are.
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from jmsnas.blocks import example_input
from jmsnas.errors import MeasurementError, SpaceError, TableError
from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host, environment_id
from jmsnas.profiler.table.journal import journal_path, table_lock
from jmsnas.profiler.table.latency_table import BlockRow, RuntimeKey
from jmsnas.profiler.table.merge_journal import Warn, merge_journal
from jmsnas.profiler.table.parquet import write_table
from jmsnas.profiler.timing.backends import pinned
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.torchprof_backend import Breakdown, stage_latency_s, warm_up_schedule
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block

SCHEMA_VERSION = 1
TIMER = "torchprof 0.3.0 (hooks add to every layer)"
# Every stage there is, in the order a table and a legend name them.
STAGES = ("expand", "depthwise", "project", "add", "stem", "head_conv", "head_pool", "head_dense")
# What torchprof saw is of these rows: its own, and wall clock of the same run time.
_KEYS = (RuntimeKey("torch"), RuntimeKey("torch", timer="torchprof"))
# A thousand blocks are half a megabyte; more is a mistake or an attack.
_MAX_BYTES = 16 << 20


def profile_breakdowns(
    blocks: Sequence[Block],
    *,
    runs: int = 30,
    seed: int = 0,
    progress: Progress = no_progress,
    warn: Callable[[str], object] = warnings.warn,
) -> tuple[Breakdown, ...]:
    """Break every block down that runs operators (Identity runs none): eager torch, one thread, batch 1.

    Rounds over all blocks in random order, so that a host that changes its speed hits all alike.

    Parameters
    ----------
    blocks
        What to profile.
    runs
        Rounds to take the median over, 1 or more; a warm-up comes on top.
    seed
        Seed of weights, inputs and the order.
    progress, tell
        Called with how far it is (in rounds), and with a line for each block that torchprof refuses: it is
        left out.

    Returns
    -------
    One for each block, in the order given.

    Raises
    ------
    InputError
        For fewer runs than 1.
    MeasurementError
        When no block is left.
    """
    wanted = [block for block in dict.fromkeys(blocks) if block.candidate.op != "identity"]
    ready = [(block, seeded_module(block, seed), example_input(block, 1, seed)) for block in wanted]
    found: dict[Block, list[dict[str, float]]] = {block: [] for block in wanted}
    generator, rounds = np.random.default_rng(seed), warm_up_schedule(runs)
    with pinned(RuntimeKey("torch")):
        for done, counts in enumerate(rounds):
            progress(done, len(rounds), "torchprof: rounds over all blocks")
            for index in generator.permutation(len(ready)):
                block, module, x_NCHW = ready[index]
                try:
                    if block in found:
                        module(x_NCHW)  # not counted: the caches hold the block before
                        seconds = stage_latency_s(block, module, x_NCHW)
                        found[block] += [seconds] if counts else []
                except MeasurementError as error:
                    del found[block]
                    warn(f"{block} is left out of the breakdown: {error}")
    if not found:
        raise MeasurementError(
            f"none of {len(blocks)} blocks was broken down: expected one or more that run operators "
            "(an Identity has none) and that torchprof can profile. Give another --space, or reinstall jmsnas"
        )
    progress(len(rounds), len(rounds), "torchprof: done")
    return tuple(_medians(block, of) for block, of in found.items())


def _medians(block: Block, runs: Sequence[Mapping[str, float]]) -> Breakdown:
    stages = tuple((stage, median(run[stage] for run in runs)) for stage in runs[0])
    return Breakdown(block, stages, median(sum(run.values()) - run.get("add", 0.0) for run in runs))


def add_stages_to_table(device: str, path: Path, found: Sequence[Breakdown], warn: Warn) -> int:
    """Write breakdowns into the rows of a device's table that eager torch gave here; return into how many.

    Parameters
    ----------
    device, path
        Whose table, and where it lies; there need be none.
    found
        What `profile_breakdowns` gave; rows of other blocks keep what they have.
    tell
        As in `jmsnas.profiler.table.merge_journal.fold_journal`, whose errors these are too.

    Raises
    ------
    MeasurementError
        When a profiler writes this table.
    """
    stages, here = {each.block: each.stages for each in found}, environment_id(describe_host())

    def noted(row: BlockRow) -> BlockRow:
        measured_so = row.kind == "measured" and row.key in _KEYS and row.environment == here
        if not measured_so or row.block not in stages:
            return row
        names, seconds = zip(*stages[row.block], strict=True)
        return replace(row, stages=names, stages_s=seconds)

    if not (path.exists() or journal_path(path).exists()):
        return 0
    with table_lock(path):
        table = merge_journal(device, path, warn)
        rows = tuple(map(noted, table.rows))
        changed = sum(row is not before for row, before in zip(rows, table.rows, strict=True))
        if changed:
            write_table(path, replace(table, rows=rows))
    return changed


def sum_of_stages_s(found: Breakdown) -> float:
    """Sum of all stages, seconds: with the addition, which `total_s` leaves out."""
    return sum(seconds for _, seconds in found.stages)


def write_breakdowns(
    path: Path, device: str, found: Sequence[Breakdown], environment: dict[str, str]
) -> dict[str, Any]:
    """Write breakdowns as JSON, in seconds; gives the document that was written.

    Parameters
    ----------
    path
        `tables/<device>.breakdown.json`.
    device, environment
        What was profiled, by name and as `describe_host` tells.
    found
        What `profile_breakdowns` gave.

    Raises
    ------
    StorageError
        When it cannot be written; the old file is untouched.
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


def read_breakdowns(path: Path) -> tuple[Breakdown, ...]:
    """Read the breakdowns of a file, in the order written.

    Raises
    ------
    TableError
        When it cannot be read, is no such file, is of another schema version, or makes no sense.
    """
    again = f"Make it with: jmsnas profile --device {path.name.partition('.')[0]} --breakdown"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}. {again}") from error
    try:
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        document = json.loads(content)
        if not isinstance(document, dict) or "schema_version" not in document:
            raise ValueError("expected an object with a schema_version")
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path} is not a file of breakdowns: {error}. {again}") from error
    if document["schema_version"] != SCHEMA_VERSION:
        raise TableError(
            f"{path} has schema {document['schema_version']}, this version reads {SCHEMA_VERSION}. {again}"
        )
    try:
        return tuple(_breakdown(record) for record in document["blocks"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, SpaceError) as error:
        raise TableError(f"{path} has a field that is missing or wrong: {error}. {again}") from error


def _breakdown(record: Mapping[str, Any]) -> Breakdown:
    block, stages = Block.parse(record["block"]), record["stages"]
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        raise ValueError(f"{block} has the stages {', '.join(stages)}, expected some of {', '.join(STAGES)}")
    return Breakdown(
        block,
        tuple((name, _above_0(seconds, f"{name} of {block}")) for name, seconds in stages.items()),
        _above_0(record["total_s"], f"total_s of {block}"),
    )


def _above_0(seconds: Any, what: str) -> float:
    if not (isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{what} is {seconds!r}, expected seconds above 0")
    return float(seconds)
