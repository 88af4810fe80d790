"""Latency look-up tables as files: a ProxylessNAS YAML file, and CSV text of records."""

import csv
import io
from collections.abc import Sequence
from typing import Any

LUT = """\
Conv-input:32x32x3-output:16x16x16: {count: 100, mean: 0.9, std: 0.1}
expanded_conv-input:16x16x16-output:8x8x24-expand:3-kernel:3-stride:2-idskip:0: {count: 9, mean: 1.5, std: 0}
expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:3-stride:1-idskip:1: {mean: 1.0}
Conv_1-input:8x8x24-output:8x8x64: {mean: 0.4}
Logits-input:8x8x64-output:10: {mean: 0.2}
"""


def csv_text(records: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
