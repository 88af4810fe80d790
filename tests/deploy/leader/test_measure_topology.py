import numpy as np
import pytest

from jmsnas.deploy.leader.measure_topology import fit_link_line, line_intervals

SIZES = (256, 4096, 65_536)


def test_a_line_is_found_again() -> None:
    a, b = fit_link_line(SIZES, [0.4e-3 + 8 / 25e6 * size for size in SIZES])
    assert (a, b) == pytest.approx((0.4e-3, 8 / 25e6))


def test_a_link_that_sends_its_first_bytes_faster_has_the_rate_of_the_others() -> None:
    # A token bucket of 3200 bytes: the line of least squares would begin below 0.
    a, b = fit_link_line(SIZES, [0.3e-3 + 8 / 25e6 * max(0, size - 3200) for size in SIZES])
    assert b == pytest.approx(8 / 25e6, rel=0.03) and a >= 0
    # By hand: the slope through (1, 2) and (2, 8) is 6; of 2 - 6 and 8 - 12 the mean is below 0.
    assert fit_link_line([1, 2], [2.0, 8.0]) == (0.0, pytest.approx(6))
    # A slope below 0 is none; a of the least sum of (a / y - 1)^2 is sum(1 / y) / sum(1 / y^2).
    assert fit_link_line([1, 2], [2.0, 1.0]) == (pytest.approx(1.5 / 1.25), 0.0)


def test_intervals_hold_the_line_and_narrow_with_rounds() -> None:
    rng, seconds = np.random.default_rng(1), np.asarray([0.4e-3 + 8 / 25e6 * size for size in SIZES])

    def intervals(rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
        return line_intervals(SIZES, seconds * rng.normal(1, 0.02, (rounds, len(SIZES))))

    delays_s, bytes_s = intervals(15)
    assert delays_s[0] < 0.4e-3 < delays_s[1] and bytes_s[0] < 8 / 25e6 < bytes_s[1]
    assert intervals(400)[1][1] - intervals(400)[1][0] < (bytes_s[1] - bytes_s[0]) / 2
    constant = line_intervals(SIZES, [seconds] * 3)
    assert constant[0][0] == constant[0][1] == pytest.approx(0.4e-3)
