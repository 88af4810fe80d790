"""Measured figures of devices and links in a topology file: when, on which host, and with what interval.

`jmsnas topology collect` writes them into the tables [device.measured] and [link.measured].
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from typing import Any

from jmsnas.errors import TopologyError
from jmsnas.files import refuse_unknown_keys
from jmsnas.units import parse_bytes, parse_duration, parse_rate

_MAX_SIZES = 64


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """What a device is, by its agent.

    Attributes
    ----------
    at
        Time of the measurement, ISO 8601.
    fingerprint
        That of the certificate of its agent, as in `devices.toml`.
    processor, board, gpu, system
        Names; empty where unknown.
    cores, memory_bytes
        Of the host; 0 where unknown.
    emulates
        Name of the device whose latency its agent emulates; empty for none.
    versions
        Versions of Python and of its packages.
    """

    at: str
    fingerprint: str
    processor: str = ""
    board: str = ""
    gpu: str = ""
    system: str = ""
    cores: int = 0
    memory_bytes: float = 0.0
    emulates: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise TopologyError for an invalid date."""
        _check_date(self.at)


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """How the rate and the delay of a link were measured, and what else was.

    Attributes
    ----------
    at
        Time of the measurement, ISO 8601.
    rate_interval_bps, delay_interval_s
        95 % intervals of rate and delay, by resampling the rounds.
    round_trip_s
        Shortest round trip of a small message.
    sizes, medians_s
        The points that rate and delay were fitted to: increasing bytes, and median seconds.
    back_rate_bps, back_delay_s
        Rate and delay from target to source; None where that way cannot be measured.
    loaded_rate_bps
        Bits a second while every link of the topology sends two messages at once; None where not measured.
    """

    at: str
    rate_interval_bps: tuple[float, float]
    delay_interval_s: tuple[float, float]
    round_trip_s: float
    sizes: tuple[int, ...]
    medians_s: tuple[float, ...]
    loaded_rate_bps: float | None = None
    back_rate_bps: float | None = None
    back_delay_s: float | None = None

    def __post_init__(self) -> None:
        """Raise TopologyError for an invalid date or interval, or for invalid sizes or medians."""
        _check_date(self.at)
        for low, high in (self.rate_interval_bps, self.delay_interval_s):
            if not low <= high:
                raise TopologyError(
                    f"a measured link has an interval of {low:g} to {high:g}: expected low, high"
                )
        if len(self.sizes) != len(self.medians_s) or not 1 <= len(self.sizes) <= _MAX_SIZES:
            raise TopologyError(
                f"a measured link has {len(self.sizes)} sizes and {len(self.medians_s)} medians: "
                f"expected as many of each, 1 to {_MAX_SIZES}"
            )
        if any(one >= other for one, other in pairwise((-1, *self.sizes))):
            raise TopologyError(f"a measured link has sizes {self.sizes}: expected increasing bytes")

    def interpolated_s(self, sent_bytes: float) -> float:
        """Return the seconds of a message, between the medians of the nearest sizes.

        Below the smallest size those of the smallest. More bytes never take less time.
        """
        medians_s = [*accumulate(self.medians_s, max)]
        above = bisect_left(self.sizes, sent_bytes)
        if above == 0 or above == len(self.sizes):
            return medians_s[min(above, len(self.sizes) - 1)]
        low, high = self.sizes[above - 1], self.sizes[above]
        share = (sent_bytes - low) / (high - low)
        return medians_s[above - 1] + share * (medians_s[above] - medians_s[above - 1])


def _check_date(at: str) -> None:
    try:
        datetime.fromisoformat(at)
    except ValueError:
        raise TopologyError(
            f"a figure was measured at {at[:40]!r}: expected a date and time, as in 2026-11-30T17:45:00Z"
        ) from None


def age_days(at: str, now: datetime) -> float:
    """Return the days from an ISO 8601 time (UTC if it has no zone) to `now`; 0 for a time to come."""
    then = datetime.fromisoformat(at)
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (now - then).total_seconds() / 86400)


