"""The best split of a chain of layers over devices in line, and whether a placement is allowed."""

from collections.abc import Sequence

import numpy as np

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.links import Array
from jmsnas.nas.split.placement import placement_from_devices
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.solve_chain import solve_chain
from jmsnas.nas.split.throughput import chain_period, solve_throughput


def split_on_chain(
    costs: SplitProblem,
    encoding: str,
    policy: str,
    min_layers: int = 0,
    objective: str = "latency",
    back_M: Array | None = None,
) -> tuple[tuple[int, ...], float]:
    """Find the device of each layer, and the value of the objective, which no split is below.

    `back_M`: seconds to bring the result back from each device; None: the costs say it.

    Raises TargetError when no split meets the policy and the limits.
    """
    early, epsilon_LM = policy == "stop-early", costs.epsilon_LM(encoding)
    limits = costs.limits(encoding, policy, min_layers)
    try:
        if objective == "throughput":
            bound, placement = solve_throughput(costs.tau_NM, epsilon_LM, policy, limits)
        elif objective == "energy":
            run_NM, send_LM = costs.joules_NM, epsilon_LM * costs.send_power_w_M
            bound, placement = solve_chain(run_NM, send_LM, policy, limits)
        else:
            bound, placement = solve_chain(
                costs.tau_NM, epsilon_LM, policy, limits, costs.back_M if back_M is None else back_M
            )
    except InfeasibleError as error:
        raise InfeasibleError(_why_none(costs, policy, min_layers, str(error))) from None
    if objective == "throughput":
        bound = chain_period(costs.tau_NM, epsilon_LM, placement, early)
    return placement.devices, bound


def _why_none(costs: SplitProblem, policy: str, min_layers: int, reason: str) -> str:
    if policy == "strict" and costs.N - max(min_layers, 1) < costs.M - 1:
        return (
            f"policy strict gives each of {costs.M} devices a layer, {costs.network} has {costs.N}: expected "
            "fewer devices, or --policy relay"
        )
    rooms = [(d.name, d.memory_bytes) for d in costs.devices if d.memory_bytes is not None]
    if rooms:
        held = ", ".join(f"{name} {room / 1e6:g} MB" for name, room in rooms)
        whole = costs.weight_bytes_N.sum() / 1e6
        return f"{costs.network} ({whole:g} MB of weights) fits no split of its devices' memory ({held})"
    return reason


def allowed_on_chain(
    costs: SplitProblem, encoding: str, policy: str, min_layers: int, devices: Sequence[int]
) -> bool:
    """Whether a placement keeps the policy, the first layers, and the limits of devices in line."""
    first = all(m == 0 for m in devices[:min_layers])
    strict = policy != "strict" or set(devices) == set(range(costs.M))
    if not first or not strict or not costs.limited:
        return bool(first and strict)
    placement = placement_from_devices(tuple(devices), costs.M)
    limits = costs.limits(encoding, policy, min_layers)
    counts = np.bincount(devices, minlength=costs.M)
    layers = (counts >= limits.min_layers_M).all() and (counts <= limits.max_layers_M).all()
    early = policy == "stop-early"
    return bool(layers and all(budget.holds(placement, early) for budget in limits.budgets))
