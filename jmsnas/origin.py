"""Origin of latencies (measured, imported, published or simulated), and its labels in printed results.

`measured`: on the device, by `jmsnas profile`. `imported`: rows measured by others, in a table of the
workspace. `published`: U(.) fitted to a table published by others. `simulated`: a roofline of published
figures.
"""

from collections.abc import Iterable

ORIGINS = ("measured", "imported", "published", "simulated")


def origin_label(origin: str) -> str:
    """Format an origin for printing: simulated in capitals."""
    return origin.upper() if origin == "simulated" else origin


# In place of errors of U(.): those against a simulation are those against U(.)'s own formula, a roofline.
NOT_EVALUATED = "simulated: not evaluated"


def origin_notes(origins: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """List the devices whose latencies were not measured, a sentence per origin.

    `origins`: pairs of a device's name and its origin.
    """
    names: dict[str, set[str]] = {}
    for name, origin in origins:
        names.setdefault(origin, set()).add(name)
    by_others = {"simulated": "", "published": ", measured by others", "imported": ", measured by others"}
    return tuple(
        f"T is based on {origin_label(origin)} latencies of {', '.join(sorted(names[origin]))}{by}."
        for origin, by in by_others.items()
        if origin in names
    )
