"""Compare predicted and measured latency of a deployment, and its outputs with those of the whole model."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jmsnas.arrays import Float32Array
from jmsnas.deploy.leader.deployment import Deployment, run_images
from jmsnas.deploy.leader.leader import ImageEncoding, Response
from jmsnas.deploy.leader.load_run import TrainedRun
from jmsnas.deploy.leader.measured_terms import Links, MeasuredTerm, measured_latency_s, measured_terms
from jmsnas.deploy.leader.solve_split import PlannedSplit
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import Topology

SCHEMA_VERSION = 1
# Largest difference of a logit between the undivided model in torch and the parts in onnxruntime.
TOLERANCE = 1e-4
_WARM_UP = 20


def choose_image_encoding(pixels: Float32Array, topology: Topology) -> ImageEncoding:
    """Choose the wire encoding of raw images: float32, or uint8 on the grid of the pixel values.

    Values on no grid of 256 steps are quantised over their range.
    """
    if topology.input_encoding != "uint8":
        return ImageEncoding()
    values = np.unique(pixels)
    low, high = float(values[0]), float(values[-1])
    steps = np.diff(values)
    scale = float(steps.min()) if len(steps) else 1.0
    levels = (values - low) / scale
    if len(values) > 256 or levels[-1] > 255.5 or not np.allclose(np.rint(levels), levels, atol=1e-3):
        scale = (high - low) / 255 or 1.0
    return ImageEncoding("u1", scale, low)


def run_undivided(run: TrainedRun, pixels: Float32Array) -> Float32Array:
    """Compute the logits of the undivided model, in torch."""
    with torch.inference_mode():
        logits: Float32Array = run.module(torch.from_numpy(pixels)).numpy()
    return logits


def quantise_images(pixels: Float32Array, encoding: ImageEncoding) -> Float32Array:
    """Round images to the values that the first layer receives after decoding."""
    if encoding.dtype != "u1":
        return pixels
    scale, zero = np.float32(encoding.scale), np.float32(encoding.zero)
    steps: Float32Array = np.clip(np.rint((pixels - zero) / scale), 0, 255).astype(np.float32)
    return steps * scale + zero


def measure_deployment(
    deployment: Deployment,
    pixels: Float32Array,
    labels: NDArray[np.int64],
    requests: int,
    progress: Progress = no_progress,
    replan: bool = False,
) -> tuple[dict[str, Any], list[Response]]:
    """Send images one by one and pipelined, and compare every predicted term with its measurement.

    `pixels` are (count, C, H, W) float32, `labels` their classes; `requests` are timed one by one, and all
    images are sent pipelined. When a device is lost, `replan` plans again without it and repeats the failed
    requests; then all are sent again, since a plan's terms need measurements of that plan alone. Returns the
    content of `deploy.json` without its timeline, and the responses of the timed requests. Raises
    DeviceLostError, DeployError.
    """
    encoding = choose_image_encoding(pixels, deployment.topology)
    images = [pixels[n : n + 1] for n in range(len(pixels))]
    timed = [images[n % len(images)] for n in range(requests)]
    send = partial(run_images, deployment, replan=replan, encoding=encoding)
    answered: Counter[int] = Counter()
    while True:
        split, epoch = deployment.planned, deployment.leader.epoch
        assert split is not None  # plan() was called
        warm_up = send(timed[:_WARM_UP], 1)
        singles = send(timed, 1, progress=progress)
        started_s = time.monotonic()
        piped = send(images, 2 * len(split.part_specs), progress=progress)
        pipelined = _pipelined(split, len(images), time.monotonic() - started_s)
        answered.update(response.epoch for response in (*warm_up, *singles, *piped))
        if deployment.leader.epoch == epoch:
            break
        deployment.log(f"measuring plan {deployment.leader.epoch}")
    undivided = run_undivided(deployment.run, quantise_images(pixels, encoding))
    terms = _terms(deployment, split, singles)
    return {
        "schema_version": SCHEMA_VERSION,
        "jmsnas": version("jmsnas"),
        "run": deployment.run.name,
        "topology": deployment.topology.name,
        "epoch": deployment.leader.epoch,
        "lost": deployment.lost,
        "answered": [{"epoch": epoch, "requests": count} for epoch, count in sorted(answered.items())],
        "repeated": deployment.repeated,
        "pieces": [
            {"device": part.device, "layers": part.layer_range, "runtime": _runtime(part.key)}
            for part in split.part_specs
        ],
        "cuts": list(split.placement.cuts),
        "terms": [{**asdict(term), "ratio": term.ratio} for term in terms],
        "latency": _latency(split, terms, singles, deployment.links),
        "round_trip": _percentiles([response.round_trip_s for response in singles]),
        "pipelined": pipelined,
        "accuracy": _accuracy(np.concatenate([response.logits for response in piped]), undivided, labels),
        "links": [asdict(link) for link in deployment.links.values()],
        "served": {device: asdict(overhead) for device, overhead in deployment.overheads.items()},
    }, singles


def _runtime(key: RuntimeKey) -> str:
    return key.runtime + (f" on {key.processor}" if key.processor != "cpu" else "")


def _pipelined(split: PlannedSplit, images: int, seconds: float) -> dict[str, Any]:
    return {
        "images": images,
        "per_s": images / seconds,
        "predicted_per_s": 1 / split.period_s,
        "bound_by": split.bottleneck,
    }


def _accuracy(logits: Float32Array, undivided: Float32Array, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Compare accuracy and logits of the divided with those of the undivided model."""
    difference = float(np.abs(logits - undivided).max())
    return {
        "divided": float((logits.argmax(1) == labels).mean()),
        "undivided": float((undivided.argmax(1) == labels).mean()),
        "largest_difference": difference,
        "equal": difference <= TOLERANCE,
    }


def _terms(
    deployment: Deployment, split: PlannedSplit, singles: Sequence[Response]
) -> tuple[MeasuredTerm, ...]:
    held = [part.device for part in split.part_specs if part.hold_s]
    paced = [(part.device, hop.device) for part in split.part_specs for hop in part.next_hops if hop.pace_bps]
    return measured_terms(singles, deployment.links, split.tau_s, split.epsilon_s, held, paced)


def _latency(
    split: PlannedSplit, terms: Sequence[MeasuredTerm], singles: Sequence[Response], links: Links
) -> dict[str, Any]:
    percentiles = _percentiles([measured_latency_s(response, links) for response in singles])
    held = any(term.held for term in terms)
    return {
        "predicted_s": split.latency_s,
        "measured_s": percentiles["p50"],
        "ratio": None if held else percentiles["p50"] / split.latency_s,
        "held": held,
        **percentiles,
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": float(np.quantile(seconds, q / 100)) for q in (50, 95, 99)}
