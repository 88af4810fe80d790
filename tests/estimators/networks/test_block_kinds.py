import numpy as np
import pytest

from jmsnas.errors import EstimatorError
from jmsnas.estimators.networks.block_kinds import BlockKinds, block_kinds_of, count_blocks
from jmsnas.estimators.regression.features import ROOFLINE
from jmsnas.space import IDENTITY, Block, Candidate, Layer, Part

NEAR, FAR = Layer(8, 8, 1, 4, 4), Layer(8, 16, 2, 4, 4)
A, B, C = Block(Candidate(3, 3), NEAR), Block(IDENTITY, NEAR), Block(Candidate(5, 6), FAR)


def test_kinds_share_a_layer_where_channels_and_stride_agree() -> None:
    found = block_kinds_of([A, B, C, Block(Candidate(3, 3), Layer(8, 8, 1, 8, 8))])
    assert found.layer[0] == found.layer[1] == found.layer[3] != found.layer[2]
    assert found.work.shape == (4, len(ROOFLINE)) and not found.work[1].any()
    # Kernel size, expansion, shortcut, identity, pixels: 3, 3 and nothing at all on 16 pixels.
    assert found.choices[0] == pytest.approx([np.log(3), np.log(3), 0, 0, np.log(16)])
    assert found.choices[1] == pytest.approx([0, 0, 0, 1, np.log(16)])


def test_blocks_are_counted() -> None:
    networks = [Part((A, A, C)), Part((B, C))]
    assert count_blocks(networks, [A, B, C]).tolist() == [[2, 0, 1], [0, 1, 1]]


def test_an_unknown_block_is_named() -> None:
    with pytest.raises(EstimatorError, match=r"got a network with mb_k5_e6 8->16.*none of the 2 kinds"):
        count_blocks([Part((A, C))], [A, B])


@pytest.mark.parametrize(
    ("work", "choices", "message"),
    [
        (np.ones((3, 2)), np.ones((2, 1)), r"got work of shape \(3, 2\), layers of shape \(2,\)"),
        (np.ones((2, 2)), np.ones((3, 1)), r"expected \(kinds, amounts\), \(kinds,\) and \(kinds, choices\)"),
        (-np.ones((2, 2)), np.ones((2, 1)), "got work that is negative"),
        (np.full((2, 2), np.nan), np.ones((2, 1)), "work or choices that are not finite numbers"),
        (np.ones((2, 2)), np.full((2, 1), np.inf), "not finite numbers"),
    ],
)
def test_what_describes_no_blocks_is_refused(work: np.ndarray, choices: np.ndarray, message: str) -> None:
    with pytest.raises(EstimatorError, match=message):
        BlockKinds(work, np.array([0, 1]), choices)
