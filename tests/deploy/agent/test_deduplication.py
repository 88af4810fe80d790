import pytest

from jmsnas.deploy.agent.deduplication import ResponseCache


def test_failed_request_can_be_retried() -> None:
    cache: ResponseCache[int] = ResponseCache()
    claim, mine = cache.claim("a")
    other, not_mine = cache.claim("a")
    assert mine and not not_mine and other is claim
    cache.fail("a", claim, ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        other.result(1)
    assert cache.claim("a")[1]


def test_cache_is_bounded_in_bytes() -> None:
    cache: ResponseCache[int] = ResponseCache(max_bytes=100)
    for n in range(10):
        claim, _ = cache.claim(n)
        cache.complete(claim, n, 30)
    # Three of 30 bytes fit into 100; the fourth youngest is forgotten.
    assert [cache.claim(n)[1] for n in (6, 7, 8, 9)] == [True, False, False, False]


def test_wait_ends_at_its_timeout() -> None:
    claim, _ = ResponseCache[int]().claim("a")
    with pytest.raises(TimeoutError):
        claim.result(0.01)
