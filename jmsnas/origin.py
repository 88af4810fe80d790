"""Origin of latencies (measured, imported, published or simulated), and its labels in printed results.

`measured`: on the device, by `jmsnas profile`. `imported`: rows measured by others, in a table of the
workspace. `published`: U(.) fitted to a table published by others. `simulated`: a roofline of published
figures.
"""

from collections.abc import Iterable, Mapping
from typing import Any

ORIGINS = ("measured", "imported", "published", "simulated")


def origin_label(origin: str) -> str:
    """Format an origin for printing: simulated in capitals."""
    return origin.upper() if origin == "simulated" else origin


def origin_of(device: Mapping[str, Any]) -> str:
    """Read the origin of a device's latencies from a run's result. Raises KeyError, ValueError."""
    # Results of version 0.1 may have `simulated` only.
    found = device.get("origin", "simulated" if device["simulated"] else "measured")
    if found not in ORIGINS or bool(device["simulated"]) != (found == "simulated"):
        raise ValueError(f"expected one of {', '.join(ORIGINS)}, consistent with `simulated`, got {found!r}")
    return str(found)


def origin_notes(devices: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """List the devices of a run's result whose latencies were not measured, a sentence per origin."""
    names: dict[str, set[str]] = {}
    for device in devices:
        names.setdefault(origin_of(device), set()).add(str(device["name"]))
    by_others = {"simulated": "", "published": ", measured by others", "imported": ", measured by others"}
    return tuple(
        f"T is based on {origin_label(origin)} latencies of {', '.join(sorted(names[origin]))}{by}."
        for origin, by in by_others.items()
        if origin in names
    )
