"""What a call costs that nobody prepared: a table's blocks run back to back, a request comes unawaited.

Threads sleep, caches are cold, and Python makes the call: tens of microseconds, which a part pays once.
"""

import base64
import time
from functools import cache, partial
from itertools import repeat
from statistics import median

import numpy as np

from jmsnas.profiler.timing.onnx_session import open_session

# y = Relu(x), x (1, 24, 8, 8) float32, opset 20: the smallest model that does something.
RELU_ONNX = base64.b64decode(
    "CAoSADpOCgwKAXgSAXkiBFJlbHUSBGNhbGxaGwoBeBIWChQIARIQCgIIAQoCCBgKAggICgIICGIbCgF5EhYKFAgBEhAKAggBCgII"
    "GAoCCAgKAggIQgQKABAU"
)
_ROUNDS, _PAUSE_S, _IN_A_ROW = 31, 0.003, 200


@cache
def call_overhead_s() -> float:
    """Seconds that one call takes more when it comes alone; measured once in this process, 0.1 s."""
    session = open_session(RELU_ONNX, 1)
    call = partial(session.run, ["y"], {"x": np.ones((1, 24, 8, 8), np.float32)})
    alone = []
    for _ in range(_ROUNDS):
        time.sleep(_PAUSE_S)
        began = time.perf_counter_ns()
        call()
        alone.append((time.perf_counter_ns() - began) * 1e-9)
    began = time.perf_counter_ns()
    for _ in repeat(None, _IN_A_ROW):
        call()
    in_a_row_s = (time.perf_counter_ns() - began) * 1e-9 / _IN_A_ROW
    return max(0.0, median(alone) - in_a_row_s)
