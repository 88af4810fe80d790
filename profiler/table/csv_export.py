"""Export of a latency table as flat CSV text, for spreadsheets and other programs."""

import csv
import io
from typing import Any

from jmsnas.csv_file import cell_of_text
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.schema import SCHEMA, row_to_record

# Without the thousands of raw samples of a row; the Parquet table has them.
COLUMNS = tuple(name for name in SCHEMA.names if name != "samples")


def table_to_csv(table: LatencyTable) -> str:
    """Convert a table to CSV with a header: the columns of docs/table.md without `samples`.

    Floats are written exactly (they read back equal), booleans as `true` and `false`, lists with ` | `
    between their items; text that a spreadsheet would run as a formula has an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in table.all_rows:
        writer.writerow({name: _cell(value) for name, value in row_to_record(row).items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return cell_of_text(" | ".join(map(str, value)))
    if isinstance(value, str):
        return cell_of_text(value)
    return str(value).lower() if isinstance(value, bool) else value
