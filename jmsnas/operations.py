"""What a block can be, as data: one line an operation, and how candidates are named after them.

Sources: MobileNetV1 (arXiv 1704.04861), V2 (1801.04381), V3 (1905.02244); docs/blocks.md draws each.
"""

import re
from dataclasses import dataclass

from jmsnas.errors import SpaceError


@dataclass(frozen=True, slots=True)
class Operation:
    """What all blocks of one operation have in common.

    Attributes
    ----------
    form
        What is built: `identity`, `conv` (one convolution), `bottleneck` (expand, depthwise, project),
        `head` (1x1 convolution, pool, dense) or `classifier` (pool, dense).
    role
        The role of the layers it can stand at: `stem`, `block` or `head`.
    kernel_size, expansion
        The one value there is, or None where each candidate has its own and its name says it.
    shortcut
        Whether the input may be added to the output.
    hidden
        Whether the width in the middle is the layer's `hidden_channels`; other layers have 0 there.
    activation
        `relu6`, `relu` or `hard_swish`.
    linear
        Whether nothing is activated behind the last convolution of a bottleneck.
    squeeze
        Whether squeeze-and-excitation stands behind the depthwise convolution.
    epsilon
        What batch normalisation adds to the variance: torch's default, 1e-3 in MobileNetV3.
    """

    form: str
    role: str = "block"
    kernel_size: int | None = None
    expansion: int | None = None
    shortcut: bool = False
    hidden: bool = False
    activation: str = "relu6"
    linear: bool = True
    squeeze: bool = False
    epsilon: float = 1e-5


def _conv(role: str, kernel_size: int, activation: str = "relu6", epsilon: float = 1e-5) -> Operation:
    return Operation("conv", role, kernel_size, 0, activation=activation, epsilon=epsilon)


def _v3(activation: str, squeeze: bool) -> Operation:
    return Operation("bottleneck", "block", None, 0, True, True, activation, squeeze=squeeze, epsilon=1e-3)


OPERATIONS = {
    "mb": Operation("bottleneck", shortcut=True),
    "identity": Operation("identity", "block", 0, 0),
    "stem": _conv("stem", 3),
    "head": Operation("head", "head", 1, 0, hidden=True),
    "ds": Operation("bottleneck", "block", None, 1, linear=False),
    "classifier": Operation("classifier", "head", 0, 0),
    "stem_hs": _conv("stem", 3, "hard_swish", 1e-3),
    "mbv3_re": _v3("relu", squeeze=False),
    "mbv3_hs": _v3("hard_swish", squeeze=False),
    "mbv3_re_se": _v3("relu", squeeze=True),
    "mbv3_hs_se": _v3("hard_swish", squeeze=True),
    "conv_hs": _conv("block", 1, "hard_swish", 1e-3),
    "classifier_hs": Operation("classifier", "head", 0, 0, hidden=True, activation="hard_swish"),
}
_NAME = re.compile(r"([a-z]+3?)(?:_k(\d{1,2}))?(?:_e(\d{1,2}))?((?:_(?:re|hs|se))*)(_skip)?")


def check_operation(op: str, kernel_size: int, expansion: int, shortcut: bool) -> None:
    """Refuse what no candidate of an operation can be. Raises SpaceError."""
    if op not in OPERATIONS:
        raise SpaceError(f"unknown operation {op!r}: expected one of {', '.join(OPERATIONS)}")
    own = OPERATIONS[op]
    kernel_sizes = range(1, 32, 2) if own.kernel_size is None else (own.kernel_size,)
    expansions = range(1, 100) if own.expansion is None else (own.expansion,)
    if kernel_size not in kernel_sizes or expansion not in expansions or shortcut > own.shortcut:
        needed = "an odd kernel_size up to 31" if len(kernel_sizes) > 1 else f"kernel_size {kernel_sizes[0]}"
        needed += " and " + ("an expansion up to 99" if len(expansions) > 1 else f"expansion {expansions[0]}")
        raise SpaceError(
            f"{op} needs {needed}{'' if own.shortcut else ' and no shortcut'}, got kernel_size "
            f"{kernel_size}, expansion {expansion}, shortcut {shortcut}"
        )


def candidate_name(op: str, kernel_size: int, expansion: int, shortcut: bool) -> str:
    """Name a candidate: family, own kernel size, own expansion, the rest of `op`, shortcut."""
    family, *rest = op.split("_", 1)
    own = OPERATIONS[op]
    kernel = [f"k{kernel_size}"] if own.kernel_size is None else []
    ratio = [f"e{expansion}"] if own.expansion is None else []
    return "_".join([family, *kernel, *ratio, *rest, *(["skip"] if shortcut else [])])


def parse_candidate_name(name: str) -> tuple[int, int, bool, str]:
    """Read a candidate's (kernel_size, expansion, shortcut, op) from its name. Raises SpaceError."""
    match = _NAME.fullmatch(name)
    op = match[1] + match[4] if match else ""
    if match and op in OPERATIONS:
        own = OPERATIONS[op]
        kernel_size, expansion = int(match[2] or own.kernel_size or 0), int(match[3] or own.expansion or 0)
        # Told apart by the name it would have: mb_k05_e6, mb_k5 and stem_k3 are nobody's.
        if candidate_name(op, kernel_size, expansion, match[5] is not None) == name:
            return kernel_size, expansion, match[5] is not None, op
    raise SpaceError(
        f"unknown candidate {name!r}: expected a name such as mb_k5_e6_skip, mb_k3_e3 or identity"
    )


def squeezed_channels(channels: int) -> int:
    """Give the width inside the squeeze-and-excitation of MobileNetV3: a quarter, in multiples of 8."""
    return make_divisible(channels // 4)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a width to the nearest multiple of `divisor` that is not below nine tenths of it.

    Source: `_make_divisible` of the MobileNets' authors (tensorflow/models, slim).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
