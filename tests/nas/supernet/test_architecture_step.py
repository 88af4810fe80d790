import pytest
import torch
from roofline_predictor import Roofline
from tiny_search import copied

from jmsnas.errors import TrainingError
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.supernet.architecture_step import ArchitectureStep
from jmsnas.nas.supernet.gates import TwoPaths
from jmsnas.nas.supernet.latency_loss import LatencyLoss
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology

SPACE = load_space("digits")
TOPOLOGY = load_topology("chain")
LUT = build_lut(SPACE, TOPOLOGY, {d.name: Roofline(load_simulated_device(d.table)) for d in TOPOLOGY.devices})
TARGET = resolve_target(LUT, None)


def step_of(
    lambda2: float, lr: float = 0.03, where: float = 1.0, kind: str = "penalty", entropy: float = 0.0
) -> ArchitectureStep:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(SPACE).train()
    gates = torch.Generator().manual_seed(0)
    constraint = LatencyLoss(kind, where * TARGET.t_const_s, lambda2, rate=0.1, entropy=entropy)
    return ArchitectureStep(supernet, LUT, constraint, lr, gates)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 10


def test_without_a_penalty_only_the_two_paths_move() -> None:
    arch = step_of(lambda2=0.0)
    before = arch.probabilities()
    arch.step(*batch())
    moved = (arch.probabilities() - before).abs() > 1e-12
    assert set(moved.sum(1).tolist()) == {0, 2} and moved.sum() == 2 * 10


def test_every_layer_is_updated_also_where_identity_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = step_of(lambda2=0.0)
    identity = tuple(len(choices) - 1 for choices in SPACE.choices)
    paths = TwoPaths(identity, (0,) * SPACE.N)
    monkeypatch.setattr("jmsnas.nas.supernet.architecture_step.sample_two_paths", lambda *_: paths)
    arch.step(*batch())
    searchable = [n for n in range(SPACE.N) if len(SPACE.choices[n]) > 1]
    assert all(arch.alpha_NR[n, identity[n]] != 0 for n in searchable)


def test_the_penalty_moves_all_candidates_towards_the_target() -> None:
    for where in (0.7, 1.3):
        arch = step_of(lambda2=2.0, lr=0.1, where=where)
        began = abs(arch.expected().latency_s / arch.constraint.t_const_s - 1)
        for _ in range(15):
            arch.step(*batch())
        assert abs(arch.expected().latency_s / arch.constraint.t_const_s - 1) < 0.7 * began
        assert (arch.alpha_NR[1] != 0).sum() == 13


def test_no_weight_and_no_statistic_moves() -> None:
    arch = step_of(lambda2=2.0)
    before = {name: tensor.clone() for name, tensor in arch.supernet.state_dict().items()}
    arch.step(*batch())
    for name, tensor in arch.supernet.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None and p.requires_grad for p in arch.supernet.parameters())


def test_the_entropy_of_flat_choices() -> None:
    # Eight layers of 13, two of 6: (8 ln 13 + 2 ln 6) / 10 = 2.4103.
    assert step_of(0.0).entropy() == pytest.approx(2.41031, abs=1e-5)


def test_a_loss_that_is_not_finite_is_one_line() -> None:
    x, labels = batch()
    with pytest.raises(
        TrainingError, match="the loss became nan in the architecture step: lower the learning"
    ):
        step_of(2.0).step(x * float("nan"), labels)


def test_the_multiplier_brings_the_likeliest_network_to_the_target() -> None:
    arch = step_of(0.0, lr=0.05, where=1.2, kind="multiplier")
    for _ in range(60):
        arch.step(*batch())
    before, arch.constraint.t_const_s = arch.constraint.multiplier, 0.01 * TARGET.t_const_s
    arch.step(*batch())
    assert arch.constraint.multiplier > before  # far slower than this target: latency weighs more


def test_the_entropy_ramp_settles_the_choices() -> None:
    free, pressed = step_of(0.0), step_of(0.0, entropy=5.0)
    for _ in range(20):
        free.step(*batch(), ramp=1.0)
        pressed.step(*batch(), ramp=1.0)
    assert pressed.entropy() < 0.9 * free.entropy()
    idle = step_of(0.0, entropy=5.0)
    for _ in range(20):
        idle.step(*batch(), ramp=0.0)  # at the beginning of the ramp it weighs nothing
    assert torch.equal(idle.alpha_NR, free.alpha_NR)


def test_a_state_brings_back_all_that_the_next_step_depends_on() -> None:
    arch = step_of(2.0, kind="multiplier")
    arch.step(*batch())
    state = copied(arch.state())
    once = [(arch.step(*batch()), arch.alpha_NR.clone(), arch.constraint.multiplier) for _ in range(2)]
    arch.restore(state)
    again = [(arch.step(*batch()), arch.alpha_NR.clone(), arch.constraint.multiplier) for _ in range(2)]
    for (told, alpha, multiplier), (told_2, alpha_2, multiplier_2) in zip(once, again, strict=True):
        assert told == told_2 and multiplier == multiplier_2 and torch.equal(alpha, alpha_2)
