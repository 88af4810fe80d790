import io
import json
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.http as triton
import trustme
from deployments import start_agent
from msgspec.structs import astuple
from PIL import Image
from served_models import INFER, Planned, error_of, exchange, json_request, served
from starlette.requests import ClientDisconnect

import jmsnas
from jmsnas.deploy.leader.agent_client import DeviceLostError, DeviceRefusedError
from jmsnas.deploy.serve.http_app import http_error
from jmsnas.deploy.serve.http_server import HttpOptions
from jmsnas.deploy.serve.inference_queue import QueueFullError
from jmsnas.deploy.serve.metrics import ServeMetrics
from jmsnas.deploy.transport.channel import MAX_QUEUED
from jmsnas.deploy.transport.responses import malformed
from jmsnas.deploy.transport.run_response import DeviceSpan
from jmsnas.errors import DatasetError, FrameError

IMAGE = np.zeros((1, 1, 8, 8), np.float32)


def test_tritonclient_gets_the_logits_of_the_undivided_model(one: Planned, address: str) -> None:
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("short")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    (tensor,) = client.get_model_metadata("short")["inputs"]
    for n, binary in ((0, True), (1, False)):
        image = triton.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        image.set_data_from_numpy(one.images[n : n + 1], binary_data=binary)
        wanted = triton.InferRequestedOutput("logits", binary_data=binary)
        for outputs in (None, [wanted]):
            found = client.infer("short", [image], outputs=outputs, request_id="7", timeout=9_000_000)
            np.testing.assert_allclose(found.as_numpy("logits"), one.logits[n : n + 1], atol=1e-4)
            assert found.get_response()["id"] == "7"
            assert found.get_response()["parameters"] == {"epoch": one.deployment.leader.epoch}
    client.close()


def test_json_as_of_curl(one: Planned, address: str) -> None:
    status, headers, body = exchange(address, "POST", INFER, json_request(one.images[2:3]))
    (output,) = json.loads(body)["outputs"]
    assert (status, headers["content-type"], output["shape"]) == (200, "application/json", [1, 10])
    np.testing.assert_allclose([output["data"]], one.logits[2:3], atol=1e-4)


def test_client_of_jmsnas(one: Planned, address: str) -> None:
    with jmsnas.Client(f"http://{address}") as client:
        for n in range(4):
            logits = client.infer(one.images[n : n + 1])
            assert logits.shape == (1, 10) and logits.dtype == np.float32
            np.testing.assert_allclose(logits, one.logits[n : n + 1], atol=1e-4)
        with pytest.raises(jmsnas.JmsnasError, match=r"answered 400: image has shape \[2, 1, 8, 8\]"):
            client.infer(one.images[:2])
        client.infer(one.images[:1])


def test_an_image_file_is_preprocessed_as_the_data_set(one: Planned, address: str) -> None:
    grey = np.rint((one.images[0, 0] + 1) / 2 * 255).astype(np.uint8)
    run = one.deployment.run
    for kind in ("png", "jpeg"):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, kind, quality=100)
        headers = {"Content-Type": f"image/{kind}"}
        status, _, body = exchange(address, "POST", INFER, file.getvalue(), headers)
        assert status == 200
        logits = np.array(json.loads(body)["outputs"][0]["data"])
        # Levels are rounded, in JPEG more: the logits are near those of the image itself.
        np.testing.assert_allclose(logits, one.logits[0], atol=0.5)
        assert int(logits.argmax()) == int(one.logits[0].argmax()), run.name
    wrong = exchange(address, "POST", INFER, b"no image", {"Content-Type": "image/png"})
    assert wrong[0] == 400 and "it is none of JPEG, PNG" in error_of(wrong[2])


