import torch
from torch import Tensor, nn

from jmsnas.blocks import build_module
from jmsnas.nas.supernet.initialisation import initialise_as_identity
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.space import Block, Candidate, Layer
from jmsnas.space_file import load_space

KEEPS, GROWS = Layer(16, 16, 1, 8, 8), Layer(16, 24, 2, 8, 8)


def features(channels: int = 16) -> Tensor:
    return torch.randn(32, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def begun(candidate: Candidate, layer: Layer, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = build_module(Block(candidate, layer))
    initialise_as_identity(block, torch.Generator().manual_seed(1))
    return block.train()


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.detach().flatten(), b.detach().flatten()]))[0, 1])


def test_a_block_begins_as_nearly_the_identity() -> None:
    x = features()
    for seed, candidate in enumerate((Candidate(3, 3), Candidate(7, 6), Candidate(5, 6, True))):
        assert correlation(begun(candidate, KEEPS, seed)(x), x) > 0.9


def test_candidates_that_change_the_shape_begin_alike() -> None:
    x = features()
    first, second = (begun(c, GROWS, seed)(x) for seed, c in enumerate((Candidate(3, 3), Candidate(7, 6))))
    assert correlation(first, second) > 0.85
    with torch.random.fork_rng():  # as torch makes them, they have nothing in common
        torch.manual_seed(0)
        default = [build_module(Block(c, GROWS)).train()(x) for c in (Candidate(3, 3), Candidate(7, 6))]
    assert abs(correlation(*default)) < 0.3


def test_they_can_grow_apart() -> None:
    x = features()
    first, second = begun(Candidate(3, 3), KEEPS, 0)(x), begun(Candidate(5, 6), KEEPS, 1)(x)
    assert not torch.allclose(first, second, atol=0.01)


def test_what_has_no_room_for_both_signs_stays_as_it_is() -> None:
    block = build_module(Block(Candidate(3, 1), GROWS))
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    initialise_as_identity(block, torch.Generator())
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())


def test_all_paths_of_a_supernet_begin_alike() -> None:
    space = load_space("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(space).train()
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = [supernet(x, [i % len(c) for c in space.choices]) for i in (0, 4, 11, 12)]
    assert min(correlation(logits[0], other) for other in logits[1:]) > 0.5
