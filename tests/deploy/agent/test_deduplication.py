from jmsnas.deploy.agent.deduplication import ResponseCache


def test_a_response_is_kept_and_an_unanswered_request_is_not_known() -> None:
    cache: ResponseCache[str] = ResponseCache()
    cache.put("a", "response")
    assert cache.get("a") == "response" and cache.get("b") is None


def test_cache_is_bounded_in_number() -> None:
    cache: ResponseCache[int] = ResponseCache(max_entries=3)
    for n in range(10):
        cache.put(n, n)
    assert [cache.get(n) for n in (6, 7, 8, 9)] == [None, 7, 8, 9]


def test_cache_is_bounded_in_bytes() -> None:
    cache: ResponseCache[int] = ResponseCache(max_bytes=100)
    for n in range(10):
        cache.put(n, n, 30)
    # Three of 30 bytes fit into 100; the fourth youngest is forgotten.
    assert [cache.get(n) for n in (6, 7, 8, 9)] == [None, 7, 8, 9]


def test_an_old_response_is_forgotten() -> None:
    now_s = 0.0
    cache: ResponseCache[int] = ResponseCache(max_age_s=60.0, clock=lambda: now_s)
    cache.put("a", 1, 30)
    now_s = 59.0
    cache.put("b", 2, 30)
    assert (cache.get("a"), cache.get("b")) == (1, 2)
    now_s = 61.0
    assert (cache.get("a"), cache.get("b")) == (None, 2)


def test_a_response_that_is_kept_again_counts_once() -> None:
    now_s = 0.0
    cache: ResponseCache[int] = ResponseCache(max_bytes=100, clock=lambda: now_s)
    for n in range(10):
        now_s = 61.0 * n  # the one before is forgotten
        cache.put("a", n, 30)
    cache.put("b", 10, 30)
    assert (cache.get("a"), cache.get("b")) == (9, 10)
