"""Joins, repeated requests and callers that hang up, without a network."""

import threading
import time
from itertools import permutations

import grpc
import numpy as np
import pytest
from data_peers import LIMIT_S, wait_until
from msgspec.structs import replace
from relays import EPOCH, handler_of, relay, run_frame

from jmsnas.deploy.agent import request_handler
from jmsnas.deploy.agent.forwarding import Result
from jmsnas.deploy.agent.request_handler import Call, RequestHandler
from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT_PER_CALLER, MAX_QUEUED
from jmsnas.deploy.transport.frame import Frame
from jmsnas.deploy.transport.refusal import RequestRefusedError
from jmsnas.deploy.transport.run_response import RunResponse
from jmsnas.errors import FrameError


def numbers(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


X = numbers(1, 2, 3, 4)


def send(handler: RequestHandler, frame: Frame, caller: str = "") -> tuple[Call, list[Result]]:
    """Admit and run a request; return its call, and the list that its result is added to."""
    results: list[Result] = []
    call = handler.admit(frame, caller, results.append)
    if handler.enqueue(call):
        handler.run(call, frame)
    return call, results


def body_of(results: list[Result]) -> bytes:
    (result,) = results
    assert isinstance(result, RunResponse), result
    return bytes(result.body)


def error_of(results: list[Result]) -> RequestRefusedError:
    (result,) = results
    assert isinstance(result, RequestRefusedError)
    return result


def idle(handler: RequestHandler) -> bool:
    """Whether nothing of any request is left."""
    left = handler._executions, handler._joins, handler._processor._waiting, handler.in_flight
    return not any(left)


def test_a_request_is_run_and_listed() -> None:
    handler = handler_of(relay())
    began_ns = time.monotonic_ns()
    _, results = send(handler, run_frame(1, X))
    (response,) = results
    assert isinstance(response, RunResponse) and body_of(results) == X and response.shape == (1, 4)
    (span,) = response.trail
    assert span.device == "cloud"
    assert began_ns <= span.received_ns <= span.started_ns <= span.ended_ns <= time.monotonic_ns()
    assert idle(handler)


def test_the_sum_of_branches_does_not_depend_on_their_order() -> None:
    # In float32 (1e8 + 1) - 1e8 is 0, and (1e8 - 1e8) + 1 is 1.
    bodies = [numbers(value, 0, 0, 0) for value in (1e8, 1.0, -1e8)]
    handler = handler_of(relay(joined=3))
    for n, order in enumerate(permutations(range(3))):
        name = b"request %d" % n
        found = [send(handler, run_frame(b + 1, bodies[b], name, b))[1] for b in order]
        assert [body_of(results) for results in found] == [numbers(0, 0, 0, 0)] * 3
    assert idle(handler)


def test_branches_of_two_requests_are_not_mixed() -> None:
    handler = handler_of(relay(joined=2))
    sent = {
        (name, branch): send(handler, run_frame(1, numbers(value, 0, 0, 0), name, branch))[1]
        for name, branch, value in ((b"a", 0, 1), (b"b", 0, 10), (b"b", 1, 20), (b"a", 1, 2))
    }
    assert all(body_of(sent[b"a", n]) == numbers(3, 0, 0, 0) for n in (0, 1))
    assert all(body_of(sent[b"b", n]) == numbers(30, 0, 0, 0) for n in (0, 1))


def test_a_branch_whose_caller_has_gone_leaves_no_tensor() -> None:
    handler = handler_of(relay(joined=2))
    call, results = send(handler, run_frame(1, X, b"a", 0))
    assert handler._joins and not idle(handler)
    handler.hang_up(call)
    assert idle(handler) and not results
    # The other branch waits, until the first is sent again.
    _, other = send(handler, run_frame(2, X, b"a", 1))
    assert not other
    _, again = send(handler, run_frame(3, X, b"a", 0))
    assert body_of(other) == body_of(again) == numbers(2, 4, 6, 8)
    assert not results and idle(handler)


def test_a_join_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = handler_of(relay(joined=2))
    _, soon = send(handler, run_frame(1, X, b"a", 0, left_s=5.0))
    _, later = send(handler, run_frame(2, X, b"b", 0))
    now_s = time.monotonic()
    handler.tick(now_s + 4.9 - 1.0)
    assert not soon and not later
    handler.tick(now_s + 5.1)
    error = error_of(soon)
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert str(error) == "device cloud: the deadline passed before all branches arrived"
    assert not later
    # Whatever the deadline of the request.
    handler.tick(now_s + request_handler._JOIN_S + 1)
    assert error_of(later).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert idle(handler)


def test_a_repeated_request_gets_the_same_response() -> None:
    handler = handler_of(relay())
    first = send(handler, run_frame(1, X, b"a"))[1]
    # Not run again: other numbers under the same name get the first response.
    again = send(handler, run_frame(2, numbers(9, 9, 9, 9), b"a"))[1]
    assert again == first and body_of(again) == X
    assert body_of(send(handler, run_frame(3, numbers(9, 9, 9, 9), b"b"))[1]) == numbers(9, 9, 9, 9)
    assert idle(handler)


def test_a_request_repeated_while_it_is_run_is_run_once() -> None:
    handler = handler_of(relay(joined=2))
    calls = [send(handler, run_frame(n, X, b"a", 0)) for n in range(3)]
    handler.hang_up(calls[0][0])  # others still wait for it
    assert handler._joins
    _, last = send(handler, run_frame(9, X, b"a", 1))
    assert not calls[0][1]
    assert body_of(calls[1][1]) == body_of(calls[2][1]) == body_of(last) == numbers(2, 4, 6, 8)
    assert idle(handler)


def test_a_failed_request_can_be_sent_again() -> None:
    handler = handler_of(relay())
    _, failed = send(handler, run_frame(1, numbers(1, 2, float("nan"), 4), b"a"))
    error = error_of(failed)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error).startswith("device cloud: a tensor with a number that is not finite: check the device")
    assert body_of(send(handler, run_frame(2, X, b"a"))[1]) == X
    assert idle(handler)


