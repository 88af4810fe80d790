from dataclasses import replace

import pytest
import torch
from tiny_search import CONFIG, LUT, SPACE, tiny_splits

from jmsnas.nas.search import stages
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.session import Callbacks, SearchSession
from jmsnas.nas.search.stages import ArchitectureBatches, EpochRecord, StageTwo, optimizer_for
from jmsnas.nas.supernet.training import weight_step

SPLITS = tiny_splits()


def test_the_architecture_sees_every_batch_before_any_again() -> None:
    # 96 images in batches of 32: rounds of three batches, not one batch over and over.
    source = ArchitectureBatches(SPLITS.arch, 32, 0)
    seen = [source.next() for _ in range(6)]
    for first in (0, 3):
        labels = torch.cat([batch[1] for batch in seen[first : first + 3]])
        assert labels.sort().values.tolist() == SPLITS.arch.labels.sort().values.tolist()
    assert not torch.equal(seen[0][0], seen[3][0])  # the next round is in another order


def test_it_goes_on_amid_a_round() -> None:
    source = ArchitectureBatches(SPLITS.arch, 32, 0)
    for _ in range(4):
        source.next()
    state = source.state()
    assert state == {"round": 1, "taken": 1}
    other = ArchitectureBatches(SPLITS.arch, 32, 0)
    other.restore(state)
    for _ in range(5):
        assert torch.equal(source.next()[0], other.next()[0])


def test_weights_of_paths_that_were_not_drawn_stay_as_they_are() -> None:
    # Neither decay nor momentum moves them, and an optimiser that some have not met yet goes on.
    supernet = SearchSession(CONFIG, SPACE, LUT, SPLITS, Callbacks()).supernet.train()
    optimizer = optimizer_for(CONFIG, supernet)
    x, labels = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    weight_step(supernet, (x, (0, 0, 0, 0, 0)), labels, optimizer, "here")
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    weight_step(supernet, (x, (0, 1, 1, 1, 0)), labels, optimizer, "here")
    drawn = ("layers.0.0.", "layers.1.1.", "layers.2.1.", "layers.3.1.", "layers.4.0.")
    for name, p in supernet.named_parameters():
        assert torch.equal(p, before[name]) != name.startswith(drawn), name


def test_the_decay_is_the_gradient_of_lambda1_times_the_square() -> None:
    # d/dw lambda1 w^2 = 2 lambda1 w: at lambda1 = 0.25, w = 2 and no other gradient, SGD at 0.1 moves by
    # -0.1 x (1 + 0.9) x 1 = -0.19 in its first Nesterov step.
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 2.0)
    optimizer = optimizer_for(SearchConfig(lr=0.1, lambda1=0.25), module)
    module.weight.grad = torch.zeros(1, 1)
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), torch.tensor([[1.81]]))
    assert isinstance(optimizer_for(SearchConfig(optimizer="adam"), module), torch.optim.Adam)


def test_the_learning_rate_falls_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # Cosine over 2 epochs of 3 batches: 0.5 (1 + cos(pi k / 6)) = 1, 0.933, 0.75, then 0.5, 0.25, 0.067.
    rates: list[float] = []

    def noted(network: object, x: object, y: object, optimizer: torch.optim.Optimizer, where: str) -> object:
        rates.append(optimizer.param_groups[0]["lr"])
        return 1.0, 1

    monkeypatch.setattr(stages, "weight_step", noted)
    config = replace(CONFIG, lr=1.0, batch_size=32, final_epochs=2)
    two = StageTwo(config, torch.nn.Linear(1, 1), SPLITS.arch, torch.device("cpu"))
    two.run_epoch()
    two.run_epoch()
    assert rates == pytest.approx([1, 0.9330, 0.75, 0.5, 0.25, 0.0670], abs=1e-4)


def test_an_epoch_in_words() -> None:
    epoch = EpochRecord("search", 12, 0.4321, 0.8, 0.5, 0.7, 0.00212, 1.234, 3.0, 0.00198, 0.912)
    assert epoch.summary == (
        "search 12: loss 0.432, accuracy 91.2%, E[T] 2.12 ms, entropy 1.23, derived T 1.98 ms"
    )
    final = EpochRecord("final", 3, 0.1, 0.97, None, None, None, None, 1.0)
    assert final.summary == "final 3: loss 0.100, accuracy 97.0%"
