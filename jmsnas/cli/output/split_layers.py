"""Layers of `jmsnas split --list`: one JSON document, printed as a table."""

from dataclasses import asdict
from typing import Any

from jmsnas.cli.terminal import print_line, table_lines
from jmsnas.nas.graph.model import Model
from jmsnas.nas.inspection.layer_list import list_layers
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.units import format_duration


def layers_document(problem: SplitProblem, model: Model | None) -> dict[str, Any]:
    """Describe the layers of a split problem; bytes, multiply-accumulates, seconds."""
    return {
        "model": problem.model,
        "devices": list(problem.names),
        "input_bytes": dict(problem.input_bytes),
        "layers": [asdict(row) for row in list_layers(problem, model)],
        "shared_weights": [
            {"bytes": weight.size_bytes, "layers": [n + 1 for n in weight.units]}
            for weight in problem.shared_weights
        ],
    }


def print_layers(document: dict[str, Any]) -> None:
    """Print the document of `layers_document`."""
    names, layers = document["devices"], document["layers"]
    sizes = ", ".join(f"{name} {size:.0f} B" for name, size in document["input_bytes"].items())
    print_line(f"{document['model']}, {len(layers)} layers, raw input {sizes}")
    chain = all(row["inputs"] == (row["number"] - 1,) for row in layers)
    head = [
        "layer",
        "  name",
        *([] if chain else ["reads"]),
        "output B",
        "MACs",
        "weights B",
        "peak B",
        *names,
    ]
    rows = []
    for row in layers:
        reads = ",".join(str(n) if n else "input" for n in row["inputs"])
        times = ["-" if row["seconds"][k] is None else format_duration(row["seconds"][k]) for k in names]
        macs = "-" if row["macs"] is None else str(row["macs"])
        output, weights, peak = (f"{row[key]:.0f}" for key in ("output_bytes", "weight_bytes", "peak_bytes"))
        first = [str(row["number"]), f"  {row['name']}", *([] if chain else [reads])]
        rows.append([*first, output, macs, weights, peak, *times])
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    specs = [f">{widths[0]}", f"<{widths[1]}", *(f">{width + 2}" for width in widths[2:])]
    print_line(*table_lines([*zip(head, specs, strict=True)], rows))
    for shared in document["shared_weights"]:
        own = ", ".join(map(str, shared["layers"]))
        print_line(f"Layers {own} share a weight of {shared['bytes']:.0f} B, held once on a device.")
