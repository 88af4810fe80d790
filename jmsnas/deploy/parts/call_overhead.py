"""Measure the overhead of a single call over back-to-back calls, as in latency tables.

Threads sleep, caches are cold, and Python makes the call: tens of microseconds for each part.
"""

import base64
import time
from collections.abc import Callable
from functools import cache, partial
from itertools import repeat
from statistics import median

import numpy as np

from jmsnas.profiler.timing.onnx_session import open_session

# y = Relu(x), x (1, 24, 8, 8) float32, opset 20: the smallest model with an operator.
RELU_ONNX = base64.b64decode(
    "CAoSADpOCgwKAXgSAXkiBFJlbHUSBGNhbGxaGwoBeBIWChQIARIQCgIIAQoCCBgKAggICgIICGIbCgF5EhYKFAgBEhAKAggBCgII"
    "GAoCCAgKAggIQgQKABAU"
)
ROUNDS, _PAUSE_S, _BACK_TO_BACK = 31, 0.003, 200


@cache
def call_overhead_s() -> float:
    """Return the extra seconds of a single call; measured once a process, in 0.1 s."""
    session = open_session(RELU_ONNX, 1)
    call = partial(session.run, ["y"], {"x": np.ones((1, 24, 8, 8), np.float32)})
    single_s = single_call_s(call)
    began = time.perf_counter_ns()
    for _ in repeat(None, _BACK_TO_BACK):
        call()
    back_to_back_s = (time.perf_counter_ns() - began) * 1e-9 / _BACK_TO_BACK
    return max(0.0, single_s - back_to_back_s)


def single_call_s(call: Callable[[], object]) -> float:
    """Return the median seconds of a call after a pause."""
    seconds = []
    for _ in range(ROUNDS):
        time.sleep(_PAUSE_S)
        began = time.perf_counter_ns()
        call()
        seconds.append((time.perf_counter_ns() - began) * 1e-9)
    return median(seconds)
