"""Read latencies from CSV: exports of `jmsnas table export`, and published tables (docs/own_tables.md)."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from jmsnas.csv_file import parse_csv, text_of_cell
from jmsnas.errors import SpaceError, TableError
from jmsnas.operations import squeezed_channels
from jmsnas.profiler.exchange.lut_keys import HeadPiece, LutEntry, MeanLatency
from jmsnas.profiler.exchange.lut_yaml import parse_ms
from jmsnas.profiler.exchange.published_setting import PublishedSetting, published_setting
from jmsnas.profiler.quality.read_published import BLOCK_COLUMNS, TEXT_COLUMNS
from jmsnas.profiler.table.csv_export import COLUMNS as EXPORTED_COLUMNS
from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.measurement import Z_95
from jmsnas.profiler.table.schema import SCHEMA, row_from_record
from jmsnas.space import IDENTITY, STEM, Block, Candidate, Layer

CsvRecord = Mapping[str, str]
# Columns of names, which may have commas.
_TEXTS = (
    *(
        field.name
        for field in SCHEMA
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    ),
    *TEXT_COLUMNS,
)
_OPS = ("mbconv", "identity", "stem_conv3x3", "head_conv1x1", "pool_fc")
_CLIPPED, _HARD = ("", "relu", "relu6"), ("h_swish", "hard_swish")
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": False}


def read_csv_records(text: str, name: str) -> tuple[CsvRecord, ...]:
    """Read the rows of a CSV file as dictionaries by column name. Raises TableError."""
    table = parse_csv(text, name, {*BLOCK_COLUMNS, *EXPORTED_COLUMNS}, _TEXTS, TableError)
    names, records = table.names, table.rows
    wanted = EXPORTED_COLUMNS if "candidate" in names else BLOCK_COLUMNS
    missing = [column for column in wanted if column not in names]
    if missing or not records:
        why = f"it lacks the columns {', '.join(missing)}" if missing else "it has no rows"
        raise TableError(f"{name} is not a latency table: {why}. Expected those of docs/own_tables.md")
    return records


def to_csv_records(records: Sequence[Mapping[str, object]]) -> tuple[CsvRecord, ...]:
    """Convert plain records, as of a Parquet file, to strings as in CSV."""
    return tuple(
        {name: "" if value is None else str(value) for name, value in record.items()} for record in records
    )


def rows_of_export(records: Sequence[CsvRecord], name: str) -> tuple[AnyRow, ...]:
    """Read the rows of an exported JMSNAS table, which have no samples. Raises TableError."""
    found = []
    for number, record in enumerate(records, 1):
        try:
            values = {column: _value(record[column], SCHEMA.field(column)) for column in EXPORTED_COLUMNS}
        except ValueError as error:
            raise TableError(f"{name} row {number} is invalid: {error}") from error
        found.append(row_from_record({**values, "samples": []}, f"{name} row {number}"))
    return tuple(found)


def _value(cell: str, field: pa.Field) -> object:
    kind = field.type
    if pa.types.is_list(kind):
        items = text_of_cell(cell).split(" | ") if cell else []
        is_text = pa.types.is_string(kind.value_type)
        return items if is_text else [_value(item, kind.value_field) for item in items]
    if not cell and not pa.types.is_string(kind):
        if field.nullable:
            return None
        raise ValueError(f"{field.name} is empty")
    if pa.types.is_boolean(kind):
        return _truth(cell, field.name)
    if pa.types.is_integer(kind):
        number = int(cell)
        if abs(number) >= 2**31:
            raise ValueError(f"{cell} is too large")
        return number
    if pa.types.is_floating(kind):
        if not math.isfinite(float(cell)):
            raise ValueError(f"{cell} is not a finite number")
        return float(cell)
    return text_of_cell(cell)


def _truth(cell: str, name: str) -> bool:
    if cell.lower() not in _TRUTH:
        raise ValueError(f"{name} is {cell[:40]!r}, expected true or false")
    return _TRUTH[cell.lower()]


def select_setting(
    records: Sequence[CsvRecord], name: str, only: str | None
) -> tuple[PublishedSetting, dict[int, CsvRecord]]:
    """Select the rows of one device, processor, runtime and campaign: the setting, and rows by number.

    `only` is a case-insensitive part of its name, for tables of several. Raises TableError.
    """
    by_setting: dict[PublishedSetting, dict[int, CsvRecord]] = {}
    for number, record in enumerate(records, 1):
        by_setting.setdefault(published_setting(record), {})[number] = record
    found = [setting for setting in by_setting if (only or "").lower() in str(setting).lower()]
    if len(found) != 1:
        several = "; ".join(sorted(map(str, found or by_setting))[:4])
        have = f"{len(found)} settings" if found else f"no setting with {only!r}"
        raise TableError(f"{name} has {have} ({several}): select one by a part of its name with --only")
    return found[0], by_setting[found[0]]


def published_entries(
    records: Mapping[int, CsvRecord], name: str
) -> tuple[dict[int, list[LutEntry]], Counter[str]]:
    """Read the entries of a published table by batch, and count the skipped rows by reason.

    The rows are by their number, which is used in messages. Raises TableError when a cell is invalid, or a
    latency is not a number above 0.
    """
    # FBNet's blocks, the only ones with grouped convolutions, expand even by a ratio of 1.
    always = any(record.get("pw_groups", "") not in ("", "1", "1.0") for record in records.values())
    found: dict[int, list[LutEntry]] = {}
    skipped: Counter[str] = Counter()
    for number, record in records.items():
        try:
            latency, why = _latency(record), _skip_reason(record, always)
            if why:
                skipped[why] += 1
            else:
                found.setdefault(_whole(record, "batch", 1), []).append((_blocks_of(record), latency))
        except (ValueError, ArithmeticError, SpaceError, TableError) as error:
            raise TableError(f"{name} row {number} is invalid: {error}") from error
    return found, skipped


def _latency(record: CsvRecord) -> MeanLatency:
    mean_s = parse_ms(record["latency_ms"], "latency_ms")
    runs = _whole(record, "n_runs", 0)
    spread = record.get("latency_var_ms2")
    if not runs or not spread:
        return MeanLatency(mean_s, None, runs, bool(record.get("n_runs")) and not runs)
    if not 0 <= float(spread) < math.inf:
        raise ValueError(f"latency_var_ms2 is {spread}, expected 0 or more")
    return MeanLatency(mean_s, 1e-3 * Z_95 * math.sqrt(float(spread) / runs), runs)


def _whole(record: CsvRecord, name: str, default: int) -> int:
    try:
        number = float(record.get(name) or default)
    except ValueError:
        number = math.nan
    if not 0 <= number < 2**31 or number != int(number):
        raise ValueError(f"{name} is {record[name][:40]!r}, expected a whole number")
    return int(number)


def _skip_reason(record: CsvRecord, always_expands: bool) -> str:
    """Reason why a row is no block of JMSNAS; empty if it is one."""
    op, activation = record["op"], record.get("activation", "")
    if op not in _OPS:
        raise ValueError(f"op is {op[:40]!r}, expected one of {', '.join(_OPS)}")
    if record.get("pw_groups", "") not in ("", "1", "1.0"):
        return "grouped 1x1 convolutions"
    if op == "mbconv" and always_expands and _middle(record) == _whole(record, "in_channels", 0):
        return "an expansion by 1"
    if activation not in (*_CLIPPED, *_HARD) or (op == "head_conv1x1" and activation in _HARD):
        return f"{op} with activation {activation}"
    squeezed = _whole(record, "se_channels", 0)
    if op == "mbconv" and squeezed not in (0, squeezed_channels(_middle(record))):
        return "squeeze-and-excitation of another width"
    return ""


def _middle(record: CsvRecord) -> int:
    wide = _whole(record, "in_channels", 0)
    return _whole(record, "mid_channels", 0) or round(wide * float(record["expansion"] or 1))


def _blocks_of(record: CsvRecord) -> tuple[Block | HeadPiece, ...]:
    """Blocks or pieces that a row can mean, as for `lut_keys.parse_key`."""
    wide, out, height, width = (
        _whole(record, name, 0) for name in ("in_channels", "out_channels", "height", "width")
    )
    stride, op = _whole(record, "stride", 1), record["op"]
    if op == "head_conv1x1":
        return (HeadPiece("Conv_1", (height, width, wide), (height, width, out)),)
    if op == "pool_fc":
        layer = Layer(wide, out, 1, height, width, "head")
        return Block(Candidate(0, 0, op="classifier"), layer), HeadPiece(
            "Logits", (height, width, wide), (1, 1, out)
        )
    hard = record.get("activation", "") in _HARD
    if op == "stem_conv3x3":
        stem = Candidate(3, 0, op="stem_hs") if hard else STEM
        return (Block(stem, Layer(wide, out, stride, height, width, "stem")),)
    if op == "identity":
        return (Block(IDENTITY, Layer(wide, out, stride, height, width)),)
    kernel_size, middle = _whole(record, "kernel_size", 0), _middle(record)
    shortcut, squeeze = _truth(record["shortcut"], "shortcut"), _truth(record.get("se", ""), "se")
    if hard or squeeze or middle % wide:
        # MobileNetV3 blocks are MBConvs of any hidden width.
        candidate = Candidate(
            kernel_size, 0, shortcut, f"mbv3_{'hs' if hard else 're'}{'_se' if squeeze else ''}"
        )
        return (Block(candidate, Layer(wide, out, stride, height, width, hidden_channels=middle)),)
    return (Block(Candidate(kernel_size, middle // wide, shortcut), Layer(wide, out, stride, height, width)),)
