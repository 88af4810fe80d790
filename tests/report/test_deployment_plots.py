import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jmsnas.errors import InputError
from jmsnas.report.deployment_plots import DeploymentRecord, draw_terms, draw_timeline, read_deployment
from jmsnas.report.plot_style import png


def document(held: bool = False) -> dict[str, Any]:
    hops = [("", "pi4", 0.0, 0.0, 0.0, 1e-3), ("pi4", "cloud", 1e-3, 3e-3, 3.1e-3, 4e-3)]
    names = ("source", "device", "sent_s", "received_s", "begun_s", "ended_s")
    spread = {"low_s": 8e-4, "high_s": 2e-3, "held": held}
    return {
        "schema_version": 1,
        "timeline": [dict(zip(names, hop, strict=True)) for hop in hops],
        "latency": {"held": held},
        "terms": [
            {
                "kind": "compute",
                "where": "pi4",
                "predicted_s": 9e-4,
                "measured_s": 1e-3,
                **spread,
            },
            {
                "kind": "send",
                "where": "pi4 -> cloud",
                "predicted_s": 2e-3,
                "measured_s": 2e-3,
                **spread,
            },
            {
                "kind": "wait",
                "where": "cloud",
                "predicted_s": None,
                "measured_s": 1e-4,
                **spread,
            },
        ],
    }


def record(held: bool = False) -> DeploymentRecord:
    return msgspec.convert(document(held), DeploymentRecord)


def test_the_timeline_has_a_row_for_each_device_and_ends_with_the_result() -> None:
    (axes,) = draw_timeline(record()).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pi4", "cloud"]
    assert axes.get_title(loc="left") == "one request on the devices: T = 4.000 ms"
    assert axes.lines[0].get_xdata()[0] == pytest.approx(4.0)


def test_terms_show_the_ratio_of_measured_to_predicted() -> None:
    (axes,) = draw_terms(record()).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["compute pi4", "send pi4 -> cloud"]
    # 1 ms over 0.9 ms, and 2 ms over 2 ms.
    assert {text.get_text().strip() for text in axes.texts} == {"x 1.11", "x 1.00"}


def test_emulated_terms_are_marked() -> None:
    (axes,) = draw_terms(record(held=True)).axes
    assert {text.get_text().strip() for text in axes.texts} == {"emulated"}
    assert "(emulated devices or links)" in axes.get_title(loc="left")
    assert png(draw_timeline(record(held=True))).startswith(b"\x89PNG")


def test_a_run_that_was_not_deployed_and_a_damaged_record(tmp_path: Path) -> None:
    assert read_deployment(tmp_path) is None
    (tmp_path / "deploy.json").write_text(json.dumps(document()))
    assert read_deployment(tmp_path) == record()
    (tmp_path / "deploy.json").write_text("{}")
    with pytest.raises(InputError, match="deploy.json is damaged.*Run jmsnas deploy again"):
        read_deployment(tmp_path)
