import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import permutations

import grpc
import numpy as np
import pytest

from jmsnas.deploy.agent.admission import (
    AdmissionQueue,
    BranchSum,
    CallerGoneError,
    PendingCall,
    Places,
    RequestRefusedError,
)


def call(seconds: float) -> PendingCall:
    return PendingCall(time.monotonic() + seconds)


def test_queue_is_bounded_and_keeps_the_deadline() -> None:
    queue, inside, leave = AdmissionQueue(max_queued=1), threading.Event(), threading.Event()

    def hold() -> None:
        with queue.enter(call(5)):
            inside.set()
            leave.wait(5)

    waited: list[str] = []

    def wait() -> None:
        with queue.enter(call(5)):
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
        queue.enter(call(5)),
    ):
        pass
    assert full.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    leave.set()
    for thread in threads:
        thread.join(5)
    assert waited == ["served", "served"]


def test_deadline_passes_in_the_queue() -> None:
    queue = AdmissionQueue()
    with (
        queue.enter(call(5)),
        pytest.raises(RequestRefusedError, match="passed in the queue") as late,
        queue.enter(call(0.02)),
    ):
        pass
    assert late.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_branch_sum_does_not_depend_on_arrival_order() -> None:
    # In float32 (1e8 + 1) - 1e8 is 0, and (1e8 - 1e8) + 1 is 1.
    tensors = [np.array([value], np.float32) for value in (1e8, 1.0, -1e8)]
    for order in permutations(range(3)):
        sums, found = BranchSum(), None
        for branch in order:
            found = sums.add("request", branch, tensors[branch], 3)
        assert found is not None and found.tolist() == [0.0]


def test_withdrawn_branch_leaves_no_tensors() -> None:
    sums = BranchSum()
    assert sums.add("request", 0, np.ones(1, np.float32), 2) is None
    assert sums.withdraw("request", 0) and not sums._tensors
    assert not sums.withdraw("request", 0)


def test_waits_in_the_queue_end_with_their_callers() -> None:
    queue, calls = AdmissionQueue(), [call(600) for _ in range(9)]

    def wait(waiting: PendingCall) -> None:
        with queue.enter(waiting):
            pass

    with ThreadPoolExecutor(10) as pool, queue.enter(call(600)):
        waits = [pool.submit(wait, waiting) for waiting in calls]
        while queue._waiting < len(calls):
            time.sleep(0.001)
        for waiting in calls[1:]:
            waiting.hang_up()
        for ended in waits[1:]:
            with pytest.raises(CallerGoneError, match="has hung up"):
                ended.result(60)
        assert not waits[0].done()
        # A caller that hung up before it came is not served either.
        with pytest.raises(CallerGoneError), queue.enter(calls[1]):
            pass
    waits[0].result(60)
    with queue.enter(call(1)):
        pass


def test_wait_for_a_result_ends_with_its_caller() -> None:
    future: Future[int] = Future()
    waiting, other = call(600), call(600)
    with ThreadPoolExecutor(2) as pool:
        gone, served = (pool.submit(one.result, future, one.deadline_s) for one in (waiting, other))
        waiting.hang_up()
        with pytest.raises(CallerGoneError):
            gone.result(60)
        future.set_result(7)
        assert served.result(60) == 7
    with pytest.raises(TimeoutError):
        call(600).result(Future(), time.monotonic())
    called: list[int] = []
    waiting.when_gone(lambda: called.append(1))
    other.when_gone(lambda: called.append(2))
    assert called == [1]


def test_one_caller_cannot_take_all_places() -> None:
    places = Places(3, 2)
    with places.take("a"), places.take("a"):
        with (
            pytest.raises(RequestRefusedError, match="too many requests in flight") as full,
            places.take("a"),
        ):
            pass
        assert full.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        with places.take("b"), pytest.raises(RequestRefusedError), places.take("c"):
            pass
    assert not places._taken
