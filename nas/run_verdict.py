"""Verdict on the split of a searched model: T of its alternatives, and which of them is the least."""

from collections.abc import Sequence

from jmsnas.nas.latency.alternatives import SplitAlternatives
from jmsnas.nas.run_result import RunResult
from jmsnas.units import format_duration as ms


def split_verdict(run: RunResult, other: SplitAlternatives) -> str:
    """Say T of device only, cloud only, the best and the searched split, and which of them is the least."""
    best, devices = other.best_split_s, run.topology.devices
    searched = [term.device for term in run.derived.terms if term.layers]
    found: list[tuple[str, float, Sequence[str]]] = [
        ("the searched split", run.derived.latency_s, searched),
        ("device only", other.device_only_s, [devices[0].name]),
        ("cloud only", run.cloud_only.latency_s, [devices[-1].name]),
    ]
    if best is not None:
        found.append(("the best split", best, other.best_devices))
    # Sums of the same terms in another order differ in the last digits: of equal ones the first counts.
    name, least_s, used = min(found, key=lambda own: float(f"{own[1]:.9g}"))
    verdict = f"{name} is the fastest, {ms(least_s)} on {', '.join(used)}"
    if len(used) == 1:
        verdict += ": do not split this model"
    return f"{'; '.join(f'{name} {ms(seconds)}' for name, seconds, _ in found)}: {verdict}"
