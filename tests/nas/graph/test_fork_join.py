import pytest

from jmsnas.nas.graph.fork_join import Fork, fork_of, fork_takes, tree_of
from jmsnas.topology import load_network


def test_trunk_branches_and_tail() -> None:
    # Two layers, branches of one and two, a join and one more.
    takes = ((0,), (1,), (2,), (2,), (4,), (3, 5), (6,))
    assert fork_of(takes) == Fork(range(2), (range(2, 3), range(3, 5)), range(5, 7))
    assert fork_takes(7, [[2], [3, 4]]) == takes


@pytest.mark.parametrize(
    "takes",
    [
        ((0,), (1,), (2,)),  # a chain
        ((0,), (0,), (1, 2)),  # no trunk
        ((0,), (1,), (1,), (2, 3), (2,), (4, 5)),  # a branch that is taken twice
        ((0,), (1,), (1, 2), (3,)),  # a skip
        ((0,), (1,), (1,), (2, 3), (4,), (4,), (5, 6)),  # two forks
    ],
)
def test_what_is_no_fork(takes: tuple[tuple[int, ...], ...]) -> None:
    assert fork_of(takes) is None


def test_trees_of_networks() -> None:
    tree = tree_of(load_network("mesh"))
    assert tree and (tree.root, tree.children) == ("laptop", ("mbs1", "mbs2", "mbs3"))
    assert tree_of(load_network("chain")) is None
