"""What latencies rest on, and the mark that says so wherever they are shown.

`measured`: on the device, by `jmsnas profile`. `imported`: by others, as rows of a table here. `published`:
by others, as U(.) of the table they published. `simulated`: a roofline of published figures, no measurement.
"""

from collections.abc import Iterable, Mapping
from typing import Any

ORIGINS = ("measured", "imported", "published", "simulated")


def origin_label(origin: str) -> str:
    """Print an origin: in capitals where it is no measurement at all."""
    return origin.upper() if origin == "simulated" else origin


def origin_of(device: Mapping[str, Any]) -> str:
    """Read what a device of a run's result rests on. Raises KeyError, ValueError."""
    # Older results only say whether it is simulated.
    found = device.get("origin", "simulated" if device["simulated"] else "measured")
    if found not in ORIGINS or bool(device["simulated"]) != (found == "simulated"):
        raise ValueError(f"expected one of {', '.join(ORIGINS)} that suits `simulated`, got {found!r}")
    return str(found)


def origin_notes(devices: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Say on what else than measurements here T rests, and for which devices of results."""
    names: dict[str, set[str]] = {}
    for device in devices:
        names.setdefault(origin_of(device), set()).add(str(device["name"]))
    by_others = {"simulated": "", "published": ", measured by others", "imported": ", measured by others"}
    return tuple(
        f"T rests on {origin_label(origin)} latencies of {', '.join(sorted(names[origin]))}{by}."
        for origin, by in by_others.items()
        if origin in names
    )
