"""Time of E[T] with its gradient, and of deriving a model: the part of search_step.py without images.

Space `imagenet`: 21 layers with up to 13 candidates, and stem, first block and head (27 on a mesh);
topologies `chain` and `mesh` of SIMULATED devices, and a mesh whose three children are a jetson, a laptop and
a jetson's CPU. A model is derived within 3 % below T_const, at six points of the feasible range, for six
kinds of p: uniform, nearly uniform, random, peaked, and as after 300 and 2000 steps of Adam with the exact
gradient of the penalty and a synthetic gradient of the cross-entropy (a constant per candidate, and noise).
CPU time, median of three below 0.2 s; the bar is for the worst.

Under binding memory: limits of 30, 50, 70 and 90 % of what the unlimited optimum uses, on the first device,
on two and on all devices in line, at 30 and 70 % of the range, for two kinds of p.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.derivation.derive import derive
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import LatencyLUT, build_lut
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.supernet.latency_loss import penalty_gradient_alpha
from jmsnas.profiler.simulation.roofline import block_latency_s, load_simulated_device
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.topology import Topology, load_topology

BAND, PARTS = 0.03, (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
EXPECTED_BARS_S = {"fixed": 1e-4, "joint": 5e-4}
DERIVE_BARS_S = {"fixed": 0.05, "joint": 1.0, "mesh": 2.0, "mesh, unlike children": 2.0}
MEMORY_BAR_S, MEMORY_SHARES = 1.0, (0.3, 0.5, 0.7, 0.9)
_CALLS, _REPEATS = 100, 15


class Roofline:
    """Latency predictor of a simulated device."""

    def __init__(self, name: str) -> None:
        self.device = load_simulated_device(name)

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""
        return np.array([block_latency_s(self.device, "onnxruntime", block) for block in blocks])


def latencies() -> dict[str, LatencyLUT]:
    """Latency arrays of each topology."""
    mesh = load_topology("mesh")
    tables = {"mbs1": "jetson", "mbs2": "laptop", "mbs3": "jetson-cpu"}
    devices = tuple(replace(d, table=tables.get(d.name, d.table)) for d in mesh.devices)
    asked: dict[str, tuple[Topology, str]] = {
        "fixed": (load_topology("chain"), "fixed"),
        "joint": (load_topology("chain"), "joint"),
        "mesh": (mesh, "joint"),
        "mesh, unlike children": (replace(mesh, devices=devices), "joint"),
    }
    found = {}
    for name, (topology, split) in asked.items():
        space = load_space("imagenet", branches=len(topology.children))
        found[name] = build_lut(space, topology, {d.name: Roofline(d.table) for d in topology.devices}, split)
    return found


def softmax(alpha_NR: NDArray[np.float64], mask_NR: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probabilities of the existing candidates."""
    p_NR = np.where(mask_NR, np.exp(alpha_NR - alpha_NR.max(axis=1, keepdims=True)), 0)
    return p_NR / p_NR.sum(axis=1, keepdims=True)


def searched(
    lut: LatencyLUT, t_const_s: float, random: np.random.Generator, steps: int
) -> NDArray[np.float64]:
    """Probabilities after `steps` steps of Adam (betas 0 and 0.999, learning rate 0.01)."""
    liked_NR = random.normal(0, 0.05, lut.mask_NR.shape)
    alpha_NR, second_NR = np.zeros(lut.mask_NR.shape), np.zeros(lut.mask_NR.shape)
    for step in range(1, steps + 1):
        p_NR = softmax(alpha_NR, lut.mask_NR)
        pull_NR = p_NR * (liked_NR + random.normal(0, 0.5, lut.mask_NR.shape))
        gradient_NR = pull_NR - p_NR * pull_NR.sum(axis=1, keepdims=True)
        gradient_NR += 5.0 * penalty_gradient_alpha(p_NR, lut.expected(p_NR), t_const_s)
        second_NR = 0.999 * second_NR + 0.001 * gradient_NR**2
        alpha_NR -= 0.01 * gradient_NR / (np.sqrt(second_NR / (1 - 0.999**step)) + 1e-8)
    return softmax(alpha_NR, lut.mask_NR)


def kinds(lut: LatencyLUT, t_const_s: float, seed: int) -> dict[str, NDArray[np.float64]]:
    """Probabilities of every kind."""
    random, flat_NR = np.random.default_rng(seed), np.zeros(lut.mask_NR.shape)
    found = {"flat": softmax(flat_NR, lut.mask_NR)}
    for name, concentration in (("nearly flat", 100.0), ("random", 1.0), ("peaked", 0.1)):
        drawn_NR = random.dirichlet(np.full(flat_NR.shape[1], concentration), len(flat_NR))
        found[name] = softmax(np.log(drawn_NR + 1e-9), lut.mask_NR)
    for steps in (300, 2000):
        found[f"after {steps} steps"] = searched(lut, t_const_s, random, steps)
    return found


