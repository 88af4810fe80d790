import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jmsnas.architecture import Architecture
from jmsnas.blocks import build_module
from jmsnas.nas.supernet.gates import TwoPaths, sample_path, sample_two_paths
from jmsnas.nas.supernet.supernet import Supernet, gate
from jmsnas.space import Block
from jmsnas.space_file import load_space

SPACE = load_space("digits")


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Supernet(SPACE).train()


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def statistics(module: nn.Module) -> list[Tensor]:
    return [part.running_mean.clone() for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def test_equation_8_the_gates_gradient_is_the_path_output_times_the_gradient() -> None:
    v = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    w = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    gates = torch.ones(2, requires_grad=True)
    y = gate(v, w, gates)
    assert torch.equal(y, v)
    (y**2).sum().backward()
    # The same by autograd through g_a v + g_b w at g = (1, 0).
    g = torch.tensor([1.0, 0.0], requires_grad=True)
    u = v.detach().clone().requires_grad_()
    ((g[0] * u + g[1] * w) ** 2).sum().backward()
    assert gates.grad is not None and g.grad is not None and v.grad is not None and u.grad is not None
    torch.testing.assert_close(gates.grad, g.grad)
    torch.testing.assert_close(v.grad, u.grad)


def paths_of(supernet: Supernet, seed: int) -> TwoPaths:
    mask = torch.tensor([[i < len(c) for i in range(SPACE.R)] for c in SPACE.choices])
    p = mask / mask.sum(1, keepdim=True)
    return sample_two_paths(p, mask, torch.Generator().manual_seed(seed))


def test_two_paths_give_the_gradients_of_a_mixture(supernet: Supernet) -> None:
    # Reference: every layer g_a v_a(x) + g_b v_b(x), all with a graph, at g = (1, 0).
    paths, x, labels = paths_of(supernet, 3), images(), torch.arange(8) % 10
    gates = torch.ones(SPACE.N, 2, requires_grad=True)
    F.cross_entropy(supernet.forward_two(x, paths, gates), labels).backward()
    g = torch.tensor([[1.0, 0.0]] * SPACE.N, requires_grad=True)
    y = x
    for n, (a, b) in enumerate(zip(paths.active, paths.other, strict=True)):
        first = supernet.candidate(n, a)(y)
        y = first if a == b else g[n, 0] * first + g[n, 1] * supernet.candidate(n, b)(y)
    F.cross_entropy(y, labels).backward()
    assert gates.grad is not None and g.grad is not None
    several = [n for n in range(SPACE.N) if paths.active[n] != paths.other[n]]
    torch.testing.assert_close(gates.grad[several], g.grad[several], rtol=1e-4, atol=1e-6)
    supernet.zero_grad()


def test_one_path_equals_its_blocks_and_leaves_the_others_alone(supernet: Supernet) -> None:
    active = [len(choices) - 1 for choices in SPACE.choices]
    logits = supernet(images(), active)
    assert logits.shape == (8, 10)
    supernet.zero_grad()
    logits.sum().backward()
    touched = {
        (n, i)
        for n in range(SPACE.N)
        for i in range(len(SPACE.choices[n]))
        if any(p.grad is not None for p in supernet.candidate(n, i).parameters())
    }
    assert touched == {(n, i) for n, i in enumerate(active) if SPACE.choices[n][i].op != "identity"}
    supernet.zero_grad()


def test_no_statistics_move_in_the_supernet(supernet: Supernet) -> None:
    before = statistics(supernet)
    supernet(images(), [0] * SPACE.N)
    supernet.forward_two(images(), paths_of(supernet, 0), torch.ones(SPACE.N, 2, requires_grad=True))
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(supernet), strict=True))


def test_the_second_path_keeps_no_graph(supernet: Supernet) -> None:
    kept: list[torch.Size] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    paths = paths_of(supernet, 5)
    supernet.requires_grad_(False)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        supernet.forward_two(images(), paths, torch.ones(SPACE.N, 2, requires_grad=True))
        two = len(kept)
        kept.clear()
        alone = TwoPaths(paths.active, paths.active)
        supernet.requires_grad_(True)
        supernet.forward_two(images(), alone, torch.ones(SPACE.N, 2, requires_grad=True))
        one = len(kept)
    # Beyond the active path's own tensors only the two outputs of each gate are kept.
    assert two <= one + 2 * SPACE.N


def test_the_derived_network_has_the_supernets_weights(supernet: Supernet) -> None:
    generator = torch.Generator().manual_seed(2)
    p = torch.tensor([[float(i < len(c)) for i in range(SPACE.R)] for c in SPACE.choices])
    path = sample_path(p, generator)
    architecture = Architecture(tuple(SPACE.choices[n][i] for n, i in enumerate(path)))
    derived = copy.deepcopy(supernet.derived(architecture)).train()
    torch.testing.assert_close(derived(images()), supernet(images(), path))


def test_what_was_measured_is_what_is_searched(supernet: Supernet) -> None:
    # One builder: the supernet's module has the keys and shapes of the one that is timed.
    timed = build_module(Block(SPACE.choices[1][0], SPACE.layers[1]))
    shapes = {name: tensor.shape for name, tensor in timed.state_dict().items()}
    assert {name: t.shape for name, t in supernet.candidate(1, 0).state_dict().items()} == shapes


MESH = load_space("digits", branches=3)


@pytest.fixture(scope="module")
def mesh_supernet() -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Supernet(MESH).train()


def test_branches_run_beside_one_another_and_are_summed(mesh_supernet: Supernet) -> None:
    active = tuple(len(choices) - 1 for choices in MESH.choices)
    x = y = images()
    for n in range(5):
        y = mesh_supernet.candidate(n, active[n])(y)
    # All branches are Identity here: the sum is three times the trunk's output.
    z = 3 * y
    for n in range(14, 18):
        z = mesh_supernet.candidate(n, active[n])(z)
    torch.testing.assert_close(mesh_supernet(x, active), z)


def test_each_branch_has_its_own_layers_and_gates(mesh_supernet: Supernet) -> None:
    mask = torch.tensor([[i < len(c) for i in range(MESH.R)] for c in MESH.choices])
    paths = sample_two_paths(mask / mask.sum(1, keepdim=True), mask, torch.Generator().manual_seed(3))
    gates = torch.ones(MESH.N, 2, requires_grad=True)
    F.cross_entropy(mesh_supernet.forward_two(images(), paths, gates), torch.arange(8) % 10).backward()
    assert gates.grad is not None
    several = mask.sum(1) > 1
    assert (gates.grad[several] != 0).any(1).all() and (gates.grad[~several] == 0).all()
    first, second = (mesh_supernet.candidate(branch[0], 0) for branch in MESH.branches[:2])
    assert {id(p) for p in first.parameters()}.isdisjoint(id(p) for p in second.parameters())


def test_a_derived_mesh_runs_as_its_path(mesh_supernet: Supernet) -> None:
    active = tuple(n % len(choices) for n, choices in enumerate(MESH.choices))
    architecture = Architecture(tuple(c[i] for c, i in zip(MESH.choices, active, strict=True)))
    model = mesh_supernet.derived(architecture)
    torch.testing.assert_close(model(images()), mesh_supernet(images(), active))
    assert len(model) == MESH.N
    assert torch.equal(copy.deepcopy(model)(images()), model(images()))
