"""Response to an inference request, checked by every device on its way and by the leader.

It must belong to the request and the plan, hold the output that the plan promises (float32, its shape,
finite), and list the devices that the plan names, in their order.
"""

import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from jmsnas.arrays import Float32Array
from jmsnas.deploy.transport.encoding import decode_tensor
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec
from jmsnas.deploy.transport.message import Nanoseconds
from jmsnas.deploy.transport.responses import ResponseError, malformed
from jmsnas.deploy.transport.strict_json import decode_with
from jmsnas.errors import FrameError

MAX_SPANS, MAX_NAME_LENGTH = 24, 64
# Two clocks count the same seconds to within far less than this share, and this time.
_CLOCK_SHARE, _CLOCK_S = 0.01, 1e-3


class DeviceSpan(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Trace of a request on one device; times in ns of that device's monotonic clock."""

    device: Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
    received_ns: Nanoseconds
    started_ns: Nanoseconds
    ended_ns: Nanoseconds


_TRAIL = msgspec.json.Decoder(Annotated[tuple[DeviceSpan, ...], Meta(max_length=MAX_SPANS)])


class RunResponse(msgspec.Struct, frozen=True, gc=False):
    """Output of a plan for one request: its trace, one span a device, its shape, and its float32 bytes."""

    trail: tuple[DeviceSpan, ...]
    shape: tuple[int, ...]
    body: bytes | memoryview


class ExpectedResponse(msgspec.Struct, frozen=True, gc=False):
    """Response that a request must have.

    Attributes
    ----------
    id, epoch
        Of the request.
    trail
        Names of the devices, that of the one which responds first.
    shape
        Shape of the output of the plan.
    longest_s
        Seconds since the request was sent, which no device can have exceeded.
    """

    id: bytes
    epoch: int
    trail: tuple[str, ...]
    shape: tuple[int, ...]
    longest_s: float = math.inf

    @property
    def size_bytes(self) -> int:
        """Bytes of its output."""
        return 4 * math.prod(self.shape)


def response_frame(response: RunResponse, call: int, epoch: int, request_id: bytes) -> Frame:
    """Encode a response as the frame that answers `call`."""
    tensor, text = TensorSpec("f4", response.shape), msgspec.json.encode(response.trail)
    return Frame(Kind.RESULT, call, epoch, request_id, 0.0, 0, (tensor,), text, response.body)


def parse_run_response(frame: Frame, expected: ExpectedResponse) -> tuple[RunResponse, Float32Array]:
    """Parse the response to a request; return it, and the output as an array.

    Raises ResponseError, one line with the name of the device that responded, for any other response.
    """
    device = expected.trail[0]
    if frame.kind is not Kind.RESULT or len(frame.tensors) != 1:
        raise malformed(device, "Run", f"a frame of kind {frame.kind} with {len(frame.tensors)} tensors")
    if (frame.id, frame.epoch) != (expected.id, expected.epoch):
        raise ResponseError(
            f"device {device}: a response to a different request: got request {frame.id.hex()[:8]} of plan "
            f"{frame.epoch}, expected {expected.id.hex()[:8]} of plan {expected.epoch}"
        )
    (tensor,) = frame.tensors
    if tensor != TensorSpec("f4", expected.shape) or frame.body is None:
        shapes = f"{tensor.dtype} of shape {tensor.shape}: expected f4 of shape {expected.shape}"
        raise malformed(device, "Run", f"an output in {shapes}")
    try:
        trail = decode_with(_TRAIL, frame.text, FrameError, "the trail of a response")
    except FrameError as error:
        raise malformed(device, "Run", str(error)) from None
    names = tuple([span.device for span in trail])
    if names != expected.trail:
        shown = ", ".join(names) or "none"
        raise malformed(device, "Run", f"a trail of {shown}: expected {', '.join(expected.trail)}")
    longest_ns = 1e9 * (expected.longest_s * (1 + _CLOCK_SHARE) + _CLOCK_S)
    for span in trail:
        if not span.received_ns <= span.started_ns <= span.ended_ns:
            raise malformed(device, "Run", f"times of device {span.device} out of order")
        if (spent_ns := span.ended_ns - span.received_ns) > longest_ns:
            fault = f"{1e-9 * spent_ns:.3g} s on device {span.device}: expected at most the"
            raise malformed(device, "Run", f"{fault} {expected.longest_s:.3g} s that the request took")
    output = decode_tensor(tensor, frame.body)
    if not is_finite(output):
        raise malformed(device, "Run", "an output with a number that is not finite: expected finite numbers")
    return RunResponse(trail, tensor.shape, frame.body), output


def is_finite(x: Float32Array) -> bool:
    """Return whether all numbers of a tensor are finite."""
    # As `.all()`, which is a function of Python.
    return bool(np.logical_and.reduce(np.isfinite(x), axis=None))
