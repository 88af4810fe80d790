import numpy as np
import pytest
from synthetic_latencies import exact_s, table

from jmsnas.estimators.regression.features import ROOFLINE, columns, features
from jmsnas.estimators.regression.roofline import ROOFLINE_KINDS, fit_roofline, roofline_s
from jmsnas.space import IDENTITY, Block, Candidate, Layer
from jmsnas.space_file import load_space


def test_two_points_worked_by_hand() -> None:
    # Identity does no work and takes 2 us: the constant. A block of 100 us leaves 98 us for its work.
    layer = Layer(4, 4, 1, 2, 2)
    table = features([Block(IDENTITY, layer), Block(Candidate(3, 2), layer)])
    rates = fit_roofline(table, np.array([2e-6, 100e-6]))
    assert rates[-1] == pytest.approx(2e-6)
    assert table[1, columns(ROOFLINE)] @ rates[:-1] == pytest.approx(98e-6)


def test_an_exact_roofline_is_recovered() -> None:
    table = features(load_space("imagenet").blocks())
    # 1 GMAC/s to 10 GMAC/s, 1 to 8 GB/s, launches of 1 to 20 us, 5 us a call.
    rates = np.array(
        [1e-9, 2e-10, 1e-10, 5e-10, 1e-9, 5e-10, 1e-9, 3e-10, 4e-10, 1.25e-10, 2e-5, 9e-6, 1e-6, 3e-6, 5e-6]
    )
    measured_s = table[:, columns(ROOFLINE)] @ rates[:-1] + rates[-1]
    predicted_s = roofline_s(table, fit_roofline(table, measured_s))
    assert np.abs(predicted_s / measured_s - 1).max() < 1e-6


def test_rates_are_never_negative_whatever_the_latencies() -> None:
    table = features(load_space("digits").blocks())
    # The more work, the faster: no non-negative rate explains it.
    assert (fit_roofline(table, 1 / (1e4 + table[:, columns(["expand_macs"])][:, 0])) >= 0).all()


def test_errors_are_relative_and_large_ones_count_by_their_size() -> None:
    # Two blocks of the same features timed 10 us and 11 us: least squares of relative errors,
    # t = (1/a + 1/b) / (1/a^2 + 1/b^2) = (1/10 + 1/11) / (1/100 + 1/121) = 10.4525 us.
    X = features([Block(IDENTITY, Layer(4, 4, 1, 2, 2))] * 3)
    assert fit_roofline(X[:2], np.array([10e-6, 11e-6]))[-1] == pytest.approx(10.4525e-6, rel=1e-5)
    # Least squares of 10, 11 and 1,000 us is (1/10 + 1/11 + 1/1000) / (1/100 + 1/121 + 1e-6) = 10.507 us;
    # with the last one's say bounded it is nearer to the two that agree, though not quite there.
    assert 10.4525e-6 < fit_roofline(X, np.array([10e-6, 11e-6, 1e-3]))[-1] < 10.507e-6


def test_few_rows_share_rates() -> None:
    X = table()
    stages, padded, merged = (
        dict(zip(ROOFLINE, fit_roofline(X, exact_s(X), kind=kind).tolist(), strict=False))
        for kind in reversed(ROOFLINE_KINDS)
    )
    assert merged["expand_macs"] == merged["project_macs"] != merged["depthwise_macs"]
    moved = {merged[name] for name in ROOFLINE if name.endswith("_bytes") and name != "parameter_bytes"}
    assert len(moved) == 1 and merged["parameter_bytes"] not in moved
    assert merged["convolutions"] == merged["additions"] == merged["elementwise_operators"]
    assert stages["expand_macs"] != stages["project_macs"]
    assert merged["overpadded_macs"] == 0 < padded["overpadded_macs"]
    assert padded["expand_macs"] == padded["project_macs"] and padded["convolutions"] == padded["additions"]


def test_noisy_rows_have_less_say() -> None:
    X = features(load_space("digits").blocks())
    true_s = roofline_s(X, fit_roofline(X, np.full(len(X), 1e-4)))
    wrong = true_s.copy()
    wrong[::7] *= 3
    noise = np.zeros(len(X))
    noise[::7] = 0.5
    clean = np.arange(len(X)) % 7 != 0

    def off(rates: np.ndarray) -> float:
        return float(np.abs(roofline_s(X, rates) / true_s - 1)[clean].mean())

    assert off(fit_roofline(X, wrong, noise)) < off(fit_roofline(X, wrong)) / 4
