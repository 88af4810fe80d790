"""A latency table as flat CSV text, for spreadsheets and other programs."""

import csv
import io

from jmsnas.profiler.parquet import SCHEMA, row_record
from jmsnas.profiler.table import LatencyTable

# A list has no place in a flat file; the Parquet table keeps it.
_LEFT_OUT = ("samples",)


def csv_of(table: LatencyTable) -> str:
    """Give a table as CSV: a header, then one line a row, the columns of docs/table.md without `samples`.

    Numbers are written so that reading them gives the same float; truth values as `true` and `false`.
    """
    text = io.StringIO()
    names = [name for name in SCHEMA.names if name not in _LEFT_OUT]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        record = row_record(row)
        writer.writerow(
            {name: str(value).lower() if isinstance(value, bool) else value for name, value in record.items()}
        )
    return text.getvalue()
