"""Comparison of a given split with the best one: a JSON document, printed as text."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jmsnas.cli.output.split_steps import layers_text
from jmsnas.nas.inspection.given_split import GivenSplit
from jmsnas.nas.split.methods import SplitResult
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.timeline import objective_value
from jmsnas.nas.split.violations import energy_j_M, memory_bytes_M
from jmsnas.units import format_duration as ms

_VALUES: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "latency": ("T", "latency_s", ms),
    "throughput": ("the time between two images", "period_s", ms),
    "energy": ("the energy", "energy_j", lambda joules: f"{joules * 1e3:.4g} mJ"),
}


def use_document(problem: SplitProblem, result: SplitResult) -> list[dict[str, Any]]:
    """Describe the layers, memory and energy of each device, and its limits."""
    memory_M, energy_M = memory_bytes_M(problem, result.devices), energy_j_M(problem, result.timeline)
    return [
        {
            "device": device.name,
            "layers": [n for n, own in enumerate(result.devices, 1) if own == m],
            "memory_bytes": float(memory_M[m]),
            "memory_limit_bytes": device.memory_bytes,
            "energy_j": None if device.power_w is None else float(energy_M[m]),
            "energy_limit_j": device.energy_j,
        }
        for m, device in enumerate(problem.devices)
    ]


def comparison_document(problem: SplitProblem, given: GivenSplit) -> dict[str, Any]:
    """Describe the best split that a given one is compared with, and the gap between them."""
    best = given.best
    if best is None:
        return {"policy": None, "reason": given.reason}
    return {
        "policy": best.request.policy,
        "value": objective_value(best.timeline, best.request.objective),
        "proven": best.proven,
        "devices": [problem.names[m] for m in best.devices],
        "cuts": cuts_of(problem, best.devices),
        "gap": given.gap,
        "gap_to_bound": given.gap_bound,
    }


def cuts_of(problem: SplitProblem, devices: Sequence[int]) -> list[int] | None:
    """Return the cuts (c_1, ..., c_M); None unless the topology is a chain and no layer goes back."""
    if not problem.is_chain_topology or list(devices) != sorted(devices):
        return None
    return [sum(device <= m for device in devices) for m in range(problem.M)]


def comparison_lines(document: dict[str, Any]) -> Iterator[str]:
    """Format the memory, whether a given split is allowed, and its gap to the best split."""
    (result,), best = document["results"], document["comparison"]
    for use in result["use"]:
        limit = use["memory_limit_bytes"]
        of = "no limit stated" if limit is None else f"of {limit / 1e6:.6g} MB"
        count = f"{len(use['layers'])} layer{'s' * (len(use['layers']) != 1)}"
        yield f"  {use['device']}: {count}, {use['memory_bytes'] / 1e6:.4g} MB, {of}"
    if result["allowed"]:
        yield f"Allowed by policy {document['policy']} and the limits of the devices."
    if best["policy"] is None:
        yield f"No best split to compare with: {best['reason']}"
        return
    what, key, text = _VALUES[document["objective"]]
    above, value = result[key] - best["value"], best["value"]
    layers = layers_text({name: best["devices"].count(name) for name in dict.fromkeys(best["devices"])})
    proof = "the optimum" if best["proven"] else "the best split found"
    yield f"{proof.capitalize()} of policy {best['policy']}: {text(value)}, {layers}."
    if abs(above) <= 1e-9 * abs(value):
        yield f"The given split is as good as {proof}."
    else:
        side = "above" if above > 0 else "below"
        share = "" if best["gap"] is None else f" ({abs(best['gap']):.2%})"
        yield f"Of the given split, {what} is {text(abs(above))}{share} {side} that of {proof}."
    if not best["proven"] and best["gap_to_bound"] is not None:
        gap, policy = f"{best['gap_to_bound']:.2%}", best["policy"]
        yield f"That is not proven the optimum of policy {policy}: the given split is at most {gap} above it."
