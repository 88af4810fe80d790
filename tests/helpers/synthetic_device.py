"""Synthetic device file with constants for which latencies are easy to compute by hand."""

import tomllib
from typing import Any

from jmsnas.profiler.simulation.device_file import device_from_toml

MADE_UP = """
name = "toy"
description = "a made-up machine"
processor = "cpu"
dated = 2026-01-02
"""
RUNTIME = """
[RUNTIME]
evidence = EVIDENCE
basis = "made up"
per_call_s = { value = 1, source = "made up" }
[RUNTIME.pointwise]
macs_per_s = { value = 128, source = "made up" }
bytes_per_s = { value = 40, source = "made up" }
overhead_s = { value = 0.5, source = "made up" }
[RUNTIME.depthwise]
macs_per_s = { value = 144, source = "made up" }
bytes_per_s = { value = 34, source = "made up" }
overhead_s = { value = 0.25, source = "made up" }
[RUNTIME.elementwise]
bytes_per_s = { value = ELEMENTWISE, source = "made up" }
overhead_s = { value = 0.125, source = "made up" }
"""


def synthetic_document() -> dict[str, Any]:
    text = MADE_UP
    for runtime, evidence, elementwise in (("onnxruntime", "true", "48"), ("torch", "false", "16")):
        filled = RUNTIME.replace("RUNTIME", runtime).replace("EVIDENCE", evidence)
        text += filled.replace("ELEMENTWISE", elementwise)
    return tomllib.loads(text)


TOY = device_from_toml(synthetic_document(), "toy.toml")
