"""HTTP application of a served model: the Open Inference Protocol, images, and Prometheus metrics."""

import asyncio
import hmac
import time
from importlib.metadata import version
from typing import Any

import grpc
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from jmsnas.datasets.preprocessing import preprocess_image
from jmsnas.deploy.leader.agent_client import DeviceLostError, DeviceRefusedError
from jmsnas.deploy.serve.inference_queue import InferenceQueue, QueueFullError
from jmsnas.deploy.serve.metrics import ServeMetrics
from jmsnas.deploy.serve.open_inference import InferenceRequest, ServedModel, encode_response, parse_request
from jmsnas.errors import DatasetError, DeployError, FrameError

# Longest time of a request, from its headers to its answer.
DEADLINE_S = 10.0
MAX_IMAGE_BYTES = 8 << 20
_IMAGE_TYPES = ("image/jpeg", "image/png")
_LENGTH_HEADER = "Inference-Header-Content-Length"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_app(
    model: ServedModel, dataset: str, queue: InferenceQueue, metrics: ServeMetrics, token: str = ""
) -> Starlette:
    """Make the application of a model.

    `dataset` names the preprocessing of images. A `token` that is not empty must be sent, as
    `Authorization: Bearer TOKEN`, with every request but those for the health of the server.
    """
    own = _Endpoints(model, dataset, queue, metrics, token)
    routes = [
        Route("/v2", own.server),
        Route("/v2/health/live", own.live),
        Route("/v2/health/ready", own.ready),
        Route("/v2/models/{model}", own.metadata),
        Route("/v2/models/{model}/ready", own.model_ready),
        Route("/v2/models/{model}/infer", own.infer, methods=["POST"]),
        Route("/metrics", own.metrics_text),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _error_response})


class _Endpoints:
    """Endpoints of one model."""

    def __init__(
        self, model: ServedModel, dataset: str, queue: InferenceQueue, metrics: ServeMetrics, token: str
    ) -> None:
        self._model, self._dataset, self._queue, self._metrics = model, dataset, queue, metrics
        self._token = token.encode()
        # One image is decoded at a time: bounds the memory of pixels.
        self._decoding = asyncio.Lock()

    async def live(self, request: Request) -> Response:
        return Response()

    async def ready(self, request: Request) -> Response:
        return Response(status_code=200 if await asyncio.to_thread(self._queue.ready) else 503)

    async def server(self, request: Request) -> Response:
        self._check_token(request)
        document = {"name": "jmsnas", "version": version("jmsnas"), "extensions": ["binary_tensor_data"]}
        return JSONResponse({**document, "models": [self._model.name]})

    async def metadata(self, request: Request) -> Response:
        self._check_token(request)
        self._check_model(request)
        return JSONResponse(self._model.metadata())

    async def model_ready(self, request: Request) -> Response:
        self._check_token(request)
        self._check_model(request)
        return await self.ready(request)

    async def metrics_text(self, request: Request) -> Response:
        self._check_token(request)
        return PlainTextResponse(self._metrics.text(), media_type=_METRICS_TYPE)

    async def infer(self, request: Request) -> Response:
        """Answer an inference request, or fail it with a status code, within the deadline."""
        began_s = time.monotonic()
        try:
            response = await self._infer(request)
        except HTTPException as error:
            response = await _error_response(request, error)
        except (FrameError, DatasetError, DeployError, TimeoutError, ClientDisconnect) as error:
            response = await _error_response(request, http_error(error))
        self._metrics.count(response.status_code, time.monotonic() - began_s)
        return response

    async def _infer(self, request: Request) -> Response:
        self._check_token(request)
        self._check_model(request)
        # The event loop's clock is the monotonic clock.
        async with asyncio.timeout(DEADLINE_S) as limit:
            with self._queue.place():
                began_s, ends_s = time.monotonic(), limit.when()
                assert ends_s is not None
                inference = await self._parse(request)
                if inference.timeout_s:
                    ends_s = min(ends_s, began_s + inference.timeout_s)
                    limit.reschedule(ends_s)
                found = await self._queue.infer(inference.x, ends_s)
        body, length = encode_response(self._model, found.logits, found.epoch, inference.id, inference.binary)
        if length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_LENGTH_HEADER: str(length)})

    async def _parse(self, request: Request) -> InferenceRequest:
        """Read and parse the body. Raises FrameError, DatasetError, HTTPException."""
        coding = request.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise HTTPException(415, f"the body has Content-Encoding {coding!r:.40}: expected none")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _IMAGE_TYPES:
            content = await _read_body(request, MAX_IMAGE_BYTES)
            shape: Any = self._model.input_shape[1:]
            async with self._decoding:
                x = await asyncio.to_thread(preprocess_image, content, self._dataset, shape)
            return InferenceRequest(x, "", False, 0.0)
        body = await _read_body(request, self._model.max_request_bytes)
        return parse_request(self._model, body, request.headers.get(_LENGTH_HEADER))

    def _check_token(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # In constant time.
        if self._token and not (
            hmac.compare_digest(token.encode(), self._token) and scheme.lower() == "bearer"
        ):
            text = "expected the header Authorization: Bearer TOKEN with the token of this server"
            raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})

    def _check_model(self, request: Request) -> None:
        name = request.path_params["model"]
        if name != self._model.name:
            raise HTTPException(404, f"unknown model {name!r:.80}: expected {self._model.name}")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Read a body. Raises HTTPException (413) for a larger one, without reading more of it."""
    chunks, size = list[bytes](), int(request.headers.get("content-length", "0"))
    if size <= max_bytes:
        size = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                break
    if size > max_bytes:
        raise HTTPException(413, f"the body has {size} bytes or more: expected at most {max_bytes}")
    return b"".join(chunks)


def http_error(error: Exception) -> HTTPException:
    """Return the status code and the text of a request that failed."""
    if isinstance(error, ClientDisconnect):
        return HTTPException(400, "the connection ended before the body")
    code = _status_code(error)
    text = str(error) or f"no answer within the deadline, {DEADLINE_S:g} s or the timeout of the request"
    return HTTPException(code, " ".join(text.split()), {"Retry-After": "1"} if code == 503 else None)


def _status_code(error: Exception) -> int:
    if isinstance(error, FrameError | DatasetError):
        return 400
    status = error.code if isinstance(error, DeviceLostError | DeviceRefusedError) else None
    if isinstance(error, TimeoutError) or status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return 504
    busy = (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,  # the plan of another leader
    )
    return 503 if isinstance(error, QueueFullError) or status in busy else 502


async def _error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
