import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.deploy.transport.link import MeasuredLink, clock_offset, fit_latency_line


def link(source: str, target: str, offset_ns: int = 0) -> MeasuredLink:
    return MeasuredLink(source, target, 1e-3, 1e-7, offset_ns, 0, (), ())


def test_fit_of_a_line() -> None:
    # 1 ms and 8 bits a byte at 25 Mbit/s: 0.32 us a byte.
    sizes = [1000, 10_000, 100_000]
    a, b = fit_latency_line(sizes, [1e-3 + 3.2e-7 * size for size in sizes])
    assert a == pytest.approx(1e-3) and b == pytest.approx(3.2e-7)
    assert MeasuredLink("a", "b", a, b, 0, 0, (), ()).capacity_bps == pytest.approx(25e6)


def test_interpolation_between_measured_sizes() -> None:
    # The first 1000 bytes pass free: 1 ms at 1000, 5 ms at 3000; half way between them 3 ms.
    shaped = MeasuredLink("a", "b", 0.0, 1e-6, 0, 0, (1000, 3000), (1e-3, 5e-3))
    assert shaped.epsilon_s(2000) == pytest.approx(3e-3)
    assert shaped.epsilon_s(4000) == pytest.approx(4e-3)


def test_fit_with_zero_slope() -> None:
    a, b = fit_latency_line([10, 1000], [2e-3, 1e-3])
    assert b == 0.0 and 1e-3 < a < 2e-3
    assert fit_latency_line([10], [5e-3]) == (5e-3, 0.0)


@given(st.floats(1e-5, 1e-2), st.floats(1e-9, 1e-5))
def test_the_fit_is_exact_on_a_line(a: float, b: float) -> None:
    sizes = [512, 4096, 65536, 1 << 20]
    found = fit_latency_line(sizes, [a + b * size for size in sizes])
    assert found == pytest.approx((a, b), rel=1e-4, abs=1e-9)


def test_shortest_exchange_gives_the_clock_offset() -> None:
    # The other's clock is 1000 ns ahead; 10 ns each way, then 500 ns there and 10 back.
    exchanges = [(0, 1010, 1020, 30), (100, 1600, 1610, 620)]
    assert clock_offset(exchanges) == (1000, 20)
