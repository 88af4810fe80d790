"""Read published latency tables of blocks as launched operators and seconds.

One reader per table; docs/simulated_devices.md names their sources. Only benchmarks read them.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jmsnas.cost import Operator

Reader = Callable[[Path], Iterable["Published"]]


@dataclass(frozen=True, slots=True)
class Published:
    """One published latency: launched operators, images per call, group of its geometry, seconds.

    `curve` identifies the curve of a table whose publisher sorted the latencies of each curve over its
    widths: which latency belongs to which width is lost. `ragged` counts the weights of a depthwise stage
    whose width is no multiple of 16, the floats of a vector.
    """

    launched: tuple[Operator, ...]
    batch: int
    group: tuple[Any, ...]
    measured_s: float
    curve: tuple[Any, ...] | None = None
    ragged: int = 0


def _elementwise(kind: str, numbers: int, reads: int = 1) -> Operator:
    return Operator(kind, 0, 0, reads * numbers, numbers)


def _conv(kind: str, macs: int, weights: int, read: int, written: int, act: str = "") -> list[Operator]:
    """List a convolution, its normalisation, and the operators that an eager activation launches."""
    found = [Operator(kind, macs, weights, read, written), _elementwise("norm", written)]
    if act in ("relu", "swish"):
        found.append(_elementwise("activation", written))
    if act == "swish":  # x * sigmoid(x)
        found.append(_elementwise("activation", written, reads=2))
    if act == "h_swish":  # x * relu6(x + 3) / 6
        found += [_elementwise("activation", written, reads) for reads in (1, 1, 2, 1)]
    return found


def _squeeze(channels: int, squeezed: int, pixels: int, act: str) -> list[Operator]:
    """List squeeze-and-excite: pool, two dense layers, gate (three operators if hard), multiply."""
    dense = channels * squeezed
    gate = 3 if act == "h_swish" else 1
    return [
        Operator("pool", 0, 0, channels * pixels, channels),
        Operator("dense", dense, dense + squeezed, channels, squeezed),
        _elementwise("activation", squeezed),
        Operator("dense", dense, dense + channels, squeezed, channels),
        *[_elementwise("activation", channels)] * gate,
        _elementwise("activation", channels * pixels),
    ]


@dataclass(frozen=True, slots=True)
class MBConv:
    """A published MBConv with a depthwise stage of any width, on size x size inputs."""

    in_channels: int
    middle: int
    out_channels: int
    kernel_size: int
    stride: int
    size: int
    activation: str = "relu"
    squeezed: int = 0
    expand: bool = True
    shortcut: bool = False

    def operators(self) -> list[Operator]:
        """List the launched operators."""
        pixels_in, pixels = self.size**2, (-(-self.size // self.stride)) ** 2
        c, middle, out, act = self.in_channels, self.middle, self.out_channels, self.activation
        found = []
        if self.expand:
            weights = c * middle
            found += _conv("pointwise", weights * pixels_in, weights, c * pixels_in, middle * pixels_in, act)
        weights = middle * self.kernel_size**2
        found += _conv("depthwise", weights * pixels, weights, middle * pixels_in, middle * pixels, act)
        if self.squeezed:
            found += _squeeze(middle, self.squeezed, pixels, act)
        weights = middle * out
        found += _conv("pointwise", weights * pixels, weights, middle * pixels, out * pixels)
        if self.shortcut:
            found.append(_elementwise("add", out * pixels, reads=2))
        return found


def _blocks(
    file: str,
    keep: Callable[[pd.DataFrame], Any],
    always_expands: bool,
    value: str = "latency_ms",
    sorted_widths: bool = False,
) -> Reader:
    def rows(folder: Path) -> Iterable[Published]:
        frame = pd.read_parquet(folder / file)
        frame = frame[(frame["op"] == "mbconv") & keep(frame)]
        for row in frame.to_dict("records"):
            c, middle, out = int(row["in_channels"]), int(row["mid_channels"]), int(row["out_channels"])
            size, stride, k = int(row["height"]), int(row["stride"]), int(row["kernel_size"])
            squeezed, group = int(row.get("se_channels", 0)), (c, out, size, stride)
            block = MBConv(
                c, middle, out, k, stride, size,
                activation=row.get("activation", "relu"), squeezed=squeezed,
                expand=always_expands or middle > c, shortcut=bool(row["shortcut"]),
            )  # fmt: skip
            yield Published(
                tuple(block.operators()), 1, group, row[value] / 1e3,
                curve=(*group, k, squeezed) if sorted_widths else None,
                ragged=middle * k**2 if middle % 16 else 0,
            )  # fmt: skip

    return rows


def ofa_operators(arch: dict[str, Any]) -> list[Operator]:
    """List the operators of a Once-for-All MobileNetV3 (arXiv 1908.09791) from its architecture."""
    size = -(-int(np.ravel(arch["r"])[0]) // 2)
    pixels, image = size**2, 3 * 4 * size**2
    found = _conv("conv", 432 * pixels, 432, image, 16 * pixels, "h_swish")
    found += MBConv(16, 16, 16, 3, 1, size, expand=False, shortcut=True).operators()
    c = 16
    stages = zip(
        (24, 40, 80, 112, 160),
        (2, 2, 2, 1, 2),
        (0, 1, 0, 1, 1),
        ("relu",) * 2 + ("h_swish",) * 3,
        strict=True,
    )
    for stage, (out, first_stride, squeezes, act) in enumerate(stages):
        for index in range(arch["d"][stage]):
            k, middle = arch["ks"][4 * stage + index], c * arch["e"][4 * stage + index]
            stride = first_stride if index == 0 else 1
            squeezed = max(8, int(middle / 4 + 4) // 8 * 8) if squeezes else 0
            keeps = stride == 1 and c == out
            found += MBConv(c, middle, out, k, stride, size, act, squeezed, shortcut=keeps).operators()
            c, size = out, -(-size // stride)
    pixels = size**2
    found += _conv("pointwise", 160 * 960 * pixels, 160 * 960, 160 * pixels, 960 * pixels, "h_swish")
    found.append(Operator("pool", 0, 0, 960 * pixels, 960))
    found.append(Operator("dense", 960 * 1280, 960 * 1280, 960, 1280))
    found += [_elementwise("activation", 1280)] * 4
    return [*found, Operator("dense", 1280 * 1000, 1281 * 1000, 1280, 1000)]


def ofa_v100(folder: Path, seed: int = 0) -> Iterable[Published]:
    frame = pd.read_parquet(folder / "networks_ofa_v100.parquet")
    frame = frame[frame["batch"] == 1].sample(800, random_state=seed)
    for arch, measured_ms in zip(frame["arch"], frame["latency_ms"], strict=True):
        yield Published(tuple(ofa_operators(json.loads(arch))), 1, (arch,), measured_ms / 1e3)


RPI4_TFLITE = _blocks(
    "blocks_rpi4_tflite_recovered.parquet",
    lambda frame: frame["skip_is_identity"] & (frame["pw_groups"] == 1),
    always_expands=True,
    value="latency_minus_skip_ms",
)
RPI4_TF_EAGER = _blocks(
    "blocks_rpi4_tf_eager.parquet", lambda frame: frame["pw_groups"] == 1, always_expands=True
)
CORTEX_A73 = _blocks(
    "blocks_khadas.parquet",
    lambda frame: frame["processor"].str.startswith("Cortex") & (frame["replicate"] == 0),
    always_expands=False,
)
# TF-NAS builds no expansion where the depthwise stage is as wide as the input. The latencies of a curve were
# sorted and then given to the widths in turn (docs/simulated_devices.md says how it shows).
XEON_6130 = _blocks(
    "blocks_xeon6130.parquet", lambda frame: ~frame["se"], always_expands=False, sorted_widths=True
)
XEON_6130_SE = _blocks(
    "blocks_xeon6130.parquet", lambda frame: frame["se"], always_expands=False, sorted_widths=True
)
