"""Format the parts of a split as text: steps, intervals, layers by device, link rates."""

from collections.abc import Mapping
from typing import Any

from jmsnas.units import format_duration as ms
from jmsnas.units import format_rate


def layers_text(layers: Mapping[str, int]) -> str:
    """Format the number of layers of each device as `pi4 8, cloud 11`."""
    return ", ".join(f"{name} {count}" for name, count in layers.items())


def step_text(step: dict[str, Any]) -> str:
    """Format a computing or sending step and its duration."""
    first, last = step["units"][0], step["units"][-1]
    if step["target"]:
        what = f"output {first}" if first else "the raw input"
        if first != last:
            what = f"outputs {', '.join(str(n) for n in step['units'])} joined"
        return (
            f"{step['device']} -> {step['target']}: {what}, {step['sent_bytes']:.0f} B, {ms(step['seconds'])}"
        )
    layers = f"layer {first}" if first == last else f"layers {first} to {last}"
    call = f", {ms(step['call_s'])} of it the call" if step["call_s"] else ""
    return f"{step['device']}: {layers}, {ms(step['seconds'])}{interval_text(step)}{call}"


def interval_text(found: dict[str, Any]) -> str:
    """Format the interval of a duration; empty where it has none."""
    return f" ({ms(found['low_s'])} to {ms(found['high_s'])})" if found["low_s"] < found["high_s"] else ""


def rate_text(bits_per_second: float) -> str:
    """Format a rate with four significant digits."""
    return format_rate(float(f"{bits_per_second:.4g}"))
