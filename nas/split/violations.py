"""What a placement violates: the policy, the layers of the first device, and the limits of the devices."""

from collections.abc import Sequence

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.timeline import Timeline

# Sums of the same numbers in another order differ in the last digits: a limit reached exactly is met.
_ROUNDING = 1 + 1e-12


def memory_bytes_M(problem: SplitProblem, devices: Sequence[int]) -> FloatArray:  # noqa: N802
    """Compute the bytes that each device needs: each weight of its units once, and the largest peak; (M,)."""
    used_M = np.zeros(problem.M)
    for m in set(devices):
        own = np.flatnonzero(np.array(devices) == m).tolist()
        used_M[m] = problem.held_bytes(own) + problem.peak_bytes_N[own].max()
    return used_M


def energy_j_M(problem: SplitProblem, timeline: Timeline) -> FloatArray:  # noqa: N802
    """Compute the joules per image of each device, without those of the return path; (M,)."""
    used_M = np.zeros(problem.M)
    for step in timeline.steps:
        m = problem.names.index(step.device)
        watts_M = problem.send_power_w_M if step.target else problem.power_w_M
        used_M[m] += float(watts_M[m]) * (step.seconds - step.call_s)
    return used_M


def limit_violations(
    problem: SplitProblem, devices: Sequence[int], timeline: Timeline, min_layers: int = 0
) -> tuple[str, ...]:
    """List the limits of devices that a placement exceeds: layers, memory, energy; empty where none."""
    found = []
    if any(m != 0 for m in devices[:min_layers]):
        first = "layer 1" if min_layers == 1 else f"layers 1 to {min_layers}"
        found.append(f"--min-layers {min_layers} keeps {first} on {problem.names[0]}")
    counts_M = np.bincount(devices, minlength=problem.M).tolist()
    memory_M, energy_M = memory_bytes_M(problem, devices).tolist(), energy_j_M(problem, timeline).tolist()
    for device, count, used_bytes, used_j in zip(problem.devices, counts_M, memory_M, energy_M, strict=True):
        if count < device.min_layers:
            found.append(f"{device.name} runs {count} layers, its min_layers is {device.min_layers}")
        if device.max_layers is not None and count > device.max_layers:
            found.append(f"{device.name} runs {count} layers, its max_layers is {device.max_layers}")
        if device.memory_bytes is not None and used_bytes > device.memory_bytes * _ROUNDING:
            limit_mb = device.memory_bytes / 1e6
            found.append(f"{device.name} needs {used_bytes / 1e6:.6g} MB, its memory is {limit_mb:.6g} MB")
        if device.energy_j is not None and used_j > device.energy_j * _ROUNDING:
            found.append(f"{device.name} uses {used_j:.6g} J, its energy is {device.energy_j:.6g} J")
    return tuple(found)
