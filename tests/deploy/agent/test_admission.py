import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from jmsnas.deploy.agent.admission import Places, Processor
from jmsnas.deploy.transport.refusal import RequestRefusedError


@contextmanager
def running(processor: Processor, limit_s: float = 60.0) -> Iterator[None]:
    """Compute as a counted request."""
    processor.acquire(time.monotonic() + limit_s)
    try:
        yield
    finally:
        processor.release()


def test_queue_is_bounded() -> None:
    processor, served = Processor(max_queued=1), list[str]()
    # One runs, two wait: one of them is about to run when the bound is checked.
    processor.enqueue()
    with running(processor):
        processor.enqueue()
        processor.enqueue()
        with pytest.raises(RequestRefusedError, match="the queue is full: send fewer requests") as full:
            processor.enqueue()
        assert full.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED

        def wait() -> None:
            with running(processor):
                served.append("served")

        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert not served
    for thread in threads:
        thread.join(60)
    assert served == ["served", "served"]
    processor.enqueue()


def test_a_request_that_leaves_makes_room() -> None:
    processor = Processor(max_queued=0)
    processor.enqueue()
    with pytest.raises(RequestRefusedError, match="the queue is full"):
        processor.enqueue()
    processor.leave()
    processor.enqueue()


def test_deadline_passes_in_the_queue() -> None:
    processor = Processor(max_queued=0)
    processor.enqueue()
    with running(processor):
        processor.enqueue()
        with (
            pytest.raises(RequestRefusedError, match="the deadline passed in the queue") as late,
            running(processor, 0.02),
        ):
            pass
        assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        processor.enqueue()  # it does not wait any more
        processor.leave()
    processor.enqueue()
    with running(processor):
        pass


def test_one_caller_cannot_take_all_places() -> None:
    places = Places(3, 2)
    places.take("a")
    places.take("a")
    with pytest.raises(RequestRefusedError, match="too many requests in flight: send fewer") as full:
        places.take("a")
    assert full.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    places.take("b")
    with pytest.raises(RequestRefusedError, match="too many requests in flight"):
        places.take("c")
    assert places.taken == 3
    places.leave("a")
    places.take("c")
    for caller in ("a", "b", "c"):
        places.leave(caller)
    assert not places.taken and not places._taken
