import math

from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.nas.graph import operator_costs
from jmsnas.nas.graph.operator_costs import count_operator

KINDS = sorted(
    {"conv2d", "linear", "einsum", "Erf", ""}
    | operator_costs.VIEWS
    | operator_costs.UNIT_STARTS
    | operator_costs._ACTIVATIONS
    | operator_costs._NORMS
    | operator_costs._MOVES
    | operator_costs._TWO_SIDED.keys()
)
SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=5).map(tuple), max_size=4)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(KINDS), SHAPES, SHAPES, SHAPES.filter(len), st.integers(-2, 9))
def test_any_shapes_have_a_cost_or_none(
    kind: str,
    inputs: list[tuple[int, ...]],
    weights: list[tuple[int, ...]],
    outs: list[tuple[int, ...]],
    groups: int,
) -> None:
    found = count_operator(kind, inputs, weights, outs[0], groups)
    if found:
        assert min(found.macs, found.parameters, found.read, found.written) >= 0
        assert found.written == math.prod(outs[0]) and found.read == sum(map(math.prod, inputs))


def test_convolutions_of_any_rank() -> None:
    for rank in (1, 2, 3):
        size = (8,) * rank
        found = count_operator("conv2d", [(1, 4, *size)], [(6, 4, *(3,) * rank)], (1, 6, *size))
        assert found and (found.kind, found.macs) == ("conv", 6 * 8**rank * 4 * 3**rank)
        single = count_operator("conv2d", [(1, 4, *size)], [(6, 4, *(1,) * rank)], (1, 6, *size))
        assert single and single.kind == "pointwise"
