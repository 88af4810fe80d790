import torch
from tiny_search import LUT, SPACE, tiny_splits

from jmsnas.datasets.splits import InMemoryImages
from jmsnas.nas.derivation.derive import DerivedArchitecture, argmax_architecture
from jmsnas.nas.supernet.subnet import extract_subnet, held_out_accuracy, most_accurate
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.nas.supernet.training import weight_step

CPU, SPLITS = torch.device("cpu"), tiny_splits()


def network(index: int) -> DerivedArchitecture:
    p_NR = LUT.mask_NR * 1.0
    p_NR[1:4, index] = 2.0
    return argmax_architecture(p_NR, LUT)


def test_the_most_accurate_is_the_one_whose_weights_were_trained() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(SPACE).train()
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1, 0.9)
    images = SPLITS.train_and_arch
    assert isinstance(images, InMemoryImages)
    trained = network(1)
    for _ in range(60):
        weight_step(supernet, (images.pixels, trained.indices), images.labels, optimizer, "here")
    with torch.no_grad():  # the other path's own weights lead nowhere
        for part in supernet.candidate(2, 0).parameters():
            part.zero_()
        for part in supernet.candidate(1, 0).parameters():
            part.zero_()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    networks = [network(0), trained]
    right = [held_out_accuracy(supernet, derived, SPLITS, CPU) for derived in networks]
    assert right[1] > right[0] + 0.2
    assert most_accurate(supernet, networks, SPLITS, CPU) == 1
    assert most_accurate(supernet, [trained, trained], SPLITS, CPU) == 0  # of equals the likeliest
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_statistics_of_an_inherited_network_move_when_it_is_trained() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(SPACE)
    alone = extract_subnet(supernet, network(0)).train()
    norm = next(part for part in alone.modules() if isinstance(part, torch.nn.BatchNorm2d))
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    alone(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(norm.running_mean, before)
