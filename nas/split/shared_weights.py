"""Weights that several units of a model hold, counted once where these units run on one device."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class SharedWeight:
    """A weight that several units hold: its bytes, and the indices of these units, ascending."""

    size_bytes: float
    units: tuple[int, ...]


def weights_of_units(
    bytes_by_name_N: Sequence[Mapping[str, float]],
) -> tuple[FloatArray, tuple[SharedWeight, ...]]:
    """Bytes of the weights of each unit, (N,), and the weights that several units hold."""
    holders: dict[str, list[int]] = {}
    for n, weights in enumerate(bytes_by_name_N):
        for name in weights:
            holders.setdefault(name, []).append(n)
    shared = [
        SharedWeight(float(bytes_by_name_N[units[0]][name]), tuple(units))
        for name, units in holders.items()
        if len(units) > 1
    ]
    return np.array([float(sum(weights.values())) for weights in bytes_by_name_N]), tuple(shared)


def repeated_bytes(shared: Sequence[SharedWeight], units: Collection[int]) -> float:
    """Bytes that a sum over these units counts more than once."""
    own = set(units)
    return sum(weight.size_bytes * max(len(own.intersection(weight.units)) - 1, 0) for weight in shared)


def repeated_bytes_between(shared: Sequence[SharedWeight], start_L: IntArray, stop_L: IntArray) -> FloatArray:
    """Bytes that sums over the units start .. stop - 1 count more than once, (L,)."""
    repeated_L = np.zeros(len(start_L))
    for weight in shared:
        count_L = np.searchsorted(weight.units, stop_L) - np.searchsorted(weight.units, start_L)
        repeated_L += weight.size_bytes * np.maximum(count_L - 1, 0)
    return repeated_L


def regroup(shared: Sequence[SharedWeight], groups: Sequence[range]) -> tuple[SharedWeight, ...]:
    """Weights that several of these groups of units hold, with the groups' indices for the units'."""
    group_of = {unit: k for k, units in enumerate(groups) for unit in units}
    own = [
        SharedWeight(weight.size_bytes, tuple(sorted({group_of[n] for n in weight.units if n in group_of})))
        for weight in shared
    ]
    return tuple(weight for weight in own if len(weight.units) > 1)
