import numpy as np
import pytest

from jmsnas.deploy.leader.measure_topology import fit_link_line, line_intervals

SIZES = (256, 4096, 65_536)


def test_a_line_is_found_again() -> None:
    a, b = fit_link_line(SIZES, [0.4e-3 + 8 / 25e6 * size for size in SIZES])
    assert (a, b) == pytest.approx((0.4e-3, 8 / 25e6))


def test_a_delay_below_0_is_0_and_the_rate_fitted_again() -> None:
    # Through 0: the b of the least sum of (b x / y - 1)^2 is sum(x / y) / sum((x / y)^2).
    assert fit_link_line([1, 2], [2.0, 8.0]) == (0.0, pytest.approx((1 / 2 + 1 / 4) / (1 / 4 + 1 / 16)))


def test_intervals_hold_the_line_and_narrow_with_rounds() -> None:
    rng, seconds = np.random.default_rng(1), np.asarray([0.4e-3 + 8 / 25e6 * size for size in SIZES])

    def intervals(rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
        return line_intervals(SIZES, seconds * rng.normal(1, 0.02, (rounds, len(SIZES))))

    delays_s, bytes_s = intervals(15)
    assert delays_s[0] < 0.4e-3 < delays_s[1] and bytes_s[0] < 8 / 25e6 < bytes_s[1]
    assert intervals(400)[1][1] - intervals(400)[1][0] < (bytes_s[1] - bytes_s[0]) / 2
    constant = line_intervals(SIZES, [seconds] * 3)
    assert constant[0][0] == constant[0][1] == pytest.approx(0.4e-3)
