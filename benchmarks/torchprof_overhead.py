"""Overhead of torchprof's hooks: its total for a block compared with wall clock of the same module.

    python benchmarks/torchprof_overhead.py             table, in about a minute
    python benchmarks/torchprof_overhead.py --check     exit with 1 if the total is not above wall clock

Eager torch, one thread, batch 1, one process. In each round all blocks, in random order, are run under
torchprof between two wall-clock samples; the ratio is torchprof / sqrt(before * after). Identity runs no
operator, so that torchprof has no time for it, and is excluded.
"""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from harness import benchmark_parser, finish
from torch import Tensor, nn

from jmsnas.blocks import example_input
from jmsnas.profiler.host.environment import cpu_model
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.measurement import MIN_ROUNDS, median_interval
from jmsnas.profiler.timing.backends import pinned
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.torchprof_backend import layer_latency_s
from jmsnas.space import Block
from jmsnas.space_file import load_space

SHARE_BAR = 0.95
# torchprof evicts the caches; two calls warm them up for the block.
UNTIMED_CALLS, TIMED_CALLS, WARM_UP_ROUNDS = 2, 3, 2


@dataclass(frozen=True, slots=True)
class Overhead:
    """Figures of a block: medians over rounds, 95 % interval of the ratio, and quartiles over rounds."""

    block: str
    layers: int
    wall_s: float
    torchprof_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_q25: float
    ratio_q75: float
    added_per_layer_s: float


def wall_s(module: nn.Module, x_NCHW: Tensor) -> float:
    for _ in range(UNTIMED_CALLS):
        module(x_NCHW)
    began = time.perf_counter_ns()
    for _ in range(TIMED_CALLS):
        module(x_NCHW)
    return (time.perf_counter_ns() - began) * 1e-9 / TIMED_CALLS


def measure(blocks: list[Block], rounds: int, seed: int) -> list[Overhead]:
    """Measure all blocks in interleaved rounds."""
    generator = np.random.default_rng(seed)
    ready = [(seeded_module(block, seed), example_input(block, 1, seed)) for block in blocks]
    walls, totals = np.zeros((len(blocks), rounds)), np.zeros((len(blocks), rounds))
    layers = [0] * len(blocks)
    with pinned(RuntimeKey("torch")):
        for number in range(-WARM_UP_ROUNDS, rounds):
            for index in generator.permutation(len(blocks)).tolist():
                module, x_NCHW = ready[index]
                before = wall_s(module, x_NCHW)
                seconds = layer_latency_s(module, x_NCHW)
                after = wall_s(module, x_NCHW)
                if number >= 0:
                    walls[index, number] = math.sqrt(before * after)
                    totals[index, number] = sum(seconds.values())
                    layers[index] = len(seconds)
    figures = zip(blocks, layers, walls, totals, strict=True)
    return [overhead(block, count, wall, total) for block, count, wall, total in figures]


def overhead(block: Block, layers: int, wall: Any, total: Any) -> Overhead:
    ratios = total / wall
    ratio, low, high = median_interval(ratios.tolist())
    q25, q75 = (float(q) for q in np.quantile(ratios, (0.25, 0.75)))
    return Overhead(
        block=str(block),
        layers=layers,
        wall_s=float(np.median(wall)),
        torchprof_s=float(np.median(total)),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        ratio_q25=q25,
        ratio_q75=q75,
        added_per_layer_s=float(np.median(total - wall)) / layers,
    )


def report(space: str, found: list[Overhead]) -> list[str]:
    """Print the figures, and return the bars that are missed."""
    print(f"space {space} on {cpu_model()}, eager torch, 1 thread, without Identity blocks")
    print(
        f"{'block':<30} {'wall us':>8} {'torchprof us':>12} {'ratio':>6} {'95 % interval':>14} "
        f"{'middle half':>14} {'us/layer':>8}"
    )
    for row in found:
        print(
            f"{row.block:<30} {row.wall_s * 1e6:>8.1f} {row.torchprof_s * 1e6:>12.1f} {row.ratio:>6.2f} "
            f"{f'{row.ratio_low:.2f} .. {row.ratio_high:.2f}':>14} "
            f"{f'{row.ratio_q25:.2f} .. {row.ratio_q75:.2f}':>14} {row.added_per_layer_s * 1e6:>8.1f}"
        )
    ratios = np.array([row.ratio for row in found])
    above = float((ratios > 1).mean())
    added = float(np.median([row.added_per_layer_s for row in found]))
    print(
        f"ratio: median {np.median(ratios):.2f}, {ratios.min():.2f} to {ratios.max():.2f} over blocks; "
        f"{added * 1e6:.1f} us per layer (median); above wall clock: {above:.1%} of {len(found)} blocks"
    )
    for row in found:
        if row.ratio <= 1:
            print(f"NOT ABOVE wall clock: {row.block}, ratio {row.ratio:.2f}")
    if above >= SHARE_BAR:
        return []
    return [f"torchprof's total is above wall clock for {above:.1%} of blocks, expected >= {SHARE_BAR:.0%}"]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.rounds < MIN_ROUNDS:
        parser.error(f"--rounds {arguments.rounds}: expected {MIN_ROUNDS} or more, for an interval")
    blocks = [b for b in load_space(arguments.space).blocks() if b.candidate.op != "identity"]
    found = measure(blocks, arguments.rounds, arguments.seed)
    document = {"space": arguments.space, "rounds": arguments.rounds, "seed": arguments.seed}
    document["blocks"] = [asdict(row) for row in found]
    finish(arguments, document, report(arguments.space, found))


if __name__ == "__main__":
    main()
