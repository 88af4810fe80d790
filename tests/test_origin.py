import pytest

from jmsnas.origin import origin_label, origin_notes, origin_of


def test_what_is_no_measurement_is_written_large() -> None:
    assert [origin_label(origin) for origin in ("measured", "published", "simulated")] == [
        "measured", "published", "SIMULATED",
    ]  # fmt: skip


def test_what_results_say_and_older_ones() -> None:
    assert origin_of({"simulated": False, "origin": "published"}) == "published"
    assert [origin_of({"simulated": so}) for so in (True, False)] == ["simulated", "measured"]
    for wrong in ({"simulated": False, "origin": "guessed"}, {"simulated": True, "origin": "published"}):
        with pytest.raises(ValueError, match="expected one of measured, imported, published, simulated"):
            origin_of(wrong)
    with pytest.raises(KeyError, match="simulated"):
        origin_of({"origin": "measured"})


def test_only_what_was_not_measured_here_is_named() -> None:
    kinds = {"ue": "measured", "phone": "published", "pi": "published", "cloud": "simulated"}
    devices = [{"name": n, "origin": o, "simulated": o == "simulated"} for n, o in kinds.items()]
    assert origin_notes([*devices, *devices]) == (
        "T is based on SIMULATED latencies of cloud.",
        "T is based on published latencies of phone, pi, measured by others.",
    )
    assert origin_notes(devices[:1]) == ()
