"""Words of `jmsnas split`: a step, a rate, and why T is what it is."""

from collections.abc import Iterator
from typing import Any

from jmsnas.units import format_duration as ms
from jmsnas.units import format_rate


def step_text(step: dict[str, Any]) -> str:
    """Say who computes or sends what, and how long it takes."""
    first, last = step["units"][0], step["units"][-1]
    if step["target"]:
        what = f"output {first}" if first else "the raw input"
        return (
            f"{step['device']} -> {step['target']}: {what}, {step['sent_bytes']:.0f} B, {ms(step['seconds'])}"
        )
    layers = f"layer {first}" if first == last else f"layers {first} to {last}"
    spread = f" ({ms(step['low_s'])} to {ms(step['high_s'])})" if step["low_s"] < step["high_s"] else ""
    return f"{step['device']}: {layers}, {ms(step['seconds'])}{spread}"


def explanation_lines(document: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Say the terms of T, the bottleneck, whether a split pays, and what would meet a deadline."""
    terms = (
        f"{its['device']}{' -> ' * bool(its['target'])}{its['target']} {ms(its['seconds'])}"
        for its in document["answers"][0]["critical"]
    )
    yield f"T is the sum of {' + '.join(terms)}"
    step, share = found["bottleneck"]
    yield f"Bottleneck: {step_text(step)}, {share:.0%} of T"
    rate = found["break_even_bps"]
    where = {None: "", 0.0: ", at no rate of the first link", float("inf"): ", at any rate of the first link"}
    below = where.get(rate, f", below {rate_text(rate or 0.0)} on the first link")
    if found["cloud_s"] == float("inf"):
        yield "A split has to be: the last device cannot run all layers."
    elif found["pays"]:
        yield f"A split pays here: cloud only takes {ms(found['cloud_s'])}." + (
            f" It does{below}." if below else ""
        )
    else:
        yield f"A split does not pay here: cloud only takes {ms(found['cloud_s'])}." + (
            f" It would{below}." if below else ""
        )
    if found["deadline_s"] is None:
        return
    t_s = document["answers"][0]["latency_s"]
    if t_s <= found["deadline_s"]:
        yield f"The deadline of {ms(found['deadline_s'])} is met."
        return
    late = ms(t_s - found["deadline_s"])
    yield f"The deadline of {ms(found['deadline_s'])} is missed by {late}. Alone would do:"
    for change in found["changes"]:
        factor = change["factor"]
        yield f"  {change['what']}: " + (f"{factor:.3g} times as fast" if factor else "no speed is enough")
    units = ", ".join(f"{n} on {name} ({ms(seconds)})" for n, name, seconds in found["units"])
    yield f"  layers that take as much together: {units}" if units else "  no layers take as much together"


def rate_text(bits_per_second: float) -> str:
    """Say a rate in four digits."""
    return format_rate(float(f"{bits_per_second:.4g}"))
