"""What `jmsnas search` prints: a network and its split term by term, or several side by side."""

from collections.abc import Sequence
from typing import Any

from jmsnas.origin import origin_label, origin_notes, origin_of


def simulated_devices(setting: Any) -> list[str]:
    """Tables of the network's devices that are simulated, each once."""
    devices = setting.network.devices
    return list(dict.fromkeys(d.table for d in devices if setting.estimators[d.name].simulated))


def print_result(document: dict[str, Any]) -> None:
    """Print the derived network, every term of equation (1) or (2), and what it is to be compared with."""
    from jmsnas.units import format_duration as ms

    derived, target, cloud = document["derived"], document["target"], document["cloud_only"]
    marks = {device["name"]: origin_label(origin_of(device)) for device in document["network"]["devices"]}
    print(f"Network {document['network']['name']}, policy {document['network']['policy']}, layer by layer:")
    for term in derived["terms"]:
        names = " ".join(derived["candidates"][n - 1] for n in term["layers"]) or "(relay)"
        sent = f" + {ms(term['epsilon_s'])} to send {term['sent_bytes']:.0f} B" if term["epsilon_s"] else ""
        waits = f"{ms(term['epsilon_root_s'])} to reach + " if term["epsilon_root_s"] else ""
        sent += f" + {ms(term['return_s'])} for the way back" if term["return_s"] else ""
        takes = f", {term['energy_j'] * 1e3:.3g} mJ" if term["energy_j"] else ""
        said = f"{term['device']:<8}  {marks[term['device']]:<10}"
        print(f"  {said} {waits}{ms(term['tau_s'])}{sent}{takes}\n{'':>10}{names}")
    t_s, t_const_s = derived["latency_s"], target["t_const_s"]
    verdict = "<=" if t_s <= t_const_s else "EXCEEDS"
    print(
        f"T = {ms(t_s)} {verdict} T_const = {ms(t_const_s)} ({t_s / t_const_s:.1%} of it; "
        f"feasible {ms(target['fastest_s'])} to {ms(target['slowest_s'])})"
    )
    if not derived["in_band"]:
        print(f"  {_band_words(derived)}")
    elif not derived["optimal"]:
        print(f"  not proven the likeliest in the band{_bound(derived)}")
    tree = document["network"]["tree"]["children"]
    if tree:
        print("  of the branches the slowest counts; E[T] is the max of means, and so optimistic")
    print(f"  E[T] at the end of stage one {ms(document['expected_latency_s'])}")
    print(f"  likeliest operations (argmax)  {ms(document['argmax']['latency_s'])}")
    print(f"  cloud only, {document['network']['input']} input      {ms(cloud['latency_s'])}")
    if cloud["latency_s"] < t_s:
        print("  Cloud only is faster here: at this input size a split does not pay.")
    for sentence in origin_notes(document["network"]["devices"]):
        print(f"  {sentence}")
    print(f"Test accuracy {document['accuracy']['test']:.1%}, {document['parameters']} parameters")


def _bound(derived: dict[str, Any]) -> str:
    """Say how likely another network may be; runs of earlier versions hold no gap."""
    score, gap = derived["score"], derived.get("gap")
    if gap is None:
        return ""
    return f"; bound: none has sum of log p above {score + gap:.2f}, this one has {score:.2f}"


def _band_words(derived: dict[str, Any]) -> str:
    """Say why T is not in the band.

    `band` is None where argmax derived, which does not look at it; runs of earlier versions do not have it.
    """
    if "band" not in derived:
        return "T does not lie within 3 % below T_const"
    if derived["band"] is None:
        return "argmax does not look at T_const: --derive constrained does"
    if derived["band"] == "undecided":
        return "none was found with T within 3 % below T_const, though there may be one: this is below it"
    return "no network's T lies within 3 % below T_const: this is the best below it"


def print_points(documents: Sequence[dict[str, Any]]) -> None:
    """Print several networks side by side, one a line."""
    from jmsnas.units import format_duration as ms

    print(f"{'run':<28} {'T_const':>10} {'T':>10} {'of it':>7} {'accuracy':>9} {'parameters':>11}")
    for document in documents:
        t_s, t_const_s = document["derived"]["latency_s"], document["target"]["t_const_s"]
        origin_label = "" if document["derived"]["in_band"] else "  not in the band"
        print(
            f"{document['name']:<28} {ms(t_const_s):>10} {ms(t_s):>10} {t_s / t_const_s:>7.1%} "
            f"{document['accuracy']['test']:>9.1%} {document['parameters']:>11}{origin_label}"
        )
    for sentence in origin_notes(d for document in documents for d in document["network"]["devices"]):
        print(sentence)
