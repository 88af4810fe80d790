"""The layers that a split refers to, with their numbers, sizes, MACs and latencies per device."""

from collections.abc import Mapping
from dataclasses import dataclass

from jmsnas.nas.graph.model import Model
from jmsnas.nas.split.problem import SplitProblem


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a split problem.

    `number` counts from 1; `inputs` are the numbers of the outputs it reads (0: the raw input);
    `output_bytes` are those of its output as a split counts them; `macs` is None where the model's operators
    are unknown (a table of costs); `seconds` are by device, None where the layer cannot run there.
    """

    number: int
    name: str
    inputs: tuple[int, ...]
    output_bytes: float
    macs: int | None
    weight_bytes: float
    peak_bytes: float
    seconds: Mapping[str, float | None]


def list_layers(problem: SplitProblem, model: Model | None = None) -> tuple[LayerRow, ...]:
    """List the layers of a split problem; `model`, where there is one, gives their MACs."""
    macs_N = (
        [None] * problem.N if model is None else [sum(op.macs for op in u.operators) for u in model.units]
    )
    tau_NM = problem.tau_NM.tolist()
    return tuple(
        LayerRow(
            number=n + 1,
            name=name,
            inputs=problem.inputs[n],
            output_bytes=float(problem.output_bytes_N[n]),
            macs=macs_N[n],
            weight_bytes=float(problem.weight_bytes_N[n]),
            peak_bytes=float(problem.peak_bytes_N[n]),
            seconds={
                k: s if s < float("inf") else None for k, s in zip(problem.names, tau_NM[n], strict=True)
            },
        )
        for n, name in enumerate(problem.units)
    )