_DEVICE_TEXTS = ("at", "fingerprint", "processor", "board", "gpu", "system", "emulates")


def device_figures_from_toml(table: Mapping[str, Any], where: str) -> DeviceFigures:
    """Read a table [device.measured].

    Raises TopologyError, UnitError, KeyError, TypeError, ValueError, AttributeError.
    """
    refuse_unknown_keys(table, (*_DEVICE_TEXTS, "cores", "memory", "versions"), where, TopologyError)
    versions = table.get("versions", {})
    return DeviceFigures(
        **{key: str(table[key]) for key in _DEVICE_TEXTS if key in table or key in ("at", "fingerprint")},
        cores=int(table.get("cores", 0)),
        memory_bytes=parse_bytes(str(table.get("memory", "0B"))),
        versions={str(name): str(version) for name, version in versions.items()},
    )


_LINK_KEYS = (
    "at", "rate_interval", "delay_interval", "round_trip", "sizes", "medians", "loaded_rate", "back_rate",
    "back_delay",
)  # fmt: skip


def link_figures_from_toml(table: Mapping[str, Any], where: str) -> LinkFigures:
    """Read a table [link.measured]. Raises as `device_figures_from_toml`."""
    refuse_unknown_keys(table, _LINK_KEYS, where, TopologyError)
    return LinkFigures(
        at=str(table["at"]),
        rate_interval_bps=_interval(table["rate_interval"], parse_rate),
        delay_interval_s=_interval(table["delay_interval"], parse_duration),
        round_trip_s=parse_duration(str(table["round_trip"])),
        sizes=tuple(int(size) for size in table["sizes"]),
        medians_s=tuple(parse_duration(str(median)) for median in table["medians"]),
        loaded_rate_bps=parse_rate(str(table["loaded_rate"])) if "loaded_rate" in table else None,
        back_rate_bps=parse_rate(str(table["back_rate"])) if "back_rate" in table else None,
        back_delay_s=parse_duration(str(table["back_delay"])) if "back_delay" in table else None,
    )


def _interval(values: Sequence[Any], parse: Callable[[str], float]) -> tuple[float, float]:
    low, high = (parse(str(value)) for value in values)
    return low, high


def device_figures_to_toml(figures: DeviceFigures) -> dict[str, Any]:
    """Return the keys of [device.measured]; those of unknown values are left out."""
    keys: dict[str, Any] = {key: getattr(figures, key) for key in _DEVICE_TEXTS}
    keys["cores"] = figures.cores
    keys["memory"] = f"{figures.memory_bytes / 1e9:.3g}GB" if figures.memory_bytes else ""
    keys["versions"] = dict(figures.versions)
    return {key: value for key, value in keys.items() if value}


def link_figures_to_toml(figures: LinkFigures) -> dict[str, Any]:
    """Return the keys of [link.measured]; those of unknown values are left out."""
    keys = {
        "at": figures.at,
        "rate_interval": [rate_text(rate) for rate in figures.rate_interval_bps],
        "delay_interval": [duration_text(seconds) for seconds in figures.delay_interval_s],
        "round_trip": duration_text(figures.round_trip_s),
        "sizes": list(figures.sizes),
        "medians": [duration_text(seconds) for seconds in figures.medians_s],
    }
    if figures.loaded_rate_bps is not None:
        keys["loaded_rate"] = rate_text(figures.loaded_rate_bps)
    if figures.back_rate_bps is not None and figures.back_delay_s is not None:
        keys |= {
            "back_rate": rate_text(figures.back_rate_bps),
            "back_delay": duration_text(figures.back_delay_s),
        }
    return keys


def rate_text(bits_per_second: float) -> str:
    """Format a rate as in a topology file: `24.83Mbit/s`."""
    return f"{bits_per_second / 1e6:.4g}Mbit/s"


def duration_text(seconds: float) -> str:
    """Format a duration as in a topology file: `0.4123ms`."""
    return f"{seconds * 1e3:.4g}ms"