def cpu_s(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and result of a call."""
    began = time.process_time_ns()
    result = call()
    return (time.process_time_ns() - began) * 1e-9, result


def expected_s(lut: LatencyLUT, seed: int) -> float:
    """Median CPU seconds of E[T] with its gradient by alpha."""
    target = resolve_target(lut, None)
    p_NR = kinds(lut, target.t_const_s, seed)["random"]

    def calls() -> None:
        for _ in range(_CALLS):
            penalty_gradient_alpha(p_NR, lut.expected(p_NR), target.t_const_s)

    calls()
    return float(np.median([cpu_s(calls)[0] for _ in range(_REPEATS)])) / _CALLS


@dataclass(frozen=True, slots=True)
class Derivation:
    """One derivation: CPU seconds, and its optimality gap in nats (None if nothing was found)."""

    p: str
    part: float
    cpu_s: float
    gap: float | None
    in_band: bool


def derivations(lut: LatencyLUT, seed: int) -> Iterator[Derivation]:
    """Derive a model for every kind of p at every point of the range."""
    least_s, most_s = (resolve_target(lut, None).fastest_s, resolve_target(lut, None).slowest_s)
    for part in PARTS:
        t_s = least_s + part * (most_s - least_s)

        for name, p_NR in kinds(lut, t_s, seed).items():
            found = derived(name, part, p_NR, lut, t_s)
            if found.cpu_s < 0.2:
                again_s = [derived(name, part, p_NR, lut, t_s).cpu_s for _ in range(2)]
                found = replace(found, cpu_s=float(np.median([found.cpu_s, *again_s])))
            yield found


def memory_limits(lut: LatencyLUT, seed: int) -> Iterator[Derivation]:
    """Derive under limits on the memory of devices in line that bind the unlimited optimum."""
    target = resolve_target(lut, None)
    for part in (0.3, 0.7):
        t_s = target.fastest_s + part * (target.slowest_s - target.fastest_s)
        of_kind = kinds(lut, t_s, seed)
        for name in ("random", "after 300 steps"):
            best = derive(of_kind[name], lut, (1 - BAND) * t_s, t_s)
            if best is None:
                continue
            memory = lut.main_path.resources[0]
            chosen = [best.indices[n] for n in lut.main_path_layers]
            used_M = memory.budget(chosen).used_M(best.placement, lut.main_path.stops_early)
            last = len(used_M) - 1
            for share, devices in itertools.product(MEMORY_SHARES, ((0,), (1, last), tuple(range(last + 1)))):
                limit_M = np.full(len(used_M), np.inf)
                limit_M[list(devices)] = share * used_M[list(devices)]
                limited = (replace(memory, limit_M=limit_M), *lut.main_path.resources[1:])
                line = replace(lut.main_path, resources=limited)
                limited_lut = replace(lut, main_path=line) if isinstance(lut, MeshLUT) else line
                label = f"{name}, {share:.0%} of devices {', '.join(map(str, devices))}"
                yield derived(label, part, of_kind[name], limited_lut, t_s)


def derived(name: str, part: float, p_NR: NDArray[np.float64], lut: LatencyLUT, t_s: float) -> Derivation:
    """Derive once."""

    def answer() -> tuple[float | None, bool]:
        try:
            found = derive(p_NR, lut, (1 - BAND) * t_s, t_s)
        except InfeasibleError:
            return None, False
        return (found.gap, True) if found else (0.0, False)

    took_s, (gap, in_band) = cpu_s(answer)
    return Derivation(name, part, took_s, gap, in_band)


def report(seed: int) -> tuple[dict[str, Any], list[str]]:
    """Print both tables, and return the figures and the bars that are missed."""
    document: dict[str, Any] = {"expected": {}, "derivation": {}}
    missed, luts = [], latencies()
    print(f"\n{'E[T] and gradient':<24} {'ms':>8} {'bar':>6}")
    for name, bar_s in EXPECTED_BARS_S.items():
        took_s = expected_s(luts[name], seed)
        document["expected"][name] = {"median_s": took_s, "bar_s": bar_s}
        print(f"{name:<24} {took_s * 1e3:>8.3f} {bar_s * 1e3:>6.1f}")
        if took_s > bar_s:
            missed.append(f"E[T] {name}: {took_s * 1e3:.3f} ms, expected <= {bar_s * 1e3:.1f} ms")
    print(f"\n{'derivation':<24} {'median ms':>9} {'worst ms':>9} {'bar':>6}  proven  the worst")
    groups = [(name, bar_s, derivations(luts[name], seed)) for name, bar_s in DERIVE_BARS_S.items()]
    groups += [(f"{name}, memory", MEMORY_BAR_S, memory_limits(luts[name], seed)) for name in DERIVE_BARS_S]
    for name, bar_s, found in groups:
        rows = list(found)
        worst, middle_s = max(rows, key=lambda row: row.cpu_s), float(np.median([row.cpu_s for row in rows]))
        proven = sum(row.gap is not None and row.gap <= 1e-8 for row in rows)
        document["derivation"][name] = {
            "median_s": middle_s,
            "worst_s": worst.cpu_s,
            "bar_s": bar_s,
            "proven": proven,
            "rows": [[row.p, row.part, row.cpu_s, row.gap, row.in_band] for row in rows],
        }
        print(
            f"{name:<24} {middle_s * 1e3:>9.0f} {worst.cpu_s * 1e3:>9.0f} {bar_s * 1e3:>6.0f}  "
            f"{f'{proven} of {len(rows)}':<8} {worst.p} at {worst.part:.0%} of the range"
        )
        for row in rows:
            if row.gap is None or row.gap > 1e-8:
                gap = "nothing found" if row.gap is None else f"gap {row.gap:.2f} nats"
                print(f"  not proven: {row.p} at {row.part:.0%}: {gap}, {row.cpu_s * 1e3:.0f} ms")
        if worst.cpu_s > bar_s:
            missed.append(
                f"derivation {name}: {worst.cpu_s * 1e3:.0f} ms at worst ({worst.p} at {worst.part:.0%}), "
                f"expected <= {bar_s * 1e3:.0f} ms"
            )
    return document, missed
