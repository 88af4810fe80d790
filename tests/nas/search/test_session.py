"""Going on from a state; what ends a search in one line. That a kill costs nothing: tests/prove/test_s1*."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from tiny_search import CONFIG, LUT, SPACE, copied, digest, tiny_splits

from jmsnas.errors import TrainingError
from jmsnas.nas.search.search import search, train_shared_epochs
from jmsnas.nas.search.session import Callbacks, SearchResult
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.checkpoint import StateDict

SPLITS = tiny_splits()


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[SearchResult, list[StateDict]]]:
    """An uninterrupted search, and its state after each epoch."""
    states: list[StateDict] = []
    hooks = Callbacks(save=lambda state: states.append(copied(state)))
    yield search(CONFIG, SPACE, LUT, SPLITS, hooks), states


def test_from_every_epoch_on_it_ends_the_same(whole: tuple[SearchResult, list[StateDict]]) -> None:
    result, states = whole
    assert len(states) == 5
    for state in states:
        assert digest(search(CONFIG, SPACE, LUT, SPLITS, Callbacks(saved=copied(state)))) == digest(result)


def test_the_state_is_kept_before_the_log_tells_of_it() -> None:
    kept, told = list[int](), list[int]()

    def report(epoch: EpochRecord) -> None:
        told.append(len(kept))

    train_shared_epochs(CONFIG, SPACE, LUT, SPLITS, 2, Callbacks(report, save=lambda state: kept.append(1)))
    assert told == [1, 2]


def test_what_is_shared_is_the_beginning_of_the_whole(whole: tuple[SearchResult, list[StateDict]]) -> None:
    result, _ = whole
    states: list[StateDict] = []
    hooks = Callbacks(save=lambda state: states.append(copied(state)))
    train_shared_epochs(CONFIG, SPACE, LUT, SPLITS, CONFIG.warmup_epochs, hooks)
    assert digest(search(CONFIG, SPACE, LUT, SPLITS, Callbacks(saved=states[-1]))) == digest(result)


def test_the_most_accurate_of_the_best_is_taken_and_argmax_is_the_likeliest() -> None:
    paper = search(dataclasses.replace(CONFIG, derive="argmax"), SPACE, LUT, SPLITS)
    assert paper.derived.indices == paper.argmax.indices
    p_NR = paper.p_NR
    assert all(p_NR[n, i] == p_NR[n].max() for n, i in enumerate(paper.derived.indices))


def test_the_paper_s_penalty_in_seconds_squared_is_converted() -> None:
    result = search(CONFIG, SPACE, LUT, SPLITS)
    per_s2 = CONFIG.lambda2 / result.target.t_const_s**2
    converted = search(dataclasses.replace(CONFIG, lambda2=0.0, lambda2_per_s2=per_s2), SPACE, LUT, SPLITS)
    torch.testing.assert_close(torch.tensor(converted.p_NR), torch.tensor(result.p_NR))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "memory is too small for a batch of 32: take a smaller",
        ),
        (
            torch.AcceleratorError("CUDA error: unspecified launch failure\nmore", 719),
            "the GPU was lost .*launch failure.*run the same command to resume",
        ),
    ],
)
def test_a_gpu_that_is_lost_or_too_small_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def lost(*_: object) -> None:
        raise error

    monkeypatch.setattr("jmsnas.nas.search.stages.weight_step", lost)
    with pytest.raises(TrainingError, match=message) as caught:
        search(CONFIG, SPACE, LUT, SPLITS)
    assert "\n" not in str(caught.value)


def test_the_callers_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    train_shared_epochs(dataclasses.replace(CONFIG, threads=before + 1), SPACE, LUT, SPLITS, 1, Callbacks())
    assert torch.get_num_threads() == before
