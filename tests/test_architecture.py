import pytest

from jmsnas.architecture import Architecture
from jmsnas.errors import SpaceError
from jmsnas.space import HEAD, STEM, Candidate
from jmsnas.space_file import load_space


def test_architecture_indices() -> None:
    space = load_space("digits")
    architecture = Architecture(tuple(choices[-1] for choices in space.choices))
    assert architecture.indices(space) == (0, 12, 12, 12, 5, 12, 12, 12, 5, 12, 12, 0)
    assert architecture.names[4] == "mb_k7_e6"
    with pytest.raises(SpaceError, match="space digits has 12 layers, got 1"):
        Architecture((STEM,)).indices(space)
    wrong = Architecture((STEM, *(Candidate(3, 1),) * 10, HEAD))
    with pytest.raises(SpaceError, match="layer 2 cannot be mb_k3_e1: expected one of mb_k3_e3_skip"):
        wrong.indices(space)
