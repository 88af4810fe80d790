"""Cost of the operators of exported torch graphs: MACs, parameters and elements moved, from their shapes.

Counted as in jmsnas/cost.py. An operator that is not listed has no known cost (None).
"""

import math
from collections.abc import Sequence

from jmsnas.cost import Operator

Shape = tuple[int, ...]

# Views of the same elements, and no-ops outside of training.
VIEWS = frozenset((
    "alias", "contiguous", "detach", "dropout", "dropout_", "expand", "flatten", "getitem", "narrow",
    "permute", "reshape", "select", "slice", "squeeze", "swapaxes", "transpose", "unflatten", "unsqueeze",
    "view", "chunk", "split", "split_with_sizes", "unbind", "clone",
))  # fmt: skip
_ACTIVATIONS = frozenset((
    "relu", "relu_", "hardtanh", "hardtanh_", "relu6", "hardswish", "hardswish_", "hardsigmoid",
    "hardsigmoid_", "sigmoid", "silu", "silu_", "gelu", "tanh", "softmax", "clamp", "elu", "leaky_relu",
    "leaky_relu_", "log_softmax",
))  # fmt: skip
_NORMS = frozenset(("batch_norm", "layer_norm", "group_norm", "local_response_norm"))
_POOLS = frozenset(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "mean"))
_TWO_SIDED = dict.fromkeys(("add", "add_", "sub"), "add") | dict.fromkeys(("mul", "mul_", "div"), "multiply")
# Copies of elements to another order or position.
_MOVES = frozenset(("cat", "stack", "roll", "pad", "index", "masked_fill", "masked_fill_", "where"))
# Operators that change the size of the output or take most of the time: each starts a unit.
UNIT_STARTS = _POOLS | frozenset(
    ("conv2d", "linear", "matmul", "bmm", "scaled_dot_product_attention", "einsum")
)


def count_operator(
    kind: str, inputs: Sequence[Shape], weights: Sequence[Shape], out: Shape, groups: int = 1
) -> Operator | None:
    """Count one operator of a batch of one; `kind` is its name in torch, as `conv2d`.

    `inputs`, `weights` and `out` are the shapes of its input activations (batch first), of its learned
    tensors, and of its output; `groups` those of a convolution.
    """
    read, written = sum(math.prod(shape) for shape in inputs), math.prod(out)
    learned = sum(math.prod(shape) for shape in weights)
    weight = weights[0] if weights else ()
    ranks = [len(shape) for shape in inputs]
    if kind == "conv2d" and len(weight) > 2 and ranks and ranks[0] > 1:
        kernel = weight[1:]
        depthwise = groups > 1 and groups == inputs[0][1]
        plain = "pointwise" if math.prod(kernel[1:]) == 1 and groups == 1 else "conv"
        return Operator(
            "depthwise" if depthwise else plain, written * math.prod(kernel), learned, read, written
        )
    if kind == "linear" and weight:
        return Operator("dense", written * weight[-1], learned, read, written)
    if kind in ("matmul", "bmm") and len(ranks) == 2 and ranks[0]:
        return Operator("dense", written * inputs[0][-1], 0, read, written)
    if kind == "scaled_dot_product_attention" and len(ranks) > 2 and min(ranks) > 1:
        scores = math.prod(inputs[0][:-1]) * inputs[1][-2]
        return Operator("dense", scores * (inputs[0][-1] + inputs[2][-1]), 0, read, written)
    for known, category in (
        (_ACTIVATIONS, "activation"),
        (_NORMS, "norm"),
        (_POOLS, "pool"),
        (_MOVES, "add"),
    ):
        if kind in known:
            return Operator(category, 0, learned, read, written)
    if kind in _TWO_SIDED:
        return Operator(_TWO_SIDED[kind], 0, learned, read, written)
    return None
