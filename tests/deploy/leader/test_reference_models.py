import math
from pathlib import Path

import pytest
from deployments import exported, fleet, images, pieces

from jmsnas.deploy.leader.reference_models import (
    FAST,
    SLOW,
    ReferenceModel,
    measure_serving_overhead,
    reference_blocks,
)
from jmsnas.deploy.leader.serving_overhead import ServingOverhead, fit_serving_overhead
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.space import Block
from jmsnas.space_file import load_space


def test_overhead_is_fitted_to_two_models() -> None:
    # U of 1 and 3 ms took 1.3 and 3.7 ms: 0.1 ms a call, and 1.2 times U.
    served = fit_serving_overhead([1e-3, 3e-3], [1.3e-3, 3.7e-3])
    assert (served.a_s, served.b) == pytest.approx((1e-4, 1.2))
    assert served.served_s(2e-3) == pytest.approx(2.5e-3) and served.served_s(0.0) == 0.0
    # A device that reports that it needs no time.
    none = fit_serving_overhead([1e-3, 3e-3], [0.0, 0.0])
    assert none.served_s(1e-4) > 0


@pytest.mark.parametrize(
    ("tau_s", "taken_s", "added_s"),
    [
        # 10 % apart: the slope would be noise, so the overhead is the mean, 0.15 ms.
        ([1e-3, 1.1e-3], [1.2e-3, 1.2e-3], 1.5e-4),
        # A falling line is not used.
        ([1e-3, 2e-3], [3e-3, 2.5e-3], 1.25e-3),
        ([0.0, 0.0], [1e-5, 3e-5], 2e-5),
    ],
)
def test_constant_overhead_where_no_line_can_be_fitted(
    tau_s: list[float], taken_s: list[float], added_s: float
) -> None:
    served = fit_serving_overhead(tau_s, taken_s)
    assert served.b == 1.0 and served.a_s == pytest.approx(added_s)


def test_reference_models_keep_the_geometry() -> None:
    space = load_space("digits")
    blocks = [Block(choices[-1], layer) for choices, layer in zip(space.choices, space.layers, strict=True)]
    for size in (FAST, SLOW):
        found = reference_blocks(blocks, size)
        assert [block.layer for block in found] == list(space.layers)
        inner = [block.candidate for block in found if block.candidate.op == "mb"]
        assert len(inner) == len(blocks) - 2
        assert {(candidate.kernel_size, candidate.expansion) for candidate in inner} == {size}


def test_overhead_is_measured_on_devices_and_at_the_sizes_of_links(tmp_path: Path) -> None:
    tau_s = {"pi4": 1e-5, "laptop": 1e-5, "cloud": 1e-5}
    pairs = [("pi4", "laptop"), ("laptop", "cloud")]
    links = {pair: MeasuredLink(*pair, 1.0, 0.0, 0, 0, (1,), (1.0,)) for pair in pairs}
    with fleet(tmp_path, plain=True) as three:
        reference = ReferenceModel({"chain": exported()}, tau_s)
        served, found = measure_serving_overhead(
            three.leader, pieces(), [reference], links, rounds=1, requests=5
        )
        # One plan for the reference model, then one for the deployed model.
        assert three.leader.epoch == 1
        three.leader.ship(pieces(), {"chain": exported(1)})
        assert three.leader.infer(images(1)[0]).epoch == 2
    assert all(0 < served[device].served_s(1e-5) < 1.0 for device in tau_s)
    shapes = exported().shapes
    for pair, cut in zip(pairs, (2, 4), strict=True):
        size = 4 * math.prod(shapes[cut])
        assert found[pair].sizes == (1, size) and 0 < found[pair].epsilon_s(size) < 1.0


def test_a_link_is_updated_at_a_measured_size() -> None:
    link = MeasuredLink("a", "b", 0.0, 1e-6, 0, 0, (1000, 3000), (1e-3, 3e-3))
    assert link.with_point(2000, 5e-3).medians_s == (1e-3, 5e-3, 3e-3)
    assert link.with_point(3000, 4e-3).medians_s == (1e-3, 4e-3)
    assert ServingOverhead() == ServingOverhead(0.0, 1.0)
