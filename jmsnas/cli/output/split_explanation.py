"""Format the explanation of a split: terms of T, bottleneck, cloud only, deadline, verdict."""

from collections.abc import Iterator
from typing import Any

from jmsnas.cli.output.split_steps import layers_text, rate_text, step_text
from jmsnas.cli.output.split_verdict import verdict_lines
from jmsnas.units import format_duration as ms


def explanation_lines(document: dict[str, Any], explanation: dict[str, Any]) -> Iterator[str]:
    """Format the terms of T, the bottleneck, the comparison with cloud only, and changes for a deadline."""
    terms = (
        f"{term['device']}{' -> ' * bool(term['target'])}{term['target']} {ms(term['seconds'])}"
        for term in document["results"][0]["critical_path"]
    )
    yield f"T is the sum of {' + '.join(terms)}"
    step, share = explanation["bottleneck"]
    yield f"Bottleneck: {step_text(step)}, {share:.0%} of T"
    yield from _cloud_lines(document, explanation)
    yield from verdict_lines(document["verdict"])
    if explanation["deadline_s"] is None:
        return
    t_s = document["results"][0]["latency_s"]
    if t_s <= explanation["deadline_s"]:
        yield f"The deadline of {ms(explanation['deadline_s'])} is met."
        return
    late = ms(t_s - explanation["deadline_s"])
    deadline = f"The deadline of {ms(explanation['deadline_s'])}"
    yield f"{deadline} is missed by {late}. Any one of these would meet it:"
    for change in explanation["changes"]:
        factor = change["factor"]
        yield f"  {change['what']}: " + (f"{factor:.3g} times as fast" if factor else "no speed is enough")
    if explanation["unfinished"]:
        yield f"  not computed within --time-limit: {', '.join(explanation['unfinished'])}"
    units = ", ".join(f"{n} on {name} ({ms(seconds)})" for n, name, seconds in explanation["units"])
    yield f"  layers that take as much together: {units}" if units else "  no layers take as much together"


def _cloud_lines(document: dict[str, Any], explanation: dict[str, Any]) -> Iterator[str]:
    """Compare the best plan with a layer on the first device with cloud only, by the first link's rate."""
    cloud_s, own_s = explanation["cloud_s"], explanation["first_device_s"]
    names = [device["name"] for device in document["devices"]]
    if cloud_s == float("inf"):
        yield "The last device cannot run all layers: there is no cloud only to compare with."
        return
    if own_s == float("inf"):
        yield f"No split with a layer on {names[0]} was found by policy {document['policy']} and the limits."
        return
    own = [names[m] for m in explanation["first_device_devices"]]
    layers = layers_text({name: own.count(name) for name in dict.fromkeys(own)})
    side = (
        "less than" if explanation["faster_than_cloud"] else "more than" if own_s > cloud_s else "as long as"
    )
    side = "as long as" if abs(own_s - cloud_s) <= 1e-9 * cloud_s else side
    yield (
        f"With a layer on {names[0]}, policy {document['policy']} takes {ms(own_s)} at best ({layers}): "
        f"{side} cloud only with a {document['input']} input, {ms(cloud_s)}."
    )
    below_bps, above_bps = explanation["break_even_bps"], explanation["faster_above_bps"]
    if below_bps is None:
        return
    if below_bps == float("inf") or above_bps < below_bps:
        where = "at any rate"
    elif below_bps == 0.0 and above_bps == float("inf"):
        where = "at no rate"
    else:
        below = [f"below {rate_text(below_bps)}"] if below_bps else []
        above = [f"above {rate_text(above_bps)}"] if above_bps < float("inf") else []
        where = " and ".join(below + above)
    yield f"  It takes less than cloud only {where} on the first link."
