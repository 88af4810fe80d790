"""A fixed split as in the paper: D^m is given and only the operations are searched."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jmsnas.device import Device
from jmsnas.errors import TopologyError
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.nas.split.solve_chain import DeviceLimits


def check_layer_counts(space: str, policy: str, N: int, names: Sequence[str], limits: DeviceLimits) -> None:
    """Refuse devices whose minimum layers exceed N, or whose maximum layers are fewer than N."""
    least_M = np.maximum(limits.min_layers_M, 1 if policy == "strict" else 0)
    if least_M.sum() > N:
        if not limits.min_layers_M.any():
            raise TopologyError(
                f"policy strict gives each of {len(names)} devices a layer, space {space} has {N}: "
                'use fewer devices, or policy = "relay" in the topology file'
            )
        raise TopologyError(
            f"devices {', '.join(names)} must run {least_M.sum()} layers together (policy {policy} and "
            f"min_layers), space {space} has {N} for them: lower min_layers"
        )
    if limits.max_layers_M.sum() < N:
        raise TopologyError(
            f"devices {', '.join(names)} may run {limits.max_layers_M.sum()} layers together (max_layers), "
            f"space {space} has {N} for them: raise max_layers"
        )


def layer_counts(N: int, devices: Sequence[Device]) -> list[int]:
    """Compute the number of layers of each device: its `layers`, the others equal parts (larger first).

    Raises TopologyError when they do not add up to N, or a part is outside the limits of a device.
    """
    given = sum(device.layers or 0 for device in devices)
    free = [m for m, device in enumerate(devices) if device.layers is None]
    rest = N - given
    if rest < 0 or (rest and not free):
        raise TopologyError(
            f"a fixed split gives {', '.join(d.name for d in devices)} {given} layers together, there are "
            f"{N} for them: change `layers` of a device, or leave it out for an equal part"
        )
    found = [device.layers or 0 for device in devices]
    for k, m in enumerate(free):
        found[m] = rest // len(free) + (k < rest % len(free))
    for device, count in zip(devices, found, strict=True):
        most = N if device.max_layers is None else device.max_layers
        if not device.min_layers <= count <= most:
            raise TopologyError(
                f"a fixed split gives {device.name} {count} layers, its limits are {device.min_layers} to "
                f"{most}: state `layers` of a device, or use --split joint"
            )
    return found


def fixed_split(lut: ChainLUT, devices: Sequence[Device]) -> ChainLUT:
    """Restrict a table of latencies to the fixed split, so that every method over moves uses this split."""
    N, M = len(lut.U_NRM), len(lut.devices)
    n, m = lut.joint or (N, M)
    counts = layer_counts(n, devices[:m]) + (layer_counts(N - n, devices[m:]) if lut.joint else [])
    placement = Placement(tuple(int(cut) for cut in np.cumsum(counts)))
    if lut.policy == "strict" and 0 in counts:
        raise TopologyError(
            f"policy strict gives every device a layer, the fixed split gives {counts} layers to "
            f'{", ".join(lut.devices)}: use policy = "relay", or change `layers` of a device'
        )
    moves_LMM = np.full((N + 1, M, M), np.inf)
    path = (0, *placement.devices)
    for row in range(N):
        a, b = path[row], path[row + 1]
        called_s = lut.calls_M[b] if row == 0 or a < b else 0.0
        moves_LMM[row, a, b] = lut.epsilon_LM[row, a:b].sum() + called_s
    last = path[N]
    onward = 0.0 if lut.stops_early else lut.epsilon_LM[N, last:].sum()
    moves_LMM[N, last, last] = onward + lut.return_s(placement)
    moved_s = float(moves_LMM[np.isfinite(moves_LMM)].sum())
    return replace(lut, moves_LMM=moves_LMM, states=(), fixed=placement, moved_s=moved_s)
