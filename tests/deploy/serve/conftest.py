"""A served model: agents in this process, and an HTTP server on loopback in a thread."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from deployments import CHAIN, Fleet, fleet
from numpy.typing import NDArray

from jmsnas.deploy.leader.calibration import load_calibrated_estimators
from jmsnas.deploy.leader.deployment import Deployment, prepare_deployment
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.predicted_vs_measured import run_undivided
from jmsnas.deploy.serve.http_server import HttpOptions, listening_socket, make_server, tls_context
from jmsnas.deploy.serve.serve_run import http_app
from jmsnas.nas.run_result import RunResult
from jmsnas.workspace import Workspace

Served = Callable[[Deployment, HttpOptions, bool], "contextmanager[str]"]


@dataclass
class Planned:
    """A planned deployment of the run `short` over agents in this process, and some of its test images."""

    deployment: Deployment
    fleet: Fleet
    images: NDArray[np.float32]
    logits: NDArray[np.float32]


@contextmanager
def planned(short_run: tuple[Workspace, RunResult], folder: Path) -> Iterator[Planned]:
    workspace, result = short_run
    run = load_run(workspace, result.folder)
    with fleet(folder, CHAIN) as four:
        predictors, _ = load_calibrated_estimators(run.topology, run.space, workspace, lambda text: None)
        deployment = prepare_deployment(run, four.leader, predictors, folder / "cache")
        deployment.plan(measure_overhead=False)
        images = run.pixels[:16]
        yield Planned(deployment, four, images, run_undivided(run, images))


@contextmanager
def served(deployment: Deployment, options: HttpOptions, replan: bool = False) -> Iterator[str]:
    """Serve a deployment in a thread, and give the URL."""
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


@pytest.fixture(scope="package")
def one(short_run: tuple[Workspace, RunResult], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """A planned deployment. Do not end its agents."""
    with planned(short_run, tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="package")
def url(one: Planned) -> Iterator[str]:
    """The URL of its server."""
    with served(one.deployment, HttpOptions(port=0)) as found:
        yield found
