import threading
import time
from itertools import permutations

import grpc
import numpy as np
import pytest

from jmsnas.deploy.agent.admission import AdmissionQueue, BranchSum, RequestRefusedError
from jmsnas.deploy.agent.deduplication import ResponseCache


def test_the_queue_is_bounded_and_the_deadline_kept_in_it() -> None:
    queue, inside, leave = AdmissionQueue(max_queued=1), threading.Event(), threading.Event()

    def hold() -> None:
        with queue.enter(time.monotonic() + 5):
            inside.set()
            leave.wait(5)

    waited: list[str] = []

    def wait() -> None:
        with queue.enter(time.monotonic() + 5):
            waited.append("served")

    threads = [threading.Thread(target=hold), threading.Thread(target=wait), threading.Thread(target=wait)]
    threads[0].start()
    assert inside.wait(5)
    threads[1].start()
    threads[2].start()
    while queue._waiting < 2:
        time.sleep(0.001)
    with (
        pytest.raises(RequestRefusedError, match="the queue is full") as full,
        queue.enter(time.monotonic() + 5),
    ):
        pass
    assert full.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    leave.set()
    for thread in threads:
        thread.join(5)
    assert waited == ["served", "served"]


def test_a_deadline_that_passes_in_the_queue() -> None:
    queue = AdmissionQueue()
    with (
        queue.enter(time.monotonic() + 5),
        pytest.raises(RequestRefusedError, match="passed in the queue") as late,
        queue.enter(time.monotonic() + 0.02),
    ):
        pass
    assert late.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_sum_has_the_same_bits_whoever_comes_first() -> None:
    # In float32 (1e8 + 1) - 1e8 is 0, and (1e8 - 1e8) + 1 is 1.
    tensors = [np.array([value], np.float32) for value in (1e8, 1.0, -1e8)]
    for order in permutations(range(3)):
        sums, found = BranchSum(), None
        for branch in order:
            found = sums.add("request", branch, tensors[branch], 3)
        assert found is not None and found.tolist() == [0.0]


def test_who_gives_up_leaves_nothing_behind() -> None:
    sums = BranchSum()
    assert sums.add("request", 0, np.ones(1, np.float32), 2) is None
    assert sums.withdraw("request", 0) and not sums._tensors
    assert not sums.withdraw("request", 0)


def test_a_request_that_failed_may_be_tried_again() -> None:
    cache: ResponseCache[int] = ResponseCache()
    claim, mine = cache.claim("a")
    other, not_mine = cache.claim("a")
    assert mine and not not_mine and other is claim
    cache.fail("a", claim, ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        other.wait(1)
    assert cache.claim("a")[1]


def test_large_answers_are_remembered_within_bounds() -> None:
    cache: ResponseCache[int] = ResponseCache(max_bytes=100)
    for n in range(10):
        claim, _ = cache.claim(n)
        cache.complete(claim, n, 30)
    # Three of 30 bytes fit into 100; the fourth youngest is forgotten.
    assert [cache.claim(n)[1] for n in (6, 7, 8, 9)] == [True, False, False, False]


def test_who_waits_for_an_answer_waits_no_longer_than_told() -> None:
    claim, _ = ResponseCache[int]().claim("a")
    assert claim.wait(0.01) is None
