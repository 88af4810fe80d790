"""Response to an inference request, checked by every device on its way and by the leader.

It must belong to the request and the plan, hold the output that the plan promises (float32, its shape,
finite), and list the devices that the plan names, in their order.
"""

import math
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import Float32Array
from jmsnas.deploy.transport.encoding import decode_tensor
from jmsnas.deploy.transport.frame import DeviceSpan, TensorHeader, unpack_tensor
from jmsnas.deploy.transport.responses import ResponseError, malformed
from jmsnas.errors import FrameError

# Two clocks count the same seconds to within far less than this share, and this time.
_CLOCK_SHARE, _CLOCK_S = 0.01, 1e-3


@dataclass(frozen=True, slots=True)
class ExpectedResponse:
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

    id: str
    epoch: int
    trail: tuple[str, ...]
    shape: tuple[int, ...]
    longest_s: float = math.inf


def parse_run_response(
    message: bytes, expected: ExpectedResponse
) -> tuple[TensorHeader, memoryview, Float32Array]:
    """Parse the response to a request; return its header, its body, and the output.

    Raises ResponseError, one line with the name of the device that responded, for any other response.
    """
    device = expected.trail[0]
    try:
        header, body = unpack_tensor(message)
    except FrameError as error:
        raise malformed(device, "Run", str(error)) from None
    if (header.id, header.epoch) != (expected.id, expected.epoch):
        raise ResponseError(
            f"device {device}: a response to a different request: got request {header.id[:8]} of plan "
            f"{header.epoch}, expected {expected.id[:8]} of plan {expected.epoch}"
        )
    if (header.dtype, header.scale, header.zero) != ("f4", 1.0, 0.0) or header.shape != expected.shape:
        shapes = f"{header.dtype} of shape {header.shape}: expected f4 of shape {expected.shape}"
        raise malformed(device, "Run", f"an output in {shapes}")
    names = tuple(span.device for span in header.trail)
    if names != expected.trail:
        shown = ", ".join(names) or "none"
        raise malformed(device, "Run", f"a trail of {shown}: expected {', '.join(expected.trail)}")
    for span in header.trail:
        _check_span(span, device, expected.longest_s)
    output = decode_tensor(header, body)
    if not is_finite(output):
        raise malformed(device, "Run", "an output with a number that is not finite: expected finite numbers")
    return header, body, output


def is_finite(x: Float32Array) -> bool:
    """Return whether all numbers of a tensor are finite; the sum, which is faster, is tried first."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x.sum()) or np.isfinite(x).all())


def _check_span(span: DeviceSpan, device: str, longest_s: float) -> None:
    """Raise ResponseError for times of a device out of order, or longer than the request took."""
    if not span.received_ns <= span.started_ns <= span.ended_ns:
        raise malformed(device, "Run", f"times of device {span.device} out of order")
    spent_s = (span.ended_ns - span.received_ns) * 1e-9
    if spent_s > longest_s * (1 + _CLOCK_SHARE) + _CLOCK_S:
        fault = f"{spent_s:.3g} s on device {span.device}: expected at most the {longest_s:.3g} s"
        raise malformed(device, "Run", f"{fault} that the request took")
