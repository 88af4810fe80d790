"""Messages of the Open Inference Protocol, version 2: JSON, and its binary tensor data extension.

A request has one image, `image`, and its response the logits, `logits`, both float32 (FP32). With the
extension, the header Inference-Header-Content-Length has the bytes of the JSON at the beginning of the body,
and the little-endian bytes of the tensors follow.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from jmsnas.arrays import Float32Array
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import FrameError

INPUT, OUTPUT, DATATYPE = "image", "logits", "FP32"
# Bytes of the JSON of a request without numbers, and of one number in it.
MAX_HEADER_BYTES, _NUMBER_BYTES = 64 << 10, 32
_FLOAT32 = np.dtype("<f4")


class _Tensor(msgspec.Struct):
    name: Annotated[str, Meta(max_length=256)]
    datatype: Annotated[str, Meta(max_length=64)]
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=1 << 32)]], Meta(max_length=16)]
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: Annotated[str, Meta(max_length=256)]
    parameters: dict[str, Any] = {}


class _Parameters(msgspec.Struct):
    """Parameters of a request that have a meaning here; others are ignored, as the protocol asks."""

    binary_data_output: bool = False
    # Microseconds, as of Triton; 0 for none.
    timeout: Annotated[int, Meta(ge=0, le=1 << 62)] = 0


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Tensor], Meta(max_length=8)]
    id: Annotated[str, Meta(max_length=256)] = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)
    outputs: Annotated[list[_Output], Meta(max_length=8)] = []


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request: image (1, C, H, W), id, whether its answer is binary, time limit in seconds (0: none)."""

    x: Float32Array
    id: str
    binary: bool
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A served model: its name, and the shapes of its input (1, C, H, W) and of its output."""

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def max_request_bytes(self) -> int:
        """Largest body of a request, with its numbers as text."""
        return MAX_HEADER_BYTES + _NUMBER_BYTES * math.prod(self.input_shape)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata document of the protocol."""
        inputs = {"name": INPUT, "datatype": DATATYPE, "shape": self.input_shape}
        outputs = {"name": OUTPUT, "datatype": DATATYPE, "shape": self.output_shape}
        return {"name": self.name, "platform": "jmsnas", "inputs": [inputs], "outputs": [outputs]}


def parse_request(model: ServedModel, body: bytes, header_length: str | None) -> InferenceRequest:
    """Parse the body of a request; `header_length` is its Inference-Header-Content-Length, if it has one.

    Raises FrameError, one line, for a request that is malformed or not one for the model.
    """
    length = len(body) if header_length is None else _header_bytes(header_length, len(body))
    request = decode_json(memoryview(body)[:length], _Request, FrameError, "the request")
    if len(request.inputs) != 1:
        raise FrameError(f"the request has {len(request.inputs)} inputs: expected 1, {INPUT}")
    (tensor,) = request.inputs
    _check_input(model, tensor)
    size_bytes = tensor.parameters.get("binary_data_size")
    if size_bytes is None:
        if length != len(body):
            raise FrameError(
                f"{len(body) - length} bytes follow the JSON: expected the binary_data_size of {INPUT}"
            )
        x = _json_numbers(tensor)
    else:
        expected_bytes = 4 * math.prod(model.input_shape)
        if not size_bytes == len(body) - length == expected_bytes:
            raise FrameError(
                f"binary_data_size is {size_bytes!r:.40}, and {len(body) - length} bytes follow the JSON: "
                f"expected {expected_bytes} of both"
            )
        x = np.frombuffer(body, _FLOAT32, offset=length).astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise FrameError(f"{INPUT} has a number that is not finite: expected finite float32 numbers")
    timeout_s = request.parameters.timeout * 1e-6
    return InferenceRequest(x.reshape(model.input_shape), request.id, _binary_output(request), timeout_s)


