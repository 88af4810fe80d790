"""Breakdowns of many blocks, and the JSON file that keeps them beside a device's table.

Schema history: 1 (2026-11) first version. docs/torchprof.md tells what the numbers are.
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jmsnas.errors import MeasurementError, SpaceError, TableError
from jmsnas.files import write_json
from jmsnas.profiler.torchprof_backend import Breakdown, breakdown
from jmsnas.progress import Progress, silent
from jmsnas.space import Block

SCHEMA_VERSION = 1
TIMER = "torchprof 0.3.0 (hooks add to every layer)"
# Every stage there is, in the order a table and a legend name them.
STAGES = ("expand", "depthwise", "project", "add", "stem", "head_conv", "head_pool", "head_dense")
# A thousand blocks are half a megabyte; more is a mistake or an attack.
_MAX_BYTES = 16 << 20


def break_down(
    blocks: Sequence[Block],
    *,
    runs: int = 30,
    seed: int = 0,
    progress: Progress = silent,
    tell: Callable[[str], object] = warnings.warn,
) -> tuple[Breakdown, ...]:
    """Break every block down that runs operators (Identity runs none), in the order given.

    Parameters
    ----------
    blocks
        What to profile.
    runs, seed
        As in `breakdown`.
    progress, tell
        Called with how far it is (in blocks), and with a line for each block that torchprof refuses: it is
        left out.

    Raises
    ------
    InputError
        For fewer runs than 1.
    MeasurementError
        When no block is left.
    """
    wanted = [block for block in blocks if block.candidate.op != "identity"]
    found = []
    for done, block in enumerate(wanted):
        progress(done, len(wanted), f"torchprof: {block}")
        try:
            found.append(breakdown(block, runs, seed))
        except MeasurementError as error:
            tell(f"{block} is left out of the breakdown: {error}")
    if not found:
        raise MeasurementError(
            f"none of {len(blocks)} blocks was broken down: expected one or more that run operators "
            "(an Identity has none) and that torchprof can profile. Give another --space, or reinstall jmsnas"
        )
    progress(len(wanted), len(wanted), "torchprof: done")
    return tuple(found)


def stages_s(found: Breakdown) -> float:
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
        What `break_down` gave.

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
