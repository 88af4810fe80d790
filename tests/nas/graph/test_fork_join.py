import pytest

from jmsnas.nas.graph.fork_join import ForkJoin, find_fork_join, fork_join_inputs, mesh_tree
from jmsnas.topology import load_topology


def test_trunk_branches_and_tail() -> None:
    # Two layers, branches of one and two, a join and one more.
    inputs = ((0,), (1,), (2,), (2,), (4,), (3, 5), (6,))
    assert find_fork_join(inputs) == ForkJoin(range(2), (range(2, 3), range(3, 5)), range(5, 7))
    assert fork_join_inputs(7, [[2], [3, 4]]) == inputs


def test_branches_may_begin_at_the_raw_input() -> None:
    found = find_fork_join(((0,), (0,), (1, 2)))
    assert found == ForkJoin(range(0), (range(1), range(1, 2)), range(2, 3))


@pytest.mark.parametrize(
    "inputs",
    [
        ((0,), (1,), (2,)),  # a chain
        ((0,), (1,), (1,), (2, 3), (2,), (4, 5)),  # a branch that is taken twice
        ((0,), (1,), (1, 2), (3,)),  # a skip
        ((0,), (1,), (1,), (2, 3), (4,), (4,), (5, 6)),  # two forks
    ],
)
def test_what_is_no_fork(inputs: tuple[tuple[int, ...], ...]) -> None:
    assert find_fork_join(inputs) is None


def test_trees_of_networks() -> None:
    tree = mesh_tree(load_topology("mesh"))
    assert tree and (tree.root, tree.children) == ("laptop", ("mbs1", "mbs2", "mbs3"))
    assert mesh_tree(load_topology("chain")) is None
