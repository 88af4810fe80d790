"""Time and memory of search steps, relative to a training step of the active operations alone.

    python benchmarks/search_step.py                    table, in about two minutes
    python benchmarks/search_step.py --check            exit with 1 if a bar is missed

Space: 32x32 input, stem 32 stride 2, 12 layers of widths 16, 32, 64, 96, 13 candidates, head 1280; batch 64,
one thread, channels last, on a synthetic chain of roofline devices (latencies do not affect the cost). In a
round the paths are sampled, the active ones are copied into a separate model (the baseline), and baseline,
weight step, baseline, architecture step, baseline run in this order in one process; a ratio is to the
geometric mean of the baselines before and after. CPU seconds, medians over rounds with their 95 % interval.

Memory is the peak allocation of a step, by torch's profiler, for one pair of paths that both spaces have:
with R = 13 candidates, and with the 7 of them that have a shortcut or are Identity.

E[T] and derivation: see step_derivation.py; `--part derivation` measures only these.
"""

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import step_derivation
import torch
from harness import benchmark_parser, finish
from step_derivation import Roofline
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from jmsnas.architecture import Architecture
from jmsnas.datasets.seeding import seeded_generator
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import LatencyLUT, build_lut
from jmsnas.nas.supernet.architecture_step import ArchitectureStep
from jmsnas.nas.supernet.gates import TwoPaths, sample_two_paths
from jmsnas.nas.supernet.latency_loss import LatencyLoss
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.nas.supernet.training import to_device, weight_step
from jmsnas.profiler.table.measurement import median_interval
from jmsnas.profiler.timing.paired_timing import MIN_ROUNDS
from jmsnas.space import Candidate, SearchSpace
from jmsnas.space_file import space_from_toml
from jmsnas.topology import load_topology

WEIGHT_BAR, ARCH_BAR, BOTH_BAR, MEMORY_BAR, FLAT_BAR = 1.10, 0.90, 1.9, 1.15, 0.05
BATCH, CPU = 64, torch.device("cpu")


def space_of(shortcut_only: bool) -> SearchSpace:
    """Search space with 13 candidates, or with the 7 that have a shortcut or are Identity."""
    kept = [f"mb_k{k}_e{e}_skip" for k in (3, 5, 7) for e in (3, 6)] + ["identity"]
    widths = ((16, 1), (32, 2), (64, 2), (96, 2))
    stages: list[dict[str, Any]] = []
    for channels, stride in widths:
        if not shortcut_only:
            stages.append({"layers": 3, "channels": channels, "stride": stride})
            continue
        plain = [name.removesuffix("_skip") for name in kept[:-1]]
        stages.append({"layers": 1, "channels": channels, "stride": stride, "candidates": plain})
        stages.append({"layers": 2, "channels": channels, "stride": 1, "candidates": kept})
    table = {
        "name": "step",
        "input": [3, 32, 32],
        "classes": 10,
        "candidates": {"kernel_sizes": [3, 5, 7], "expansions": [3, 6], "identity": True},
        "stem": {"channels": 32, "stride": 2},
        "stage": stages,
        "head": {"channels": 1280},
    }
    return space_from_toml(table, "step")


def architecture_step(space: SearchSpace, seed: int) -> ArchitectureStep:
    topology = load_topology("chain")
    lut: LatencyLUT = build_lut(space, topology, {d.name: Roofline(d.table) for d in topology.devices})
    torch.manual_seed(seed)
    supernet = Supernet(space).train().to(memory_format=torch.channels_last)
    constraint = LatencyLoss("penalty", resolve_target(lut, None).t_const_s, 5.0, 0.0, 0.0)
    return ArchitectureStep(supernet, lut, constraint, 0.005, seeded_generator(seed, "paths"))


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), 0.01, 0.9, weight_decay=1e-3, nesterov=True)


def baseline_step(
    arch: ArchitectureStep, path: tuple[int, ...], x: Tensor, labels: Tensor
) -> Callable[[], Any]:
    """Training step of the active operations in a separate model, after one warm-up run."""
    space = arch.supernet.space
    chosen = Architecture(tuple(space.choices[n][i] for n, i in enumerate(path)))
    plain = copy.deepcopy(arch.supernet.derived(chosen))
    optimizer = sgd(plain)

    def step() -> None:
        weight_step(plain, (x,), labels, optimizer, "baseline")

    step()
    return step


def cpu_s(step: Callable[[], Any]) -> float:
    began = time.process_time_ns()
    step()
    return (time.process_time_ns() - began) * 1e-9


