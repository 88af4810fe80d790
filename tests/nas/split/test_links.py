import pytest

from jmsnas.nas.split.links import link_arrays
from jmsnas.topology import Link


def test_a_link_is_there_however_fast_it_is() -> None:
    # 4 bytes at 1e18 bit/s: 3.2e-17 s; nothing at all over a link without delay: 0 s.
    links = link_arrays(("a", "b", "c"), [Link("a", "b", 1e18), Link("b", "c", 1e9)])
    seconds_MM, _ = links.routed_MM(4.0)
    assert seconds_MM[0].tolist() == pytest.approx([0.0, 3.2e-17, 3.2e-8], rel=1e-6)
    assert links.routed_MM(0.0)[0][0].tolist() == [0.0, 0.0, 0.0]
    assert links.route(0, 2, 0.0) == (0, 1, 2) and links.route(1, 1, 4.0) == (1,)


def test_the_fastest_way_and_none() -> None:
    # 1,000 bytes: 8 ms the short way, 1 + 1 ms the other.
    links = link_arrays(("a", "b", "c"), [Link("a", "c", 1e6), Link("a", "b", 8e6), Link("b", "c", 8e6)])
    assert links.route(0, 2, 1000.0) == (0, 1, 2)
    assert links.route(2, 0, 1000.0) == ()
