import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import jmsnas
from jmsnas.errors import DeployError, InputError

X = np.zeros((1, 1, 8, 8), np.float32)
SERVER = b'{"models": ["m"]}'
LOGITS = b'{"outputs": [{"shape": [1, 2]}]}'


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that answers one request a connection, and closes it without saying so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                with listening.accept()[0] as raw:
                    request = raw.recv(1 << 16)
                    while b"\r\n\r\n" not in request:
                        request += raw.recv(1 << 16)
                    raw.sendall(answer)
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(1 << 16):  # until the client has closed it
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def logits(length: int = len(LOGITS)) -> bytes:
    body = LOGITS + np.array([1.5, -2.0], np.float32).tobytes()
    return answer(body, headers=f"Inference-Header-Content-Length: {length}\r\n")


def test_a_connection_that_the_server_has_closed_is_opened_again() -> None:
    with answering(answer(SERVER), logits(), logits()) as url, jmsnas.Client(url) as client:
        for _ in range(2):
            assert client.infer(X).tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize(
    ("second", "kind", "error"),
    [
        (answer(b'{"error": "no\\nplace"}', "503 Busy"), DeployError, "answered 503: no place"),
        (answer(b'{"error": "wrong"}', "400 Bad"), InputError, "answered 400: wrong"),
        (answer(b"<html>", "502 Bad"), DeployError, "answered 502: no reason given"),
        (answer(b"hello"), DeployError, "answered with b'hello': expected logits, by the Open Inference"),
        (answer(b"[" * 100_000), DeployError, "expected logits, by the Open Inference Protocol"),
        (logits(3), DeployError, "expected logits, by the Open Inference Protocol"),
        (b"\0\0 no HTTP\r\n\r\n", DeployError, "cannot reach http"),
    ],
)
def test_other_answers_are_one_line(second: bytes, kind: type[Exception], error: str) -> None:
    with (
        answering(answer(SERVER), second) as url,
        jmsnas.Client(url) as client,
        pytest.raises(kind, match=error) as caught,
    ):
        client.infer(X)
    assert str(caught.value).isprintable()


def test_another_server_is_one_line() -> None:
    for body in (b"[]", b'{"models": []}', b"<html>"):
        with (
            answering(answer(body)) as url,
            jmsnas.Client(url) as client,
            pytest.raises(
                DeployError, match="expected the server of one model, by the Open Inference Protocol"
            ),
        ):
            client.infer(X)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(
            DeployError, match=r"cannot reach .*: Connection refused. Is jmsnas serve running"
        ):
            jmsnas.Client(url).infer(X)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://a", "http://", "http://a:x", "http://a/v2", "http://[a"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="expected one such as http://127.0.0.1:8000"):
        jmsnas.Client(url)


def test_certificates_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot use certificates .*none: .*Expected a file in PEM"):
        jmsnas.Client("https://a", ca=tmp_path / "none")


def test_the_client_loads_no_torch() -> None:
    code = (
        "import sys, jmsnas; jmsnas.Client('http://a'); print({'torch', 'scipy', 'grpc'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
