"""Export of a latency table as flat CSV text, for spreadsheets and other programs."""

import csv
import io
from typing import Any

from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.schema import SCHEMA, row_to_record

# Thousands of raw samples a row; the Parquet table has them.
_OMITTED = ("samples",)


def table_to_csv(table: LatencyTable) -> str:
    """Convert a table to CSV with a header: the columns of docs/table.md without `samples`.

    Floats are written exactly (they read back equal), booleans as `true` and `false`, lists with ` | `
    between their items.
    """
    text = io.StringIO()
    names = [name for name in SCHEMA.names if name not in _OMITTED]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in table.all_rows:
        writer.writerow({name: _cell(value) for name, value in row_to_record(row).items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " | ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else value