def test_documents_of_the_protocol(address: str) -> None:
    assert json.loads(exchange(address, "GET", "/v2")[2])["models"] == ["short"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/short/ready"):
        assert exchange(address, "GET", path)[::2] == (200, b"")
    status, _, body = exchange(address, "GET", "/v2/models/other")
    assert status == 404 and error_of(body) == "unknown model 'other': expected short"
    for method, path, expected in (("GET", INFER, 405), ("POST", "/v2", 405), ("GET", "/", 404)):
        status, _, body = exchange(address, method, path)
        assert status == expected and error_of(body)


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"\xff" * 100, {}, 400, "the request is not valid"),
        (json_request(IMAGE, shape=[1, 8, 8]), {}, 400, "expected [1, 1, 8, 8], one image a request"),
        (json_request(IMAGE, data=[]), {}, 400, "data of image has shape [0]"),
        (json_request(IMAGE), {"Inference-Header-Content-Length": "1e3"}, 400, "'1e3': expected a number"),
        (json_request(IMAGE), {"Content-Encoding": "gzip"}, 415, "Content-Encoding 'gzip': expected none"),
        (b" " * (1 << 20), {}, 413, "expected at most"),
        (b"0" * ((8 << 20) + 1), {"Content-Type": "image/png"}, 413, "expected at most 8388608"),
    ],
)
def test_malformed_requests_get_a_code_and_one_line(
    address: str, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    found = exchange(address, "POST", INFER, body, headers)
    assert found[0] == status and error in error_of(found[2])


def test_a_body_without_declared_length_is_bounded(address: str) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with socket.create_connection(_pair(address), 10) as raw:
        raw.sendall(head + b"10000\r\n" + b" " * 0x10000 + b"\r\n" + b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_huge_headers_end_the_connection(address: str) -> None:
    with socket.create_connection(_pair(address), 10) as raw:
        raw.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (1 << 17))
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)


def test_a_full_queue_is_503_until_a_place_is_free(one: Planned, address: str) -> None:
    body = json_request(one.images[:1])
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with ExitStack() as stack:
        waiting = []
        for _ in range(MAX_QUEUED):
            raw = stack.enter_context(socket.create_connection(_pair(address), 10))
            # A place is taken before the body is read. The server asks for it when it reads it.
            raw.sendall(head.replace(b"Host", b"Expect: 100-continue\r\nHost"))
            assert raw.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
            waiting.append(raw)
        status, headers, refused = exchange(address, "POST", INFER, body)
        assert (status, headers["retry-after"]) == (503, "1")
        assert "8 requests wait already: send fewer requests, or later" in error_of(refused)
        for raw in waiting:
            raw.sendall(body)
        for raw in waiting:
            assert raw.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert exchange(address, "POST", INFER, body)[0] == 200


def test_metrics_count_requests_terms_and_the_plan(one: Planned, address: str) -> None:
    with jmsnas.Client(f"http://{address}") as client:
        before = _metrics(address)
        for _ in range(3):
            client.infer(one.images[:1])
    exchange(address, "POST", INFER, b"{}")
    after = _metrics(address)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown('jmsnas_requests_total{code="200"}') == 3 and grown('jmsnas_requests_total{code="400"}') == 1
    assert grown("jmsnas_latency_seconds_count") == 3 and grown("jmsnas_request_seconds_count") == 4
    assert after["jmsnas_plan_epoch"] == one.deployment.leader.epoch
    split = one.deployment.planned
    assert split is not None and after["jmsnas_predicted_latency_seconds"] == split.latency_s
    # T of a chain is the sum of its terms.
    terms = [name for name in after if name.startswith("jmsnas_term_seconds_sum")]
    assert len(terms) == 2 * len(split.part_specs) + len(split.part_specs) - 1
    assert sum(map(grown, terms)) == pytest.approx(grown("jmsnas_latency_seconds_sum"), rel=1e-6)


def _metrics(address: str) -> dict[str, float]:
    text = exchange(address, "GET", "/metrics")[2].decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_request_past_its_own_deadline_is_504(address: str) -> None:
    body = json_request(IMAGE).replace(b'{"inputs"', b'{"parameters": {"timeout": 1}, "inputs"')
    status, _, answer = exchange(address, "POST", INFER, body)
    assert status == 504 and ("deadline" in error_of(answer))


