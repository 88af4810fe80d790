"""Prediction beside measurement of a whole deployment, and whether it answers as the undivided network."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jmsnas.deploy.leader.deployment import Deployment, run_images
from jmsnas.deploy.leader.leader import ImageEncoding, Response
from jmsnas.deploy.leader.load_run import TrainedRun
from jmsnas.deploy.leader.measured_terms import Links, MeasuredTerm, measured_latency_s, measured_terms
from jmsnas.deploy.leader.solve_split import PlannedSplit
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import Topology

SCHEMA_VERSION = 1
# Answers that the undivided network gives in torch, and the parts in onnxruntime, may differ by that much.
TOLERANCE = 1e-4
_WARM_UP = 20

Array = NDArray[np.float32]


def choose_image_encoding(pixels: Array, topology: Topology) -> ImageEncoding:
    """Choose how raw images travel: float32, or the uint8 grid that they are on.

    Images that are on no grid of 256 values get the affine one over their range.
    """
    if topology.input_encoding != "uint8":
        return ImageEncoding()
    values = np.unique(pixels)
    low, high = float(values[0]), float(values[-1])
    steps = np.diff(values)
    scale = float(steps.min()) if len(steps) else 1.0
    places = (values - low) / scale
    if len(values) > 256 or places[-1] > 255.5 or not np.allclose(np.rint(places), places, atol=1e-3):
        scale = (high - low) / 255 or 1.0
    return ImageEncoding("u1", scale, low)


def run_undivided(run: TrainedRun, pixels: Array) -> Array:
    """Logits of the undivided network, in torch."""
    with torch.inference_mode():
        logits: Array = run.module(torch.from_numpy(pixels)).numpy()
    return logits


def quantise_images(pixels: Array, encoding: ImageEncoding) -> Array:
    """Give images as the first layer gets them."""
    if encoding.dtype != "u1":
        return pixels
    scale, zero = np.float32(encoding.scale), np.float32(encoding.zero)
    encoded: Array = np.clip(np.rint((pixels - zero) / scale), 0, 255).astype(np.float32) * scale + zero
    return encoded


def measure_deployment(
    deployment: Deployment,
    pixels: Array,
    labels: NDArray[np.int64],
    requests: int,
    progress: Progress = no_progress,
) -> tuple[dict[str, Any], list[Response]]:
    """Run images through, one by one and pipelined, and put prediction beside measurement.

    Parameters
    ----------
    pixels, labels
        (count, channels, height, width) float32, and their classes.
    requests
        How many are sent one by one to be timed; all are sent pipelined.

    Returns
    -------
    A document with every term, and the answers that were timed.

    Raises
    ------
    LostDevice, DeployError
        When a device is lost.
    """
    solved = deployment.planned
    assert solved is not None  # planned before
    encoding = choose_image_encoding(pixels, deployment.topology)
    images = [pixels[n : n + 1] for n in range(len(pixels))]
    timed = [images[n % len(images)] for n in range(requests)]
    run_images(deployment, timed[:_WARM_UP], 1, encoding=encoding)
    singles = run_images(deployment, timed, 1, encoding=encoding, progress=progress)
    began = time.monotonic()
    piped = run_images(deployment, images, 2 * len(solved.part_specs), encoding=encoding, progress=progress)
    per_s = len(images) / (time.monotonic() - began)
    whole = run_undivided(deployment.run, quantise_images(pixels, encoding))
    terms = _terms(deployment, solved, singles)
    return {
        "schema_version": SCHEMA_VERSION,
        "jmsnas": version("jmsnas"),
        "run": deployment.run.name,
        "epoch": deployment.leader.epoch,
        "lost": deployment.lost,
        "pieces": [
            {"device": part_spec.device, "layers": part_spec.layer_range, "runtime": _runtime(part_spec.key)}
            for part_spec in solved.part_specs
        ],
        "cuts": list(solved.placement.cuts),
        "terms": [{**asdict(term), "ratio": term.ratio} for term in terms],
        "latency": _latency(solved, terms, singles, deployment.links),
        "round_trip": _percentiles([answer.seconds for answer in singles]),
        "pipelined": {
            "images": len(images),
            "per_s": per_s,
            "predicted_per_s": 1 / solved.period_s,
            "bound_by": solved.bottleneck,
        },
        "accuracy": _accuracy(np.concatenate([answer.logits for answer in piped]), whole, labels),
        "links": [asdict(link) for link in deployment.links.values()],
        "served": {device: asdict(served) for device, served in deployment.served.items()},
    }, singles


def _runtime(key: RuntimeKey) -> str:
    return key.runtime + (f" on {key.processor}" if key.processor != "cpu" else "")


def _accuracy(logits: Array, whole: Array, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Say how right the divided network is, and how far its logits are from the undivided one's."""
    difference = float(np.abs(logits - whole).max())
    return {
        "divided": float((logits.argmax(1) == labels).mean()),
        "undivided": float((whole.argmax(1) == labels).mean()),
        "largest_difference": difference,
        "equal": difference <= TOLERANCE,
    }


def _terms(
    deployment: Deployment, solved: PlannedSplit, singles: Sequence[Response]
) -> tuple[MeasuredTerm, ...]:
    held = [part_spec.device for part_spec in solved.part_specs if part_spec.hold_s]
    paced = [(p.device, t.device) for p in solved.part_specs for t in p.next_hops if t.pace_bps]
    return measured_terms(singles, deployment.links, solved.tau_s, solved.epsilon_s, held, paced)


def _latency(
    solved: PlannedSplit,
    terms: Sequence[MeasuredTerm],
    singles: Sequence[Response],
    links: Links,
) -> dict[str, Any]:
    seconds = [measured_latency_s(answer, links) for answer in singles]
    held = any(term.held for term in terms)
    found = _percentiles(seconds)
    ratio = None if held else found["p50"] / solved.latency_s
    return {
        "predicted_s": solved.latency_s,
        "measured_s": found["p50"],
        "ratio": ratio,
        "held": held,
        **found,
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    values = np.quantile(np.asarray(seconds), (0.5, 0.95, 0.99))
    return dict(zip(("p50", "p95", "p99"), (float(value) for value in values), strict=True))
