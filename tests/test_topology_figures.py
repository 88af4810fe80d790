import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from jmsnas.errors import JmsnasError
from jmsnas.toml_lines import with_entry, with_subtable
from jmsnas.topology import Topology, topology_from_toml
from jmsnas.topology_figures import (
    DeviceFigures,
    LinkFigures,
    age_days,
    device_figures_to_toml,
    link_figures_to_toml,
)

AT = "2026-11-30T17:45:00Z"
DEVICE = DeviceFigures(
    AT, "ab" * 32, "Cortex-A72", cores=4, memory_bytes=8e9, versions={"python": "3.12.3", "numpy": "2.4"}
)
LINK = LinkFigures(
    AT,
    rate_interval_bps=(24e6, 25.5e6),
    delay_interval_s=(0.4e-3, 0.45e-3),
    round_trip_s=0.9e-3,
    sizes=(256, 4096),
    medians_s=(0.5e-3, 1.7e-3),
    loaded_rate_bps=21e6,
    back_rate_bps=23e6,
    back_delay_s=0.0,
)
GIVEN = """name = "lab"
[[device]]
name = "pi4"
[[device]]
name = "cloud"
[[link]]
from = "pi4"
to = "cloud"
rate = "25Mbit/s"
delay = "0.42ms"
"""


def measured() -> dict[str, Any]:
    """A topology of two devices with measured figures, as a TOML document."""
    text = with_subtable(GIVEN, "device", {"name": "pi4"}, "measured", device_figures_to_toml(DEVICE))
    text = with_entry(text, "device", {"name": "pi4"}, {"call": "52us"})
    return tomllib.loads(with_subtable(text, "link", {"from": "pi4"}, "measured", link_figures_to_toml(LINK)))


def load(document: dict[str, Any]) -> Topology:
    return topology_from_toml(document, "lab.toml")


def test_figures_are_read_as_they_are_written() -> None:
    topology = load(measured())
    assert topology.devices[0].measured == DEVICE and topology.devices[1].measured is None
    link = topology.links[0].measured
    assert link and link_figures_to_toml(link) == link_figures_to_toml(LINK)
    assert topology.devices[0].call_s == pytest.approx(52e-6)
    # A run on these devices and links is the same whenever they were measured.
    document = measured()
    del document["link"][0]["measured"]
    assert load(document) == topology


def test_one_way_may_be_unknown() -> None:
    document = measured()
    del document["link"][0]["measured"]["back_rate"], document["link"][0]["measured"]["back_delay"]
    assert load(document).links[0].measured.back_rate_bps is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("device", "at", "yesterday", "measured at 'yesterday': expected a date and time, as in 2026-11-30T"),
        ("device", "speed", 3, r"lab.toml \[device.measured\] has unknown keys speed"),
        ("device", "cores", "four", "lab.toml has a value of the wrong kind"),
        ("device", "versions", 3, "lab.toml has a value of the wrong kind"),
        ("device", "memory", "8", "'8' is not a size"),
        ("link", "at", 7, "measured at '7': expected a date and time"),
        (
            "link",
            "rate_interval",
            ["3Mbit/s", "2Mbit/s"],
            "an interval of 3e.06 to 2e.06: expected low, high",
        ),
        ("link", "rate_interval", ["3Mbit/s"], "lab.toml has a value of the wrong kind"),
        ("link", "delay_interval", 3, "lab.toml has a value of the wrong kind"),
        ("link", "sizes", [256], "has 1 sizes and 2 medians: expected as many of each, 1 to 64"),
        ("link", "sizes", [4096, 256], r"has sizes \(4096, 256\): expected increasing bytes"),
        ("link", "delay_interval", ["1ms", "2ms"], "link pi4 -> cloud has a delay outside of its measured"),
        ("link", "rate_interval", ["1Mbit/s", "2Mbit/s"], "To give another one, delete that table"),
        ("link", "loaded_rate", "much", "'much' is not a link rate"),
        ("link", "loss", 1, r"lab.toml \[link.measured\] has unknown keys loss"),
    ],
)
def test_wrong_figures_are_refused(kind: str, key: str, value: Any, message: str) -> None:
    document = measured()
    document[kind][0]["measured"][key] = value
    with pytest.raises(JmsnasError, match=message):
        load(document)


@pytest.mark.parametrize("missing", ["at", "rate_interval", "medians"])
def test_a_missing_figure_is_named(missing: str) -> None:
    document = measured()
    del document["link"][0]["measured"][missing]
    with pytest.raises(JmsnasError, match=f"lab.toml lacks the key '{missing}'"):
        load(document)


@pytest.mark.parametrize(
    ("at", "days"), [(AT, 1.0), ("2026-11-30 17:45:00", 1.0), ("2026-12-01T12:00:00-05:00", 1 / 32)]
)
def test_age(at: str, days: float) -> None:
    # 12:00 at UTC-5 is 17:00 UTC, 45 minutes before.
    assert age_days(at, datetime(2026, 12, 1, 17, 45, tzinfo=UTC)) == pytest.approx(days)
    assert age_days(at, datetime(2020, 1, 1, tzinfo=UTC)) == 0


def test_epsilon_is_interpolated_between_the_measured_sizes() -> None:
    (link,) = load(measured()).links
    # 256 bytes took 0.5 ms, 4096 bytes 1.7 ms: 2176 bytes, in the middle, take 1.1 ms.
    for sent_bytes, seconds in ((1, 0.5e-3), (256, 0.5e-3), (2176, 1.1e-3), (4096, 1.7e-3)):
        assert link.epsilon_s(sent_bytes) == pytest.approx(seconds)
    # Beyond, the line: 0.42 ms + 8 * 40960 / 25e6 s.
    assert link.epsilon_s(40_960) == pytest.approx(0.42e-3 + 13.1072e-3)
    noisy = replace(LINK, sizes=(1, 2, 3), medians_s=(2e-3, 1e-3, 3e-3))
    assert [noisy.interpolated_s(size) for size in (0, 1, 2, 2.5, 3)] == pytest.approx(
        [2e-3, 2e-3, 2e-3, 2.5e-3, 3e-3]
    )
