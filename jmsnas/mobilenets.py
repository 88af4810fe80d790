"""Block specifications of MobileNet V1, V2 and V3, the baseline models. Does not import torch.

Sources: V1, arXiv 1704.04861, table 1; V2, arXiv 1801.04381, table 2; V3, arXiv 1905.02244, tables 1 and 2.
V2 and V3 match torchvision layer by layer, without dropout.
"""

import difflib
from dataclasses import replace

from jmsnas.errors import SpaceError
from jmsnas.operations import make_divisible
from jmsnas.space import Block, Candidate, Layer, Part

_MAX_WIDTH = 16.0

# One row per block: candidate, hidden channels (0: none), output channels, stride.
_Row = tuple[str, int, int, int]
_V1: list[_Row] = [
    ("ds_k3", 0, 64, 1),
    ("ds_k3", 0, 128, 2),
    ("ds_k3", 0, 128, 1),
    ("ds_k3", 0, 256, 2),
    ("ds_k3", 0, 256, 1),
    ("ds_k3", 0, 512, 2),
    *[("ds_k3", 0, 512, 1)] * 5,
    ("ds_k3", 0, 1024, 2),
    ("ds_k3", 0, 1024, 1),
]
_V2: list[_Row] = [
    ("mb_k3_e1", 0, 16, 1),
    ("mb_k3_e6", 0, 24, 2),
    ("mb_k3_e6", 0, 24, 1),
    ("mb_k3_e6", 0, 32, 2),
    *[("mb_k3_e6", 0, 32, 1)] * 2,
    ("mb_k3_e6", 0, 64, 2),
    *[("mb_k3_e6", 0, 64, 1)] * 3,
    *[("mb_k3_e6", 0, 96, 1)] * 3,
    ("mb_k3_e6", 0, 160, 2),
    *[("mb_k3_e6", 0, 160, 1)] * 2,
    ("mb_k3_e6", 0, 320, 1),
]
_V3_SMALL: list[_Row] = [
    ("mbv3_k3_re_se", 16, 16, 2),
    ("mbv3_k3_re", 72, 24, 2),
    ("mbv3_k3_re", 88, 24, 1),
    ("mbv3_k5_hs_se", 96, 40, 2),
    *[("mbv3_k5_hs_se", 240, 40, 1)] * 2,
    ("mbv3_k5_hs_se", 120, 48, 1),
    ("mbv3_k5_hs_se", 144, 48, 1),
    ("mbv3_k5_hs_se", 288, 96, 2),
    *[("mbv3_k5_hs_se", 576, 96, 1)] * 2,
]
_V3_LARGE: list[_Row] = [
    ("mbv3_k3_re", 16, 16, 1),
    ("mbv3_k3_re", 64, 24, 2),
    ("mbv3_k3_re", 72, 24, 1),
    ("mbv3_k5_re_se", 72, 40, 2),
    *[("mbv3_k5_re_se", 120, 40, 1)] * 2,
    ("mbv3_k3_hs", 240, 80, 2),
    ("mbv3_k3_hs", 200, 80, 1),
    *[("mbv3_k3_hs", 184, 80, 1)] * 2,
    ("mbv3_k3_hs_se", 480, 112, 1),
    ("mbv3_k3_hs_se", 672, 112, 1),
    ("mbv3_k5_hs_se", 672, 160, 2),
    *[("mbv3_k5_hs_se", 960, 160, 1)] * 2,
]
_BODIES = {
    "mobilenet_v1": _V1,
    "mobilenet_v2": _V2,
    "mobilenet_v3_small": _V3_SMALL,
    "mobilenet_v3_large": _V3_LARGE,
}
NAMES = tuple(_BODIES)


def mobilenet(
    name: str, input_shape: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, width: float = 1.0
) -> Part:
    """Make the blocks of one of `NAMES`, in execution order; raises SpaceError.

    `input_shape` is (channels, height, width) of one image: feature maps of a small image stop shrinking at
    1x1. `classes` is the number of logits; `width` multiplies all channel counts, each rounded to a multiple
    of 8.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, len(NAMES), 0.8) or NAMES
        raise SpaceError(f"unknown model {name!r}: expected {' or '.join(near)}")
    if not 0 < width <= _MAX_WIDTH:
        raise SpaceError(f"expected a width above 0 and up to {_MAX_WIDTH:g}, as in 0.5, got {width:g}")

    blocks: list[Block] = []
    shape: tuple[int, ...] = input_shape
    for candidate_name, hidden, out_channels, stride in _rows(name, classes, width):
        candidate = Candidate.parse(candidate_name)
        channels, height, map_width = shape
        layer = Layer(channels, out_channels, stride, height, map_width, candidate.operation.role, hidden)
        shortcut = candidate.operation.shortcut and layer.keeps_shape
        blocks.append(Block(replace(candidate, shortcut=shortcut), layer))
        shape = layer.output_shape
    return Part(tuple(blocks))


def _rows(name: str, classes: int, width: float) -> list[_Row]:
    """Scale the rows of a model to a width, and add its stem and classifier."""
    body = [
        (candidate, make_divisible(width * hidden) if hidden else 0, make_divisible(width * out), stride)
        for candidate, hidden, out, stride in _BODIES[name]
    ]
    if name == "mobilenet_v1":
        return [("stem", 0, make_divisible(width * 32), 2), *body, ("classifier", 0, classes, 1)]
    if name == "mobilenet_v2":
        # Below width 1 the last convolution keeps its full width (V2, section 6.1).
        head = make_divisible(max(width, 1) * 1280)
        return [("stem", 0, make_divisible(width * 32), 2), *body, ("head", head, classes, 1)]
    hidden = make_divisible(width * (1024 if name == "mobilenet_v3_small" else 1280))
    return [
        ("stem_hs", 0, make_divisible(width * 16), 2),
        *body,
        ("conv_hs", 0, 6 * body[-1][2], 1),
        ("classifier_hs", hidden, classes, 1),
    ]