def wait_for_the_processor(
    handler: RequestHandler, frames: list[Frame]
) -> tuple[list[Call], list[list[Result]], list[threading.Thread]]:
    """Admit requests, and run each in a thread, while the processor is taken."""
    results: list[list[Result]] = [[] for _ in frames]
    calls = [handler.admit(one, "", found.append) for one, found in zip(frames, results, strict=True)]
    assert all(handler.enqueue(call) for call in calls)
    threads = [
        threading.Thread(target=handler.run, args=pair, daemon=True)
        for pair in zip(calls, frames, strict=True)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(call.execution is not None for call in calls))
    return calls, results, threads


def test_a_request_whose_caller_has_gone_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    part = relay()
    ran: list[bytes] = []
    monkeypatch.setattr(type(part), "__call__", lambda self, x: ran.append(x.tobytes()) or x)
    handler = handler_of(part)
    with handler._processor._running:
        frames = [run_frame(n, numbers(n, 0, 0, 0), left_s=600.0) for n in range(3)]
        calls, results, threads = wait_for_the_processor(handler, frames)
        handler.hang_up(calls[1])
        threads[1].join(LIMIT_S)
        assert not threads[1].is_alive()  # it does not wait any more
        assert handler._processor._waiting == 2
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(ran) == sorted([numbers(0, 0, 0, 0), numbers(2, 0, 0, 0)])
    assert [len(found) for found in results] == [1, 0, 1] and idle(handler)


def test_a_deadline_passes_while_a_request_waits_for_the_processor() -> None:
    handler = handler_of(relay())
    with handler._processor._running:
        _, (late,), (thread,) = wait_for_the_processor(handler, [run_frame(1, X, left_s=0.05)])
        thread.join(LIMIT_S)
        assert str(error_of(late)) == "device cloud: the deadline passed in the queue"
        assert error_of(late).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert idle(handler)


