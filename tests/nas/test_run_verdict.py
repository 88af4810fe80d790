from dataclasses import replace
from pathlib import Path

import pytest

from jmsnas.nas.latency.alternatives import SplitAlternatives
from jmsnas.nas.run_result import read_result
from jmsnas.nas.run_verdict import split_verdict


@pytest.mark.parametrize(
    ("device_only_s", "cloud_s", "best_s", "verdict"),
    [
        (9.0, 8.0, 3.0, "the searched split is the fastest, 3 s on pi4, laptop, jetson, cloud"),
        (9.0, 8.0, 2.0, "the best split is the fastest, 2 s on pi4, laptop"),
        (1.0, 8.0, 2.0, "device only is the fastest, 1 s on pi4: do not split this model"),
        (9.0, 1.0, None, "cloud only is the fastest, 1 s on cloud: do not split this model"),
    ],
)
def test_verdict_of_a_search(
    run: Path, device_only_s: float, cloud_s: float, best_s: float | None, verdict: str
) -> None:
    found = read_result(run)
    other = SplitAlternatives(device_only_s, best_s, ("pi4", "laptop") if best_s else ())
    derived, cloud = replace(found.derived, latency_s=3.0), replace(found.cloud_only, latency_s=cloud_s)
    words = split_verdict(replace(found, derived=derived, cloud_only=cloud), other)
    assert words.startswith("the searched split 3 s; device only ") and words.endswith(verdict)