def a_batch(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return to_device(torch.randn(BATCH, 3, 32, 32, generator=draw), torch.arange(BATCH) % 10, CPU)


def time_steps(rounds: int, seed: int) -> dict[str, list[float]]:
    """Ratios of a weight step, an architecture step and both to the baseline; seconds of the baseline."""
    arch = architecture_step(space_of(shortcut_only=False), seed)
    optimizer, (x, labels) = sgd(arch.supernet), a_batch(seed)
    found: dict[str, list[float]] = {"weight": [], "architecture": [], "both": [], "baseline_s": []}
    for number in range(-2, rounds):
        state = arch.generator.get_state()
        active = sample_two_paths(arch.probabilities(), arch.mask_NR, arch.generator).active
        arch.generator.set_state(state)  # the step will draw the same
        baseline = baseline_step(arch, active, x, labels)
        weight_step(arch.supernet, (x, active), labels, optimizer, "warm")
        first = cpu_s(baseline)
        weight = cpu_s(lambda: weight_step(arch.supernet, (x, active), labels, optimizer, "here"))  # noqa: B023
        second = cpu_s(baseline)
        architecture = cpu_s(lambda: arch.step(x, labels))
        third = cpu_s(baseline)
        if number >= 0:
            found["weight"].append(weight / math.sqrt(first * second))
            found["architecture"].append(architecture / math.sqrt(second * third))
            found["both"].append((weight + architecture) / ((first * second * third) ** (1 / 3)))
            found["baseline_s"].append(second)
    return found


def peak_bytes(step: Callable[[], Any]) -> int:
    """Peak allocation of a step, in bytes, without earlier allocations."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    results = watched.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = sorted((e.start_ns(), e.nbytes()) for e in results if e.name() == "[memory]")
    held = peak = 0
    for _, size in events:
        held += size
        peak = max(peak, held)
    return peak


def peaks(shortcut_only: bool, seed: int) -> dict[str, int]:
    """Peak bytes of a weight and of an architecture step with the largest kernels and expansion."""
    space = space_of(shortcut_only)
    arch = architecture_step(space, seed)

    def path(kernel: int) -> tuple[int, ...]:
        wanted = (Candidate(kernel, 6, True), Candidate(kernel, 6))
        return tuple(next((cs.index(c) for c in wanted if c in cs), 0) for cs in space.choices)

    paths, optimizer, (x, labels) = TwoPaths(path(7), path(5)), sgd(arch.supernet), a_batch(seed)
    return {
        "weight": peak_bytes(
            lambda: weight_step(arch.supernet, (x, paths.active), labels, optimizer, "here")
        ),
        "architecture": peak_bytes(lambda: arch._gate_gradients(x, labels, paths)),
    }


def training_steps(rounds: int, seed: int, document: dict[str, Any]) -> list[str]:
    """Measure time and peak memory of the steps, print them, and return the bars that are missed."""
    ratios = time_steps(rounds, seed)
    bars = {"weight": WEIGHT_BAR, "architecture": ARCH_BAR, "both": BOTH_BAR}
    document["rounds"], missed = rounds, list[str]()
    baseline_s = sorted(ratios["baseline_s"])[len(ratios["baseline_s"]) // 2]
    print(f"baseline: {baseline_s * 1e3:.0f} ms (median), batch {BATCH}, one thread, {rounds} rounds")
    print(f"{'step':<14} {'to baseline':>12} {'95 % interval':>16} {'bar':>6}")
    for name, bar in bars.items():
        middle, low, high = median_interval(ratios[name])
        document[name] = {"ratio": middle, "low": low, "high": high, "bar": bar}
        print(f"{name:<14} {middle:>12.3f} {f'{low:.3f} .. {high:.3f}':>16} {bar:>6.2f}")
        if low > bar:
            missed.append(f"{name} step: {low:.3f} (lower end) of the baseline, expected <= {bar}")
    of_13, of_7 = peaks(False, seed), peaks(True, seed)
    document["peak_bytes"] = {"R=13": of_13, "R=7": of_7}
    for label, peak in (("R = 13", of_13), ("R = 7", of_7)):
        share = peak["architecture"] / peak["weight"]
        print(
            f"{label}: peak of a weight step {peak['weight'] / 2**20:.1f} MiB, of an architecture step "
            f"{peak['architecture'] / 2**20:.1f} MiB: {share:.3f} of it, bar {MEMORY_BAR}"
        )
        if share > MEMORY_BAR:
            missed.append(f"memory at {label}: {share:.3f} of the weight step's, expected <= {MEMORY_BAR}")
    growth = abs(of_13["architecture"] / of_7["architecture"] - 1)
    print(f"architecture step's peak, R = 13 against R = 7: {growth:.2%} difference, bar {FLAT_BAR:.0%}")
    if growth > FLAT_BAR:
        missed.append(f"memory grows with R: {growth:.2%} from R = 7 to 13, expected <= {FLAT_BAR:.0%}")
    return missed


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("all", "steps", "derivation"), default="all")
    arguments = parser.parse_args()
    if arguments.rounds < max(MIN_ROUNDS, 30):
        parser.error(f"--rounds {arguments.rounds}: expected 30 or more")
    torch.set_num_threads(1)
    document: dict[str, Any] = {}
    missed: list[str] = []
    if arguments.part != "derivation":
        missed += training_steps(arguments.rounds, arguments.seed, document)
    if arguments.part != "steps":
        figures, short = step_derivation.report(arguments.seed)
        document |= figures
        missed += short
    finish(arguments, document, missed)


if __name__ == "__main__":
    main()
