"""Two processes over gloo, as torchrun starts them; beside them one process that runs both halves itself."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_search import CONFIG, LUT, SPACE, tiny_splits
from torch import Tensor
from torch.nn import functional as F
from train_ranked import STEPS

from jmsnas.nas.search.session import Callbacks, SearchSession
from jmsnas.nas.search.stages import ArchitectureBatches
from jmsnas.nas.supernet.checkpoint import StateDict
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.nas.supernet.gates import alpha_gradient, renormalise, sample_two_paths
from jmsnas.nas.supernet.training import batches

SCRIPT = Path(__file__).parents[2] / "helpers" / "train_ranked.py"


def torchrun(folder: Path) -> list[Any]:
    """Run train_ranked.py in two processes, each with one thread; give what each found."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    words = ["--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, str(SCRIPT)]
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def halves_in_one_process() -> tuple[list[float], Tensor, StateDict]:
    """Run the same half batches in one process: statistics of their own each, gradients averaged by hand."""
    session = SearchSession(CONFIG, SPACE, LUT, tiny_splits(), Callbacks())
    one, arch, supernet = session.one, session.arch, session.supernet.train()
    ranks = [Ranks(rank, 2) for rank in (0, 1)]
    held = [ArchitectureBatches(one.splits.arch, CONFIG.batch_size, CONFIG.seed, rank) for rank in ranks]
    streams = [batches(one.splits.train, 16, 0, "weights", 0, ranks=rank) for rank in ranks]
    losses: list[float] = []
    for _ in range(STEPS):
        path = arch.sample_path()
        one.optimizer.zero_grad(set_to_none=True)
        both = [F.cross_entropy(supernet(x, path), labels) for x, labels in map(next, streams)]
        ((both[0] + both[1]) / 2).backward()
        one.optimizer.step()
        losses.append(float(both[0].detach()))
        p_NR = arch.probabilities()
        paths = sample_two_paths(p_NR, arch.mask_NR, arch.generator)
        found = [arch._gate_gradients(*source.next(), paths)[0] for source in held]
        penalty = torch.from_numpy(arch.constraint.gradient(p_NR.numpy(), LUT.expected(p_NR.numpy()), 0))
        before = arch.alpha_NR.clone()
        arch.alpha_NR.grad = alpha_gradient((found[0] + found[1]) / 2, p_NR, paths) + penalty
        arch.adam.step()
        renormalise(arch.alpha_NR, before - arch._scaled(penalty), paths)
    return losses, arch.alpha_NR, supernet.state_dict()


def test_alphas_are_equal_to_the_last_bit_and_the_loss_is_that_of_one_process(tmp_path: Path) -> None:
    (first, weights, ends), (second, weights_2, ends_2) = torchrun(tmp_path)
    assert len(first) == STEPS
    assert [alpha for _, alpha in first] == [alpha for _, alpha in second]
    trained = [name for name in weights if name.endswith(("weight", "bias"))]
    assert all(torch.equal(weights[name], weights_2[name]) for name in trained)
    losses, _, alone = halves_in_one_process()
    assert [loss for loss, _ in first] == pytest.approx(losses, rel=1e-5)
    for name in trained:
        torch.testing.assert_close(weights[name], alone[name], rtol=1e-3, atol=1e-5)
    # A whole search: the same network, weights, log and accuracies on both ranks, and when it goes on.
    assert len({*ends, *ends_2}) == 1


def test_one_process_alone_is_left_as_it_is() -> None:
    values, module = torch.ones(3), torch.nn.Linear(2, 2)
    assert (
        SINGLE_PROCESS.first
        and SINGLE_PROCESS.mean(values) is values
        and SINGLE_PROCESS.total([1, 2.5]) == [1, 2.5]
    )
    assert SINGLE_PROCESS.wrap(module, one_path=True) is module
    rows = [torch.arange(4), torch.arange(4, 6)]
    assert [chosen.tolist() for chosen in SINGLE_PROCESS.share(rows)] == [[0, 1, 2, 3], [4, 5]]
    assert [chosen.tolist() for chosen in Ranks(1, 2).share(rows)] == [[2, 3], [5]]
