import pytest
import torch
from torch import nn

from jmsnas.datasets.splits import InMemoryImages
from jmsnas.errors import InputError, TrainingError
from jmsnas.nas.supernet.distributed import Ranks
from jmsnas.nas.supernet.training import (
    RunningMetrics,
    accuracy,
    batches,
    cosine_schedule,
    recalibrate,
    rows_of_epoch,
    steps_of_epoch,
    training_device,
    weight_step,
)

CPU = torch.device("cpu")


def images(count: int = 70) -> InMemoryImages:
    generator = torch.Generator().manual_seed(0)
    return InMemoryImages(torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % 10)


def test_an_epoch_is_every_full_batch_once() -> None:
    rows = torch.cat(rows_of_epoch(130, 64, 0, "weights", 0))
    assert len(rows) == 128 == len(set(rows.tolist()))
    assert [len(labels) for _, labels in batches(images(130), 64, 0, "weights", 0)] == [64, 64]
    assert [steps_of_epoch(count, 64) for count in (130, 64, 7)] == [2, 1, 1]
    assert [len(labels) for _, labels in batches(images(5), 64, 0, "weights", 0)] == [5]


def test_batch_b_of_an_epoch_is_the_same_whoever_asks_and_when() -> None:
    whole = list(batches(images(200), 32, 3, "weights", 7))
    rest = list(batches(images(200), 32, 3, "weights", 7, taken=4))
    assert len(whole) == 6 and len(rest) == 2
    for (x, labels), (x_2, labels_2) in zip(whole[4:], rest, strict=True):
        assert torch.equal(x, x_2) and torch.equal(labels, labels_2)
    for seed, purpose, epoch in ((4, "weights", 7), (3, "architecture", 7), (3, "weights", 8)):
        assert not torch.equal(next(batches(images(200), 32, seed, purpose, epoch))[0], whole[0][0])


def test_ranks_share_each_batch() -> None:
    both = [list(batches(images(128), 64, 0, "weights", 0, ranks=Ranks(rank, 2))) for rank in (0, 1)]
    alone = list(batches(images(128), 64, 0, "weights", 0))
    for (_, first), (_, second), (_, whole) in zip(*both, alone, strict=True):
        assert torch.equal(torch.cat([first, second]), whole) and len(first) == 32


def test_recalibrated_statistics_are_the_means_of_the_images() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1))
    model(torch.randn(4, 1, 8, 8) * 50)
    data = images(512)
    recalibrate(model, data, CPU, batch_size=256)
    norm = model[0]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, data.pixels.mean((0, 2, 3)), atol=1e-6, rtol=1e-5)
    assert norm.momentum == 0.1


def test_accuracy_counts_right_answers() -> None:
    class Says(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(torch.zeros(len(x), dtype=torch.int64), 10).float()

    assert accuracy(Says(), images(70), CPU, batch_size=32) == 0.1


def test_a_weight_step_lowers_the_loss_and_a_nan_stops() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = images()
    losses = [weight_step(model, (data.pixels,), data.labels, optimizer, "here")[0] for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    with pytest.raises(TrainingError, match="the loss became nan in here: lower the learning rate"):
        weight_step(model, (data.pixels * float("inf"),), data.labels, optimizer, "here")


def test_tally_and_schedule() -> None:
    tally = RunningMetrics()
    tally.add(2.0, 1, 4)
    tally.add(1.0, 2, 2)
    assert (tally.loss, tally.accuracy) == (pytest.approx(10 / 6), 0.5)
    assert cosine_schedule(0, 10) == 1.0 and cosine_schedule(5, 10) == pytest.approx(0.5)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on a machine that has one, too
    assert training_device("auto") == CPU
    with pytest.raises(InputError, match="no CUDA device is available: expected --train-on cpu or auto"):
        training_device("cuda")


def test_a_device_nobody_knows() -> None:
    with pytest.raises(InputError, match="cannot train on 'gpu': expected auto, cpu or cuda"):
        training_device("gpu")
