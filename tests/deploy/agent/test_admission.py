import threading
import time

import grpc
import pytest

from jmsnas.deploy.agent.admission import Places, Processor
from jmsnas.deploy.transport.refusal import RequestRefusedError


def test_queue_is_bounded() -> None:
    processor, served = Processor(max_queued=1), list[str]()
    # One runs, two wait: one of them is about to run when the bound is checked.
    processor.enqueue()
    with processor.run(time.monotonic() + 60):
        processor.enqueue()
        processor.enqueue()
        with pytest.raises(RequestRefusedError, match="the queue is full: send fewer requests") as full:
            processor.enqueue()
        assert full.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED

        def wait() -> None:
            with processor.run(time.monotonic() + 60):
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
    with processor.run(time.monotonic() + 60):
        processor.enqueue()
        with (
            pytest.raises(RequestRefusedError, match="the deadline passed in the queue") as late,
            processor.run(time.monotonic() + 0.02),
        ):
            pass
        assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        processor.enqueue()  # it does not wait any more
        processor.leave()
    processor.enqueue()
    with processor.run(time.monotonic() + 60):
        pass


def test_a_computation_that_fails_frees_the_processor() -> None:
    processor = Processor(max_queued=0)
    for _ in range(3):
        processor.enqueue()
        with pytest.raises(ValueError, match="broken"), processor.run(time.monotonic() + 60):
            raise ValueError("broken")


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
