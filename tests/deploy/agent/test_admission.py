import threading
import time
from itertools import permutations

import grpc
import numpy as np
import pytest

from jmsnas.deploy.agent.admission import AdmissionQueue, BranchSum, RequestRefusedError


def test_queue_is_bounded_and_keeps_the_deadline() -> None:
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


def test_deadline_passes_in_the_queue() -> None:
    queue = AdmissionQueue()
    with (
        queue.enter(time.monotonic() + 5),
        pytest.raises(RequestRefusedError, match="passed in the queue") as late,
        queue.enter(time.monotonic() + 0.02),
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
