"""Made-up published tables, in the columns of docs/own_tables.md: latencies that a roofline gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jmsnas.estimators.published.shapes import published_shape

# 2 GMAC/s, 0.5 ns a number moved, 50 us a call.
MACS_PER_S, S_PER_NUMBER, CALL_S = 2e9, 5e-10, 5e-5


def a_record(**changes: Any) -> dict[str, Any]:
    """An MBConv, k3 e3, 16->24 channels on 14x14 at stride 1; with the latency of the roofline."""
    record = {
        "device": "Some board",
        "processor": "CPU, 2 threads",
        "runtime": "TensorFlow Lite",
        "batch": 1,
        "op": "mbconv",
        "kernel_size": 3,
        "expansion": 3.0,
        "mid_channels": None,
        "pw_groups": 1,
        "se": False,
        "se_channels": None,
        "activation": None,
        "campaign": None,
        "stride": 1,
        "shortcut": False,
        "in_channels": 16,
        "out_channels": 24,
        "height": 14,
        "width": 14,
        "n_runs": None,
        "latency_var_ms2": None,
        "source": "somebody/something@1234567 table",
        **changes,
    }
    return {"latency_ms": roofline_ms(record), **record}


def roofline_ms(record: dict[str, Any]) -> float:
    if record["op"] not in ("mbconv", "identity"):
        return 1.0
    found = published_shape(record).operators
    macs, moved = sum(op.macs for op in found), sum(op.read + op.written for op in found)
    return 1e3 * (CALL_S + macs / MACS_PER_S + S_PER_NUMBER * moved)


def records(count: int = 18, **changes: Any) -> list[dict[str, Any]]:
    """So many blocks, three of each geometry; few enough that a roofline alone is fitted."""
    return [
        a_record(
            kernel_size=(3, 5, 7)[n % 3],
            expansion=(3.0, 6.0)[n % 2],
            in_channels=8 * (2 + n // 3 % 5),
            out_channels=8 * (3 + n // 3 % 7),
            height=7 * (1 + n // 3 % 4),
            width=7 * (1 + n // 3 % 4),
            **changes,
        )
        for n in range(count)
    ]


def write_published(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path
