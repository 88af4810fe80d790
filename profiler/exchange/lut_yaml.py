"""Read and write look-up tables of ProxylessNAS and Once-for-All: YAML, key -> count, mean, std or var in ms.

Milliseconds are converted in decimal, so that a table written and read again has the same floats.
"""

import math
from collections.abc import Iterator
from decimal import Decimal

import yaml

from jmsnas.errors import TableError
from jmsnas.profiler.exchange.lut_keys import MeanLatency, key_of_block
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable
from jmsnas.profiler.table.measurement import Z_95
from jmsnas.profiler.table.parquet import first_line
from jmsnas.units import format_duration

_MAX_RUNS = 2**31 - 1
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_IGNORED = (
    *(yaml.StreamStartEvent, yaml.StreamEndEvent),
    *(yaml.DocumentStartEvent, yaml.DocumentEndEvent),
)


def read_lut(text: str, name: str, field: str = "mean") -> dict[str, MeanLatency]:
    """Read the entries of a look-up table; `name` is its name in messages.

    `field` selects the number of an entry that is the latency; `std` and `var` belong to `mean`. Raises
    TableError when it is not YAML, not a look-up table, an entry has no latency above 0, or duplicates
    differ.
    """
    found: dict[str, MeanLatency] = {}
    try:
        for key, fields in _entries(text):
            latency = _latency(fields, key, field)
            if found.setdefault(key, latency) != latency:
                both = (format_duration(one.mean_s) for one in (found[key], latency))
                raise TableError(f"{key!r} occurs twice: {' and '.join(both)}. Keep one")
    except yaml.YAMLError as error:
        raise TableError(f"{name} is not a YAML file: {first_line(error)}") from error
    except TableError as error:
        raise TableError(f"{name}: {error}") from error
    if not found:
        raise TableError(f"{name} has no entries: expected a look-up table, key -> count, mean, std")
    return found


def _entries(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Key and fields of each entry.

    Parser events are read directly: tags, aliases and deeper nesting are not supported.
    """
    depth = 0
    key: str | None = None
    field: str | None = None
    fields: dict[str, str] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.MappingStartEvent) and (depth == 0 or (depth == 1 and key is not None)):
            depth, fields = depth + 1, {}
        elif isinstance(event, yaml.MappingEndEvent):
            depth -= 1
            if depth == 1 and key is not None:
                yield key, fields
                key = None
        elif isinstance(event, yaml.ScalarEvent) and depth == 1 and key is None:
            key = event.value
        elif isinstance(event, yaml.ScalarEvent) and depth == 2 and field is None:
            field = event.value
        elif isinstance(event, yaml.ScalarEvent) and depth == 2 and field is not None:
            if field in fields:
                raise TableError(f"{key!r} has {field} twice")
            fields[field], field = event.value, None
        elif not isinstance(event, _IGNORED):
            line = event.start_mark.line + 1 if event.start_mark else "unknown"
            raise TableError(
                f"line {line} is not a look-up table entry: expected a key, and below it count, mean and "
                "std or var"
            )


def _latency(fields: dict[str, str], key: str, field: str) -> MeanLatency:
    if field not in fields:
        raise TableError(f"{key!r} has no {field}: expected milliseconds. It has {', '.join(fields)}")
    mean_s = parse_ms(fields[field], f"{field} of {key!r}")
    runs = _number(fields.get("count", "0"), f"count of {key!r}")
    if not 0 <= runs <= _MAX_RUNS or runs != int(runs):
        raise TableError(f"count of {key!r} is {fields['count'][:40]!r}: expected a number of runs")
    spread = next((name for name in ("std", "var") if name in fields), None)
    if spread is None or not runs or field != "mean":
        return MeanLatency(mean_s, None, int(runs), "count" in fields and not runs)
    number = _number(fields[spread], f"{spread} of {key!r}")
    if number < 0:
        raise TableError(f"{spread} of {key!r} is {fields[spread]!r}: expected 0 or more")
    std_s = 1e-3 * (number if spread == "std" else math.sqrt(number))
    return MeanLatency(mean_s, Z_95 * std_s / math.sqrt(runs), int(runs))


def parse_ms(text: str, what: str) -> float:
    """Convert milliseconds as text to seconds, exactly. Raises TableError naming `what`."""
    try:
        seconds = float(Decimal(text).scaleb(-3))
    except (ArithmeticError, ValueError) as error:
        raise TableError(f"{what} is {text[:40]!r}: expected milliseconds") from error
    if not 0 < seconds < math.inf:
        raise TableError(f"{what} is {text[:40]!r} ms: expected a number above 0")
    return seconds


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise TableError(f"{what} is {text[:40]!r}: expected a number") from error
    if not math.isfinite(number):
        raise TableError(f"{what} is {text[:40]!r}: expected a finite number")
    return number


def table_to_lut(table: LatencyTable) -> tuple[str, int]:
    """Convert a table of one key to a look-up table: its text, and the number of rows that it can express.

    A table without MBConvs is written in the form of Once-for-All, any other in that of ProxylessNAS. `mean`
    is the median, and `std` is derived from the interval: its half width * sqrt(count) / 1.96. Raises
    TableError when a row is simulated, which the format cannot express, or no row can be expressed.
    """
    simulated = sum(row.kind == "simulated" for row in table.all_rows)
    if simulated:
        raise TableError(
            f"{simulated} of {len(table.all_rows)} rows of {table.device} are simulated, which a "
            "look-up table cannot express: write them with --csv, or measure with jmsnas profile"
        )
    v3 = not any(row.block.candidate.op == "mb" for row in table.rows)
    entries = [(key, row) for row in table.rows if (key := key_of_block(row.block, v3))]
    if not entries:
        raise TableError(f"the table of {table.device} has no block that a look-up table can express")
    lines = [line for key, row in sorted(entries, key=lambda entry: entry[0]) for line in _lines(key, row)]
    return "\n".join(lines) + "\n", len(entries)


def _lines(key: str, row: BlockRow) -> Iterator[str]:
    yield f"{key}:"
    if row.rounds:
        yield f"  count: {row.rounds}"
    yield f"  mean: {_ms(row.median_s)}"
    if row.rounds and row.high_s > row.low_s:
        yield f"  std: {_ms((row.high_s - row.median_s) * math.sqrt(row.rounds) / Z_95)}"


def _ms(seconds: float) -> str:
    # Never 1E-7, which readers of YAML 1.1 parse as a string.
    return format(Decimal(repr(seconds)).scaleb(3), "f")
