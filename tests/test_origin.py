from jmsnas.origin import origin_label, origin_notes


def test_what_is_no_measurement_is_written_large() -> None:
    assert [origin_label(origin) for origin in ("measured", "published", "simulated")] == [
        "measured", "published", "SIMULATED",
    ]  # fmt: skip


def test_only_what_was_not_measured_here_is_named() -> None:
    origins = {"ue": "measured", "phone": "published", "pi": "published", "cloud": "simulated"}
    assert origin_notes([*origins.items(), *origins.items()]) == (
        "T is based on SIMULATED latencies of cloud.",
        "T is based on published latencies of phone, pi, measured by others.",
    )
    assert origin_notes([("ue", "measured")]) == ()