def refused(handler: RequestHandler, frame: Frame, caller: str = "") -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as error:
        handler.admit(frame, caller, lambda result: None)
    return error.value


def test_more_requests_than_may_wait_are_refused() -> None:
    handler, results = handler_of(relay()), list[Result]()
    calls = [handler.admit(run_frame(n, X), "", results.append) for n in range(MAX_QUEUED + 2)]
    assert [handler.enqueue(call) for call in calls] == [True] * (MAX_QUEUED + 1) + [False]
    full = error_of(results)
    assert full.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(full) == "device cloud: the queue is full: send fewer requests, or later"
    assert handler.in_flight == MAX_QUEUED + 1  # the refused one has no place
    for call in calls[:-1]:
        handler.drop(call)
    assert idle(handler)


def test_more_requests_in_flight_than_a_caller_may_have_are_refused() -> None:
    handler = handler_of(relay(joined=2))
    for n in range(MAX_IN_FLIGHT_PER_CALLER):  # each waits for another branch, not for the processor
        send(handler, run_frame(n, X))
    full = refused(handler, run_frame(99, X))
    assert full.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(full) == "too many requests in flight: send fewer, or later"


def test_requests_that_the_plan_does_not_name() -> None:
    pins = "aa" * 32, "bb" * 32
    handler = handler_of(relay(joined=2, sources=pins))
    stranger = refused(handler, run_frame(1, X), "cc" * 32)
    assert stranger.code is grpc.StatusCode.PERMISSION_DENIED
    assert str(stranger) == "data from a device that is not a sender of this part"
    swapped = refused(handler, run_frame(1, X, branch=1), pins[0])
    assert swapped.code is grpc.StatusCode.PERMISSION_DENIED
    assert str(swapped) == "branch 1 from a device that the plan does not name for it"
    old = refused(handler, replace(run_frame(1, X), epoch=EPOCH - 1), pins[0])
    assert old.code is grpc.StatusCode.FAILED_PRECONDITION
    assert str(old) == f"plan {EPOCH - 1} is not served (served: {EPOCH}): send requests of the newest plan"
    for frame in (
        run_frame(1, X * 2),
        run_frame(1, X, branch=2),
        replace(run_frame(1, X), tensors=(), body=b""),
        replace(run_frame(1, X), tensors=run_frame(1, X).tensors * 2, body=X * 2),
    ):
        with pytest.raises(FrameError, match="a tensor whose shape or branch is not the one of this part"):
            handler.admit(frame, pins[0], lambda result: None)
    assert idle(handler)


def test_deadlines_are_bounded() -> None:
    handler = handler_of(relay())
    call = handler.admit(run_frame(1, X, left_s=4000.0), "", lambda result: None)
    assert call.deadline_s <= time.monotonic() + 600


def test_a_computation_that_fails_frees_the_processor() -> None:
    part = relay()
    handler = handler_of(part)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(part, "_call", lambda x: x[:, :2])
        _, results = send(handler, run_frame(1, X))
    assert "a part whose output has another shape than was signed" in str(error_of(results))
    assert body_of(send(handler, run_frame(2, X, b"b"))[1]) == X and idle(handler)


def test_an_agent_that_ends_refuses_requests() -> None:
    handler = handler_of(relay())
    handler._health.serving = False
    ending = refused(handler, run_frame(1, X))
    assert (ending.code, str(ending)) == (grpc.StatusCode.UNAVAILABLE, "shutting down")


def test_a_call_ends_once() -> None:
    handler = handler_of(relay())
    frame, results = run_frame(1, X), list[Result]()
    call = handler.admit(frame, "", results.append)
    assert handler.enqueue(call)
    handler.hang_up(call)
    handler.run(call, frame)  # as it has been read before
    assert not results and idle(handler)
    call, results = send(handler, frame)
    handler.hang_up(call)
    assert len(results) == 1 and idle(handler)
