"""A served model for the tests: agents in this process, and an HTTP server on loopback in a thread."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployments import CHAIN, Fleet, fleet
from numpy.typing import NDArray
from shared_folders import shared_folder

from jmsnas.deploy.leader.calibration import load_calibrated_estimators
from jmsnas.deploy.leader.deployment import Deployment, export_segments, prepare_deployment
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.predicted_vs_measured import run_undivided
from jmsnas.deploy.serve.http_server import HttpOptions, listening_socket, make_server, tls_context
from jmsnas.deploy.serve.serve_run import http_app
from jmsnas.nas.run_result import RunResult
from jmsnas.workspace import Workspace

INFER = "/v2/models/short/infer"


@dataclass
class Planned:
    """A planned deployment of the run `short` over agents in this process, test images and their logits."""

    deployment: Deployment
    fleet: Fleet
    images: NDArray[np.float32]
    logits: NDArray[np.float32]


def exported(factory: pytest.TempPathFactory, short_run: tuple[Workspace, RunResult]) -> Path:
    """A folder with the exports of the run `short`. Do not write to it."""
    workspace, result = short_run

    def export(folder: Path) -> None:
        export_segments(load_run(workspace, result.folder), folder)

    return shared_folder(factory, "exported", export)


@contextmanager
def planned(short_run: tuple[Workspace, RunResult], folder: Path, cache: Path) -> Iterator[Planned]:
    workspace, result = short_run
    run = load_run(workspace, result.folder)
    with fleet(folder, CHAIN) as four:
        predictors, _ = load_calibrated_estimators(run.topology, run.space, workspace, lambda text: None)
        deployment = prepare_deployment(run, four.leader, predictors, cache)
        deployment.plan(measure_overhead=False)
        images = run.pixels[:16]
        yield Planned(deployment, four, images, run_undivided(run, images))


@contextmanager
def served(deployment: Deployment, options: HttpOptions, replan: bool = False) -> Iterator[str]:
    """Serve a deployment in a thread, and give the URL; at the end requests in flight are answered."""
    with listening_socket(options) as bound, http_app(deployment, "digits", options, replan) as app:
        server = make_server(app, tls_context(options))
        bound.listen()
        thread = threading.Thread(target=server.run, args=([bound],))
        host, port = bound.getsockname()[:2]
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"{options.scheme}://{host}:{port}"
        finally:
            server.should_exit = True
            thread.join()


def json_request(x: NDArray[np.float32], **other: Any) -> bytes:
    """The body of a request with its numbers as JSON; `other` replaces fields of the input."""
    tensor = {"name": "image", "datatype": "FP32", "shape": x.shape, "data": x.ravel().tolist()}
    return json.dumps({"inputs": [{**tensor, **other}]}).encode()


def exchange(
    address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send one request as curl would; return status, headers and body of the answer."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, body or None, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def error_of(body: bytes) -> str:
    """The text of an error answer, which is one line."""
    (text,) = json.loads(body).values()
    assert text and text == " ".join(text.splitlines())
    return str(text)
