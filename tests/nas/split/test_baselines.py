import itertools
from dataclasses import replace

import numpy as np
import pytest
from split_problems import random_problem

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.timeline import compute_timeline

# A diamond; the raw input read by three units.
FORKS = [((0,), (1,), (1,), (2, 3), (4,)), ((0,), (0,), (0,), (1, 2, 3), (4,))]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("inputs", FORKS)
@pytest.mark.parametrize(("M", "watts"), [(2, (4.0, 0.5)), (3, (4.0, 2.0, 0.5))])
def test_an_output_that_several_units_read_crosses_a_link_once(
    inputs: tuple[tuple[int, ...], ...], M: int, watts: tuple[float, ...], seed: int
) -> None:
    """Hermes meets the least energy of all placements, and none below it."""
    problem = random_problem(np.random.default_rng(seed), inputs, M)
    pairs = zip(problem.devices, watts, strict=True)
    problem = replace(problem, devices=tuple(replace(d, power_w=w, send_power_w=2.0) for d, w in pairs))
    least_j = min(
        compute_timeline(problem, "uint8", devices, M - 1).energy_j or np.inf
        for devices in itertools.product(range(M), repeat=5)
        # Links lead onward only.
        if all(
            (devices[i - 1] if i else 0) <= devices[n] for n, outputs in enumerate(inputs) for i in outputs
        )
    )
    found = split(problem, SplitRequest("uint8", "relay", budget_j=least_j * (1 + 1e-9)))
    assert found.timeline.energy_j == pytest.approx(least_j, rel=1e-6)
    with pytest.raises(
        InfeasibleError, match="no placement costs .* or less: expected a larger --energy-limit"
    ):
        split(problem, SplitRequest("uint8", "relay", budget_j=least_j * (1 - 1e-6)))
