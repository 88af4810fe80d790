import pytest

from jmsnas.errors import UnitError
from jmsnas.units import (
    format_duration,
    format_rate,
    parse_duration,
    parse_energy,
    parse_power,
    parse_rate,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120ms", 0.12),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("85 us", 8.5e-5),
        ("1e2ms", 0.1),
        ("85 \u00b5s", 8.5e-5),
        ("85\u03bcs", 8.5e-5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


def test_rates_are_decimal() -> None:
    assert parse_rate("25Mbit/s") == 25e6
    assert parse_rate("1 Gbit/s") == 1e9


@pytest.mark.parametrize(
    "text", ["", "12", "ms", "-3ms", "12 parsecs", "nanms", "1e999s", "--ms", "1,5ms", "e" * 10**5]
)
def test_a_duration_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="is not a duration: expected a number >= 0 and one of us, ms"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["5MW", "3MJ"])
def test_mega_is_not_read_as_milli(text: str) -> None:
    with pytest.raises(UnitError, match="expected a number >= 0 and one of m"):
        (parse_power if text.endswith("W") else parse_energy)(text)


def test_a_rate_that_cannot_be_is_refused() -> None:
    with pytest.raises(UnitError, match="'-25Mbit/s' is not a link rate.*as in 25Mbit/s"):
        parse_rate("-25Mbit/s")


def test_numbers_are_printed_as_people_read_them() -> None:
    assert format_duration(0.19567) == "195.7 ms"
    assert format_duration(8.52e-5) == "85.2 us"
    assert format_duration(2.0) == "2 s"
    assert format_rate(25e6) == "25 Mbit/s"
