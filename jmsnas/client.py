"""Client of `jmsnas serve`: send an image, receive its logits, over one HTTP connection."""

import http.client
import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import numpy as np

from jmsnas.arrays import Float32Array
from jmsnas.errors import DeployError, InputError
from jmsnas.streams import printable

_LENGTH_HEADER = "Inference-Header-Content-Length"
_MAX_RESPONSE_BYTES = 16 << 20
_FLOAT32 = np.dtype("<f4")
_MALFORMED = (ValueError, LookupError, TypeError, RecursionError)


class Client:
    """Client of a served model, for one thread; a context manager that closes its connection.

    Parameters
    ----------
    url
        Address of the server, such as `http://127.0.0.1:8000`.
    token
        Bearer token, where the server requires one.
    ca
        PEM file of the certificates that https trusts. None: those of the system.
    timeout_s
        Seconds to wait for the network.

    Raises
    ------
    InputError
        For a URL or file that cannot be used, and for an image that the server refuses.
    DeployError
        When the server cannot be reached, or does not answer the request.

    Examples
    --------
    >>> import jmsnas, numpy as np
    >>> with jmsnas.Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     logits = client.infer(np.zeros((1, 1, 8, 8), np.float32))
    """

    def __init__(self, url: str, *, token: str = "", ca: Path | None = None, timeout_s: float = 10.0) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
            raise InputError(f"got URL {url!r}: expected one such as http://127.0.0.1:8000")
        self._url, self._headers = url.rstrip("/"), {"Authorization": f"Bearer {token}"} if token else {}
        self._connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout_s, context=_tls_context(ca))
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout_s)
        )
        self._model = ""

    def infer(self, x: Float32Array) -> Float32Array:
        """Return the logits, (1, classes) float32, of a preprocessed image, (1, channels, height, width)."""
        if not self._model:
            self._model = self._served_model()
        content = np.ascontiguousarray(x, _FLOAT32).tobytes()
        tensor = {"name": "image", "datatype": "FP32", "shape": [*np.shape(x)]}
        document = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(content)}}],
            "parameters": {"binary_data_output": True},
        }
        head = json.dumps(document).encode()
        path = f"/v2/models/{quote(self._model, safe='')}/infer"
        body, length = self._request("POST", path, head + content, {_LENGTH_HEADER: str(len(head))})
        return self._logits(body, length)

    def _served_model(self) -> str:
        body, _ = self._request("GET", "/v2", b"", {})
        try:
            (name,) = json.loads(body)["models"]
        except _MALFORMED as error:
            raise self._malformed(body, "the server of one model") from error
        return str(name)

    def _logits(self, body: bytes, length: str) -> Float32Array:
        try:
            count = int(length)
            (output,) = json.loads(body[:count])["outputs"]
            logits: Float32Array = np.frombuffer(body, _FLOAT32, offset=count).reshape(output["shape"])
        except _MALFORMED as error:
            raise self._malformed(body, "logits") from error
        return logits.astype(np.float32, copy=False)

    def _malformed(self, body: bytes, expected: str) -> DeployError:
        return DeployError(
            f"{self._url} answered with {body[:40]!r}: expected {expected}, by the Open Inference Protocol"
        )

    def _request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, str]:
        """Send a request; return the body of the answer, and its Inference-Header-Content-Length."""
        # The server may have closed a connection that was not used for a minute.
        reused = self._connection.sock is not None
        try:
            self._connection.request(method, path, body, {**self._headers, **headers})
            response = self._connection.getresponse()
            content = response.read(_MAX_RESPONSE_BYTES)
        except ConnectionError as error:
            self.close()
            if not reused:
                raise self._unreachable(error) from error
            return self._request(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error
        if response.status != 200:
            raise self._refused(response.status, content)
        return content, response.headers.get(_LENGTH_HEADER, "")

    def _unreachable(self, error: Exception) -> DeployError:
        reason = getattr(error, "strerror", "") or str(error) or type(error).__name__
        return DeployError(f"cannot reach {self._url}: {_one_line(reason)}. Is jmsnas serve running there?")

    def _refused(self, status: int, content: bytes) -> DeployError | InputError:
        try:
            text = _one_line(str(json.loads(content)["error"]))
        except _MALFORMED:
            text = "no reason given"
        return (InputError if status < 500 else DeployError)(f"{self._url} answered {status}: {text}")

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))[:1000]


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot use certificates {ca}: {error}. Expected a file in PEM") from error
