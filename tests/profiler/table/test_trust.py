from dataclasses import replace
from typing import Any

import pytest
from profiling_jobs import PART, a_row

from jmsnas.profiler.table.noise_floor import NoiseFloor
from jmsnas.profiler.table.trust import is_disturbed, rate_trust, relative_noise

FLOOR = NoiseFloor(8, 0.004, 0.011, 0.015)
# Known within 2 % (widened), in a process within 0.5 %.
ROW = replace(a_row(), median_s=1e-4, low_s=0.98e-4, high_s=1.02e-4)
THROTTLES = "the host throttles (under-voltage)"
HOT = "the host is at 91 C"
GREEN = "95 % interval of +-2.0%; 0.4% median difference between processes"


def within(share: float) -> dict[str, Any]:
    return {"low_s": 1e-4 * (1 - share), "high_s": 1e-4 * (1 + share)}


@pytest.mark.parametrize(
    ("changes", "floor", "mark", "reason"),
    [
        ({}, FLOOR, "green", GREEN),
        (within(0.049), FLOOR, "green", "95 % interval of +-4.9%; 0.4% median difference between processes"),
        ({"interrupted": 0.2, "drift": 0.6}, FLOOR, "green", GREEN),
        ({"kind": "simulated"}, FLOOR, "red", "simulated, not measured"),
        ({"kind": "simulated"}, None, "red", "simulated, not measured"),
        ({"host_faults": (THROTTLES,)}, FLOOR, "red", THROTTLES),
        ({"interrupted": 0.21}, FLOOR, "red", "another process held its core in 21% of the rounds"),
        (within(0.11), FLOOR, "red", "95 % interval of +-11%"),
        (
            {"host_faults": (HOT, THROTTLES), "interrupted": 0.5} | within(0.2),
            None,
            "red",
            f"{THROTTLES}; another process held its core in 50% of the rounds; 95 % interval of +-20%",
        ),
        ({"host_faults": (HOT,)}, FLOOR, "yellow", HOT),
        ({"drift": 0.61}, FLOOR, "yellow", "the host's speed changed by 61% meanwhile"),
        (
            {"converged": False, "ratio_low": 0.97, "ratio_high": 1.03},
            FLOOR,
            "yellow",
            "half width 3.0%, expected 1 %: give a longer --budget",
        ),
        (within(0.06), FLOOR, "yellow", "95 % interval of +-6%, expected 5%"),
        ({}, None, "yellow", "no block was measured in a second process"),
        (
            {"host_faults": (HOT,), "drift": 0.7},
            None,
            "yellow",
            f"{HOT}; the host's speed changed by 70% meanwhile; no block was measured in a second process",
        ),
    ],
)  # fmt: skip
def test_mark_and_reason(changes: dict[str, Any], floor: NoiseFloor | None, mark: str, reason: str) -> None:
    assert rate_trust(replace(ROW, **changes), floor) == (mark, reason)


def test_parts_are_rated_like_blocks() -> None:
    assert rate_trust(a_row(PART), FLOOR)[0] == "green"
    assert rate_trust(replace(a_row(PART), interrupted=0.9), FLOOR)[0] == "red"


def test_disturbed() -> None:
    assert not is_disturbed(ROW) and not is_disturbed(replace(ROW, interrupted=0.2, drift=3.0))
    assert is_disturbed(replace(ROW, interrupted=0.21)) and is_disturbed(replace(ROW, host_faults=(HOT,)))


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"trust": "green"}, 0.02 / 1.96),
        ({"trust": "green"} | within(0.049), 0.049 / 1.96),
        ({"trust": "yellow"}, 0.02),
        ({"trust": "yellow"} | within(0.06), 0.06 / 1.96),
        ({"trust": "red"}, 0.1),
        ({"trust": "red"} | within(0.5), 0.5 / 1.96),
        ({"trust": "red", "kind": "simulated"}, 0.0),
    ],
)
def test_noise_that_a_fit_weighs_by(changes: dict[str, Any], share: float) -> None:
    assert relative_noise(replace(ROW, **changes)) == pytest.approx(share)
