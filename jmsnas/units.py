"""Parse and format quantities with units, such as `120ms` and `25Mbit/s`; SI base units internally."""

import math
import re

from jmsnas.errors import UnitError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3}
_WATTS = {"mw": 1e-3, "w": 1.0}
_JOULES = {"mj": 1e-3, "j": 1.0}
_BITS_PER_SECOND = {"bit/s": 1.0, "kbit/s": 1e3, "mbit/s": 1e6, "gbit/s": 1e9}
_NUMBER_AND_UNIT = re.compile(r"\s*([-+0-9.eE]+?)\s*([a-zA-Z/]+)\s*")
# The micro sign, and the Greek letter that looks the same.
_MICRO = str.maketrans("\u00b5\u03bc", "uu")
_MAX_LENGTH = 64


def _parse(text: str, units: dict[str, float], what: str, example: str) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(text.translate(_MICRO)) if len(text) <= _MAX_LENGTH else None
    factor = units.get(match[2].lower()) if match else None
    if match and factor and match[2][0] == "M" and units in (_WATTS, _JOULES):
        factor = None  # mega, not milli
    try:
        value = float(match[1]) * factor if match and factor else math.nan
    except ValueError:
        value = math.nan
    if not (value >= 0 and math.isfinite(value)):
        known = ", ".join(units)
        raise UnitError(
            f"{text[:_MAX_LENGTH]!r} is not a {what}: expected a number >= 0 and one of {known}, "
            f"as in {example}"
        )
    return value


def parse_duration(text: str) -> float:
    """Parse a duration such as `120ms`, `1.5s` or `10m` into seconds. Raises UnitError."""
    return _parse(text, _SECONDS, "duration", "120ms")


def parse_rate(text: str) -> float:
    """Parse a link rate such as `25Mbit/s` (1 Mbit = 10^6 bit) into bits per second. Raises UnitError."""
    return _parse(text, _BITS_PER_SECOND, "link rate", "25Mbit/s")


def parse_bytes(text: str) -> float:
    """Parse a size such as `512MB` (decimal) or `1GiB` into bytes. Raises UnitError."""
    return _parse(text, _BYTES, "size", "512MB")


def parse_power(text: str) -> float:
    """Parse a power such as `5W` or `300mW` into watts. Raises UnitError."""
    return _parse(text, _WATTS, "power", "5W")


def parse_energy(text: str) -> float:
    """Parse an energy such as `0.2J` or `35mJ` into joules. Raises UnitError."""
    return _parse(text, _JOULES, "energy", "35mJ")


def format_duration(seconds: float) -> str:
    """Format seconds in s, ms or us with four significant digits: `1.234 ms`, `85.2 us`."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= factor:
            return f"{seconds / factor:.4g} {unit}"
    return f"{seconds / 1e-6:.4g} us"


def format_rate(bits_per_second: float) -> str:
    """Format a link rate in Mbit/s."""
    return f"{bits_per_second / 1e6:g} Mbit/s"