def test_tls_and_token(one: Planned, tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    certificate, key, ca, token = (
        tmp_path / "cert.pem",
        tmp_path / "key.pem",
        tmp_path / "ca.pem",
        "0123456789abcdef",
    )
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    key.chmod(0o600)
    options = HttpOptions("127.0.0.1", 0, certificate, key, token)
    with served(one.deployment, options) as url:
        assert url.startswith("https://")
        with jmsnas.Client(url, token=token, ca=ca) as client:
            np.testing.assert_allclose(client.infer(one.images[:1]), one.logits[:1], atol=1e-4)
        for wrong in ("", "0123456789abcdeF", token + "0", "\u00e4" * 16):
            with (
                jmsnas.Client(url, token=wrong, ca=ca) as client,
                pytest.raises(jmsnas.JmsnasError, match="answered 401: expected the header Authorization"),
            ):
                client.infer(one.images[:1])
        with (
            jmsnas.Client(url, token=token) as client,
            pytest.raises(jmsnas.JmsnasError, match="CERTIFICATE"),
        ):
            client.infer(one.images[:1])


def test_without_the_token_only_the_health_is_answered(one: Planned) -> None:
    with served(one.deployment, HttpOptions(port=0, token="0123456789abcdef")) as url:
        address = url.removeprefix("http://")
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert exchange(address, "GET", path)[0] == 200
        for method, path in (
            ("GET", "/v2"),
            ("GET", "/v2/models/short"),
            ("GET", "/v2/models/short/ready"),
            ("POST", INFER),
            ("GET", "/metrics"),
        ):
            for header in ({}, {"Authorization": "Basic 0123456789abcdef"}):
                status, headers, body = exchange(address, method, path, b"", header)
                assert (status, headers["www-authenticate"]) == (401, "Bearer") and error_of(body)


def test_requests_in_flight_are_answered_when_the_server_stops(one: Planned) -> None:
    body = json_request(one.images[:1])
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    server = ExitStack()
    pair = _pair(server.enter_context(served(one.deployment, HttpOptions(port=0))).removeprefix("http://"))
    with socket.create_connection(pair, 10) as raw:
        raw.sendall(head.encode())
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        stopping = threading.Thread(target=server.close)
        stopping.start()
        while _accepts(pair):
            time.sleep(0.01)
        raw.sendall(body)
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        stopping.join()


def _accepts(pair: tuple[str, int]) -> bool:
    try:
        socket.create_connection(pair, 10).close()
    except OSError:
        return False
    return True


def test_a_lost_device_is_503_until_it_is_back(one: Planned) -> None:
    body, agents = json_request(one.images[:1]), one.fleet.agents
    with served(one.deployment, HttpOptions(port=0)) as url:
        address, where = url.removeprefix("http://"), agents["jetson"].address
        agents["jetson"].stop(0)
        status, headers, answer = exchange(address, "POST", INFER, body)
        assert (status, headers["retry-after"]) == (503, "1") and "device jetson" in error_of(answer)
        assert exchange(address, "GET", "/v2/health/ready")[0] == 503
        assert exchange(address, "GET", "/v2/health/live")[0] == 200
        agents["jetson"], _ = start_agent(one.fleet.folder, "jetson", listen=where)
        ends_s = time.monotonic() + 30
        while (answered := exchange(address, "POST", INFER, body))[0] == 503 and time.monotonic() < ends_s:
            time.sleep(0.1)
        assert answered[0] == 200


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceLostError("pi4", "x"), 503),
        (DeviceLostError("pi4", "x", grpc.StatusCode.DEADLINE_EXCEEDED), 504),
        (DeviceRefusedError("x", grpc.StatusCode.RESOURCE_EXHAUSTED), 503),
        (DeviceRefusedError("x", grpc.StatusCode.FAILED_PRECONDITION), 503),
        (DeviceRefusedError("x", grpc.StatusCode.INTERNAL), 502),
        (malformed("pi4", "Run", "x"), 502),
        (QueueFullError("x"), 503),
        (TimeoutError(), 504),
        (FrameError("x"), 400),
        (DatasetError("x"), 400),
        (ClientDisconnect(), 400),
    ],
)
def test_errors_have_the_code_of_their_grpc_status(error: Exception, code: int) -> None:
    found = http_error(error)
    assert found.status_code == code and found.detail
    assert found.headers == ({"Retry-After": "1"} if code == 503 else None)


def test_times_that_disagree_with_the_clocks_enter_no_term(one: Planned) -> None:
    metrics, response = ServeMetrics(one.deployment), one.deployment.leader.infer(one.images[:1])
    first, *others = response.trail
    late = [DeviceSpan(span.device, *(ns + 10**9 for ns in astuple(span)[1:])) for span in others]
    metrics.observe(replace(response, trail=(first, *late)))
    metrics.observe(response)
    lines = metrics.text().decode().splitlines()
    assert "jmsnas_clock_errors_total 1.0" in lines and "jmsnas_latency_seconds_count 1.0" in lines
