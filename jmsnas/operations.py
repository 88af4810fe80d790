"""Operations of the search spaces and MobileNets, and the naming of candidates.

Sources: MobileNetV1 (arXiv 1704.04861), V2 (1801.04381), V3 (1905.02244); diagrams in docs/blocks.md.
"""

import re
from dataclasses import dataclass

from jmsnas.errors import SpaceError


@dataclass(frozen=True, slots=True)
class Operation:
    """Properties shared by all blocks of one operation.

    Attributes
    ----------
    form
        Structure: `identity`, `conv` (one convolution), `bottleneck` (expand, depthwise, project),
        `head` (1x1 convolution, pool, dense) or `classifier` (pool, dense).
    role
        Role of the layers that can use it: `stem`, `block` or `head`.
    kernel_size, expansion
        The only allowed value, or None where the candidate name gives it.
    shortcut
        Whether the input may be added to the output.
    hidden
        Whether the intermediate width is the layer's `hidden_channels`, which is 0 otherwise.
    activation
        `relu6`, `relu` or `hard_swish`.
    linear
        Whether a bottleneck has no activation after its last convolution.
    squeeze
        Whether squeeze-and-excitation follows the depthwise convolution.
    epsilon
        Epsilon of batch normalisation: torch's default, 1e-3 in MobileNetV3.
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
    """Raise SpaceError for values that no candidate of the operation can have."""
    if op not in OPERATIONS:
        raise SpaceError(f"unknown operation {op!r}: expected one of {', '.join(OPERATIONS)}")
    operation = OPERATIONS[op]
    kernel_sizes = range(1, 32, 2) if operation.kernel_size is None else (operation.kernel_size,)
    expansions = range(1, 100) if operation.expansion is None else (operation.expansion,)
    if kernel_size not in kernel_sizes or expansion not in expansions or shortcut > operation.shortcut:
        needed = "an odd kernel_size up to 31" if len(kernel_sizes) > 1 else f"kernel_size {kernel_sizes[0]}"
        needed += " and " + ("an expansion up to 99" if len(expansions) > 1 else f"expansion {expansions[0]}")
        raise SpaceError(
            f"{op} needs {needed}{'' if operation.shortcut else ' and no shortcut'}, got kernel_size "
            f"{kernel_size}, expansion {expansion}, shortcut {shortcut}"
        )


def candidate_name(op: str, kernel_size: int, expansion: int, shortcut: bool) -> str:
    """Make the name of a candidate, such as `mb_k5_e6_skip` or `mbv3_k5_hs_se`."""
    family, *rest = op.split("_", 1)
    operation = OPERATIONS[op]
    kernel = [f"k{kernel_size}"] if operation.kernel_size is None else []
    ratio = [f"e{expansion}"] if operation.expansion is None else []
    return "_".join([family, *kernel, *ratio, *rest, *(["skip"] if shortcut else [])])


def parse_candidate_name(name: str) -> tuple[int, int, bool, str]:
    """Parse a candidate name into (kernel_size, expansion, shortcut, op). Raises SpaceError."""
    match = _NAME.fullmatch(name)
    op = match[1] + match[4] if match else ""
    if match and op in OPERATIONS:
        operation = OPERATIONS[op]
        kernel_size, expansion = (
            int(match[2] or operation.kernel_size or 0),
            int(match[3] or operation.expansion or 0),
        )
        # Accept canonical names only: not mb_k05_e6, mb_k5 or stem_k3.
        if candidate_name(op, kernel_size, expansion, match[5] is not None) == name:
            return kernel_size, expansion, match[5] is not None, op
    raise SpaceError(
        f"unknown candidate {name!r}: expected a name such as mb_k5_e6_skip, mb_k3_e3 or identity"
    )


def squeezed_channels(channels: int) -> int:
    """Return the hidden width of MobileNetV3's squeeze-and-excitation: a quarter, in multiples of 8."""
    return make_divisible(channels // 4)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to the nearest multiple of `divisor` that is at least 0.9 times the count.

    Source: `_make_divisible` of the MobileNets' authors (tensorflow/models, slim).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