def _header_bytes(text: str, body_bytes: int) -> int:
    """Parse the header Inference-Header-Content-Length. Raises FrameError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= body_bytes):
        raise FrameError(
            f"Inference-Header-Content-Length is {text!r:.40}: expected a number up to {body_bytes}, the "
            "bytes of the body"
        )
    if int(text) > MAX_HEADER_BYTES:
        raise FrameError(f"the JSON before the tensors has {text} bytes: expected at most {MAX_HEADER_BYTES}")
    return int(text)


def _check_input(model: ServedModel, tensor: _Tensor) -> None:
    if tensor.name != INPUT:
        raise FrameError(f"the request has input {tensor.name!r:.80}: expected {INPUT!r}")
    if tensor.datatype != DATATYPE:
        raise FrameError(f"{INPUT} has datatype {tensor.datatype!r}: expected {DATATYPE}")
    if tuple(tensor.shape) != model.input_shape:
        raise FrameError(
            f"{INPUT} has shape {tensor.shape}: expected {[*model.input_shape]}, one image a request"
        )
    _refuse_parameters(tensor.parameters, "binary_data_size", INPUT)


def _refuse_parameters(parameters: dict[str, Any], known: str, where: str) -> None:
    for name in parameters.keys() - {known}:
        raise FrameError(
            f"{where} has parameter {name!r:.80}, which is not supported: expected {known} or none"
        )


def _json_numbers(tensor: _Tensor) -> Float32Array:
    """Decode the numbers of a tensor, in one list or in nested lists of its shape. Raises FrameError."""
    count, text = math.prod(tensor.shape), memoryview(tensor.data)
    if not text:
        raise FrameError(f"{INPUT} has neither data nor binary_data_size: expected one of them")
    nested: Any = float
    for _ in tensor.shape:
        nested = list[nested]
    try:
        numbers: Any = msgspec.json.decode(text, type=list[float])
    except (ValueError, RecursionError):
        numbers = decode_json(text, nested, FrameError, f"data of {INPUT}")
    try:
        with np.errstate(over="ignore"):
            x: Float32Array = np.array(numbers, np.float32)
    except ValueError:
        raise FrameError(
            f"data of {INPUT} has lists of unlike lengths: expected shape {tensor.shape}"
        ) from None
    if x.size != count or x.shape not in ((count,), tuple(tensor.shape)):
        raise FrameError(
            f"data of {INPUT} has shape {[*x.shape]}: expected {tensor.shape}, or {count} numbers"
        )
    return x


def _binary_output(request: _Request) -> bool:
    """Return whether the logits are sent as bytes. Raises FrameError for outputs that the model has not."""
    binary: Any = request.parameters.binary_data_output
    for output in request.outputs:
        if output.name != OUTPUT:
            raise FrameError(f"the request asks for output {output.name!r:.80}: expected {OUTPUT!r}")
        _refuse_parameters(output.parameters, "binary_data", OUTPUT)
        binary = output.parameters.get("binary_data", binary)
    if not isinstance(binary, bool):
        raise FrameError(f"binary_data of {OUTPUT} is {binary!r:.40}: expected true or false")
    return binary


def encode_response(
    model: ServedModel, logits: Float32Array, epoch: int, request_id: str, binary: bool
) -> tuple[bytes, int | None]:
    """Encode a response; return its body, and the bytes of its JSON if the logits follow as bytes.

    `epoch` is the number of the plan that computed the logits: parameter `epoch` of the response.
    """
    output: dict[str, Any] = {"name": OUTPUT, "datatype": DATATYPE, "shape": logits.shape}
    content = np.ascontiguousarray(logits, _FLOAT32).tobytes() if binary else b""
    output |= (
        {"parameters": {"binary_data_size": len(content)}} if binary else {"data": logits.ravel().tolist()}
    )
    document = {"model_name": model.name, "parameters": {"epoch": epoch}, "outputs": [output]}
    text = msgspec.json.encode({"id": request_id, **document} if request_id else document)
    return text + content, len(text) if binary else None
