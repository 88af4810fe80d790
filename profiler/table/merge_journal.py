"""Merge the journal of a profiling run into its latency table: pool, rescale, rate and write the rows."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np

from jmsnas.errors import TableError
from jmsnas.files import storage_error
from jmsnas.profiler.host.environment import environment_id
from jmsnas.profiler.table.journal import journal_path, read_journal
from jmsnas.profiler.table.latency_table import SCHEMA_VERSION, AnyRow, LatencyTable, R, RuntimeKey
from jmsnas.profiler.table.measurement import TARGET_HALF_WIDTH, summarise
from jmsnas.profiler.table.noise_floor import NoiseFloor, noise_floor, widened_interval
from jmsnas.profiler.table.parquet import read_metadata, read_table, write_table
from jmsnas.profiler.table.schema import row_from_record, separate_parts
from jmsnas.profiler.table.trust import is_disturbed, rate_trust
from jmsnas.space import BlockOrPart

Warn = Callable[[str], None]

# More processes and samples do not sharpen a row further, and a table must be read in a moment.
_MAX_PROCESSES, _MAX_SAMPLES = 8, 4000


def merge_journal(device: str, path: Path, warn: Warn) -> LatencyTable:
    """Merge the journal of the table at `path` into that table, remove the journal, and return the table.

    The caller must hold `table_lock`. Measured rows replace all others; rows of several processes are pooled.
    A table of another schema version and a journal with damaged lines are renamed, and `warn` called. Raises
    TableError when the table is damaged, or it or the journal is of another device, and StorageError, with
    both unchanged, when it cannot be written.
    """
    table = _existing(device, path, warn)
    waiting = journal_path(path)
    journal = read_journal(waiting)
    environments = dict(table.environments)
    latest: dict[tuple[str, RuntimeKey, BlockOrPart], AnyRow] = {}
    for record in journal.records:
        if "row" in record:
            row = row_from_record(record["row"])
            # A process reports a block again with more samples: its last report replaces earlier ones.
            latest[str(record.get("process", "")), row.key, row.block] = row
        elif record.get("schema") == SCHEMA_VERSION and record.get("device") == device:
            environments[environment_id(record["environment"])] = record["environment"]
        else:
            raise TableError(
                f"{waiting} is of schema {record.get('schema')} and device {record.get('device')!r}: "
                f"expected schema {SCHEMA_VERSION} and {device!r}. Move it away, then run the same command"
            )
    # A process killed between writing the table and removing the journal leaves the merged journal behind.
    sha256 = hashlib.sha256(repr(journal.records).encode()).hexdigest()
    if journal.damaged_lines:  # one of them may hold the environment of rows that are intact
        latest = {key: row for key, row in latest.items() if row.environment in environments}
    if latest and read_metadata(path, "jmsnas.journal_sha256") != sha256:
        kept = [row for row in table.all_rows if row.kind == "measured"]
        table = merge_rows(device, [*kept, *latest.values()], environments)
        write_table(path, table, sha256)
    if journal.damaged_lines:
        numbers = ", ".join(map(str, journal.damaged_lines[:5])) + ", ..." * (len(journal.damaged_lines) > 5)
        warn(
            f"damaged lines in {waiting}: {numbers}. The {len(latest)} rows of its other lines are in "
            f"{path.name}, the file was renamed to {_set_aside(waiting, 'damaged').name}, and lost rows are "
            "measured again"
        )
    try:
        waiting.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(waiting, error) from error
    return table


def _existing(device: str, path: Path, warn: Warn) -> LatencyTable:
    if not path.exists():
        return LatencyTable(device, (), {})
    schema = read_metadata(path, "jmsnas.schema")
    if schema not in ("", str(SCHEMA_VERSION)):
        aside = _set_aside(path, f"schema{schema}")
        warn(
            f"{path} has schema {schema}, this version writes {SCHEMA_VERSION}: it was renamed to "
            f"{aside.name}, and all rows are measured again"
        )
        return LatencyTable(device, (), {})
    table = read_table(path)
    if table.device != device:
        raise TableError(
            f"{path} is a table of {table.device}: expected {device}. Move it away, then run the same command"
        )
    return table


def _set_aside(path: Path, reason: str) -> Path:
    """Rename a file to the first free `<name>.<reason>-<n>` and return that path. Raises StorageError."""
    names = (path.with_name(f"{path.name}.{reason}-{n}") for n in count(1))
    aside = next(name for name in names if not name.exists())
    try:
        os.rename(path, aside)
    except OSError as error:
        raise storage_error(path, error) from error
    return aside


def merge_rows(device: str, rows: Iterable[AnyRow], environments: dict[str, dict[str, str]]) -> LatencyTable:
    """Merge rows in order of time into one table: pooled, on one reference latency, widened and rated.

    A host's speed jumps while its ratios stay constant, so seconds of rows that were measured at different
    moments are not comparable. Measured rows of one key and environment therefore share a reference latency:
    the median of their `reference_s`.
    """
    blocks, parts = separate_parts(rows)
    pool = LatencyTable(device, _pooled(blocks), environments, _pooled(parts))
    groups = pool.measured_groups
    levels_s = {group: median(row.reference_s for row in members) for group, members in groups.items()}
    floors = {group: noise_floor(members) for group, members in groups.items()}

    def rescaled_and_rated(row: R) -> R:
        group = row.key, row.environment
        if row.kind == "measured":
            row = _at_level(row, levels_s[group], floors[group])
        trust, reason = rate_trust(row, floors.get(group))
        return replace(row, trust=trust, trust_reason=reason)

    used = {row.environment for row in pool.all_rows}
    return LatencyTable(
        device,
        tuple(rescaled_and_rated(row) for row in sorted(pool.rows, key=lambda row: (row.key, row.block))),
        {name: values for name, values in environments.items() if name in used},
        tuple(
            rescaled_and_rated(row) for row in sorted(pool.parts, key=lambda row: (row.key, str(row.block)))
        ),
    )


def _pooled(rows: Sequence[R]) -> tuple[R, ...]:
    found: dict[tuple[RuntimeKey, BlockOrPart], R] = {}
    for row in rows:
        before = found.get((row.key, row.block))
        found[row.key, row.block] = pool_rows(before, row) if before else row
    return tuple(found.values())


def pool_rows(before: R, after: R) -> R:
    """Pool two rows of one key and block; the ratio is the median over the samples of both.

    Returns the later row alone if they cannot be pooled (another environment, a simulated row, the same
    samples again), and the undisturbed one alone if the host disturbed exactly one of them.
    """
    differ = before.kind != after.kind or before.environment != after.environment
    if not differ and not after.stages:
        after = replace(after, stages=before.stages, stages_s=before.stages_s)
    if differ or before.samples == after.samples or not before.samples:
        return after
    if is_disturbed(before) != is_disturbed(after):
        return after if is_disturbed(before) else before
    rounds = (*before.process_rounds, *after.process_rounds)[-_MAX_PROCESSES:]
    while sum(rounds) > _MAX_SAMPLES and len(rounds) > 2:
        rounds = rounds[1:]
    samples = (*before.samples, *after.samples)[-sum(rounds) :]
    # Geometric mean: the levels differ by a factor, and neither is known to be the true one.
    level_s = math.sqrt(before.reference_s * after.reference_s)
    found = summarise(samples, level_s, TARGET_HALF_WIDTH)
    return replace(
        after,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        reference_s=level_s,
        rounds=len(samples),
        converged=found.converged,
        samples=samples,
        process_rounds=rounds,
        drift=max(before.drift, after.drift),
        interrupted=max(before.interrupted, after.interrupted),
        host_faults=tuple(dict.fromkeys((*before.host_faults, *after.host_faults))),
        energy_j=before.energy_j if after.energy_j is None else after.energy_j,
    )


def _at_level(row: R, level_s: float, floor: NoiseFloor | None) -> R:
    low, high = widened_interval(row, floor)
    return replace(
        row,
        median_s=row.ratio * level_s,
        low_s=low * level_s,
        high_s=high * level_s,
        min_s=min(row.samples) * level_s,
        p90_s=float(np.quantile(row.samples, 0.9)) * level_s,
    )
