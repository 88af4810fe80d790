"""Serve a finished run over HTTP: plan, ship, and answer requests until stopped."""

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from jmsnas.deploy.deploy_run import DeployOptions, Output, planned_deployment
from jmsnas.deploy.leader.deployment import Deployment
from jmsnas.deploy.leader.load_run import load_run
from jmsnas.deploy.leader.predicted_vs_measured import choose_image_encoding
from jmsnas.deploy.serve.http_app import make_app
from jmsnas.deploy.serve.http_server import (
    HttpOptions,
    listening_socket,
    make_server,
    run_until_stopped,
    tls_context,
)
from jmsnas.deploy.serve.inference_queue import InferenceQueue
from jmsnas.deploy.serve.metrics import ServeMetrics
from jmsnas.deploy.serve.open_inference import ServedModel
from jmsnas.nas.run_result import read_result
from jmsnas.workspace import Workspace


def serve_run(
    workspace: Workspace,
    folder: Path,
    deploy: DeployOptions,
    http: HttpOptions,
    output: Output,
    ready: Callable[[dict[str, Any]], None],
) -> None:
    """Serve the finished run in `folder` until SIGTERM or Ctrl-C; requests in flight are answered first.

    `ready` is called once requests are accepted, with the address, the model and the plan.

    Raises
    ------
    InputError
        For a run, a topology, a device, an address, a certificate or an option that cannot be used.
    DeployError
        When a device is lost before, or refuses its part.
    """
    tls = tls_context(http)
    dataset = read_result(folder).dataset
    with _stop_at_sigterm(), listening_socket(http) as bound:
        run = load_run(workspace, folder)
        with (
            planned_deployment(workspace, run, deploy, output) as (deployment, origins),
            http_app(deployment, dataset, http, deploy.replan) as app,
        ):
            # The collector does not look at the modules again: that would empty the caches between requests.
            gc.collect()
            gc.freeze()
            host, port = bound.getsockname()[:2]
            bound.listen()
            url = f"{http.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
            ready({"url": url, **_plan_document(deployment), "loopback": deploy.loopback, "origins": origins})
            run_until_stopped(make_server(app, tls), bound)


@contextmanager
def http_app(deployment: Deployment, dataset: str, http: HttpOptions, replan: bool) -> Iterator[Starlette]:
    """Give the HTTP application of a planned deployment; at the end, wait for its requests in flight.

    `dataset` names the preprocessing of images; with `replan`, a lost device makes the deployment plan again.
    """
    run = deployment.run
    model = ServedModel(run.name, (1, *run.space.input_shape), (1, run.space.classes))
    metrics = ServeMetrics(deployment)
    encoding = choose_image_encoding(run.pixels, deployment.topology)
    with closing(InferenceQueue(deployment, encoding, http.max_waiting, replan, metrics.observe)) as queue:
        yield make_app(model, dataset, queue, metrics, http.token)


def _plan_document(deployment: Deployment) -> dict[str, Any]:
    """Return the plan in service: the layers of each device, and the T that is predicted, seconds."""
    planned = deployment.planned
    assert planned is not None  # planned_deployment has planned
    return {
        "model": deployment.run.name,
        "topology": deployment.topology.name,
        "epoch": deployment.leader.epoch,
        "pieces": [{"device": part.device, "layers": part.layer_range} for part in planned.part_specs],
        "predicted_s": planned.latency_s,
        "lost": deployment.lost,
    }


@contextmanager
def _stop_at_sigterm() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C: agents on loopback are stopped, and their folders removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
