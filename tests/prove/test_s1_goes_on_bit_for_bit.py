"""S1: a search that is killed and resumed ends bit for bit as an uninterrupted one."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prove.proof import LEVEL, Proof
from prove.searched import finish, finish_without_fsync, without
from tiny_search import CONFIG, LUT, SPACE, copied, digest, tiny_splits

from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Callbacks, SearchResult
from jmsnas.nas.supernet.checkpoint import StateDict

TESTS = Path(__file__).parents[1]
# The state that the next epoch of stage one depends on: a search that loses a piece must end differently.
PIECES = ("weights", "optimizer", "alpha", "adam", "paths", "held_out")


@pytest.fixture(scope="module")
def whole() -> tuple[SearchResult, list[StateDict]]:
    """Run an uninterrupted search, and keep its state after each epoch."""
    states: list[StateDict] = []
    hooks = Callbacks(save=lambda state: states.append(copied(state)))
    return search(CONFIG, SPACE, LUT, tiny_splits(), hooks), states


# A process that has imported everything and run nothing: a fork of this one, in which torch's threads have
# run, would wait for them for ever.
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["prove.searched", "torch._dynamo"])  # an optimiser imports the latter


def killed(folder: Path, after_s: float) -> bool:
    """Start a search and kill it after some time; return whether it was still running."""
    child = CLEAN.Process(target=finish_without_fsync, args=(folder,))
    child.start()
    child.join(after_s)
    child.kill()
    child.join()
    return child.exitcode != 0


def test_kill_at_random_moments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[SearchResult, list[StateDict]],
    proof: Proof,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # so that the fork server can import them
    kills, met, begun = proof.count(8, prove=20, long=200), 0, 0
    for name in ("first", "timed"):  # the first one includes the start of the fork server
        (tmp_path / name).mkdir()
        began = time.monotonic()
        assert not killed(tmp_path / name, 600)
        lasts_s = time.monotonic() - began
    for seed in range(10 * kills):
        folder = tmp_path / str(seed)
        folder.mkdir()
        generator = random.Random(seed)
        times = generator.randint(1, 3)  # kills in a row before it runs to the end
        met += sum(killed(folder, generator.random() * lasts_s) for _ in range(times))
        begun += (folder / "checkpoint.pt").exists()
        assert finish(folder) == digest(whole[0]), f"seed {seed}"
        if met >= kills:
            break
    assert met >= kills and (begun > seed / 3 or not LEVEL), "too little was going on to show anything"
    proof.show(f"{met} kills of {seed + 1} searches, {begun} of them after an epoch: 0 ended differently")


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_that_is_not_saved_is_missed(
    piece: str, whole: tuple[SearchResult, list[StateDict]], proof: Proof
) -> None:
    result, states = whole
    saved = states[1]  # after the first epoch that changed the alphas
    forgotten = search(CONFIG, SPACE, LUT, tiny_splits(), Callbacks(saved=without(copied(saved), piece)))
    assert digest(forgotten) != digest(result)
    kept = search(CONFIG, SPACE, LUT, tiny_splits(), Callbacks(saved=copied(saved)))
    assert digest(kept) == digest(result)
    proof.show("a missing piece of the checkpoint was detected")


def test_s2_the_same_seed_in_two_processes(
    tmp_path: Path, whole: tuple[SearchResult, list[StateDict]], proof: Proof
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "prove.searched", str(tmp_path)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == digest(whole[0])
    proof.show("S2: the same seed in another process: the same bits")
