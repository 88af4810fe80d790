"""A search between two epochs: what was trained, what was found, the log; it can go on from what it kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jmsnas.architecture import Architecture
from jmsnas.datasets.seeding import generator
from jmsnas.datasets.splits import Splits
from jmsnas.errors import InputError, TargetError, TrainingError
from jmsnas.nas.derivation.derive import MOST_NODES, Derived, argmax_network
from jmsnas.nas.derivation.target import Band, Target, check_limits, choose_target, derive_for
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.stages import Epoch, Report, StageOne, StageTwo
from jmsnas.nas.supernet.architecture_step import ArchitectureStep
from jmsnas.nas.supernet.checkpoint import State
from jmsnas.nas.supernet.distributed import ALONE, Ranks
from jmsnas.nas.supernet.latency_loss import Constraint, dimensionless
from jmsnas.nas.supernet.subnet import held_out_accuracy, inherited, most_accurate
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.nas.supernet.training import accuracy, device_for, recalibrate
from jmsnas.progress import Progress, silent
from jmsnas.space import SearchSpace

# Where the network of an epoch is derived, a proof of the optimum is not waited for.
_NODES_NOW = 3000
Save = Callable[[State], None]


def _unheard(epoch: Epoch) -> None:
    """Report to nobody."""


def _forgotten(state: State) -> None:
    """Keep nothing."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a search tells, and to whom.

    Attributes
    ----------
    report
        Gets every epoch of the log as it ends.
    progress
        Gets how far the search is.
    save
        Gets the state after each epoch, before it is reported; its tensors live on, so write them at once.
    saved
        A state to go on from, as `save` got it.
    ranks
        The processes that train together.
    """

    report: Report = _unheard
    progress: Progress = silent
    save: Save = _forgotten
    saved: State | None = None
    ranks: Ranks = ALONE


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    derived, in_band
        The network and its split. `in_band` is False where its T is not in the band: `band` says what is
        known of that, and this network is the best below T_const; or it was derived by argmax (None).
    argmax
        The likeliest candidate of each layer under its best split, as the paper derives: to compare.
    expected_latency_s
        E[T] at the end of stage one, seconds.
    inherited_accuracy, test_accuracy
        Of the derived network on the test images, before and after stage two.
    network
        The derived network, trained.
    """

    target: Target
    architecture: Architecture
    derived: Derived
    in_band: bool
    argmax: Derived
    expected_latency_s: float
    p_NR: NDArray[np.float64]
    history: tuple[Epoch, ...]
    inherited_accuracy: float
    test_accuracy: float
    network: nn.Sequential
    band: Band | None = None


class Session:
    """See the head of this file; `search` and `begin_search` (search.py) drive it."""

    def __init__(
        self, config: SearchConfig, space: SearchSpace, lut: LatencyLUT, splits: Splits, hooks: Hooks
    ) -> None:
        self.config, self.space, self.lut, self.splits, self.hooks = config, space, lut, splits, hooks
        self.target = choose_target(lut, config.t_const_s)
        check_limits(lut, self.target, config.band)
        self.history: list[Epoch] = []
        self.device = device_for(config.train_on)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.supernet = Supernet(space).to(self.device)
        self.supernet.to(memory_format=torch.channels_last)
        self.arch = self._architecture_step()
        self.one = StageOne(config, self.arch, splits, self.device, self._now)
        self.found: State | None = None
        self.saved_two: State | None = None

    def _architecture_step(self) -> ArchitectureStep:
        config, t_const_s = self.config, self.target.t_const_s
        lambda2, own = config.lambda2, config.lambda2_per_s2
        constraint = Constraint(
            config.constraint,
            t_const_s,
            lambda2 if own is None else dimensionless(own, t_const_s),
            config.multiplier_rate,
            config.entropy,
        )
        draw = generator(config.seed, "paths")
        return ArchitectureStep(self.supernet, self.lut, constraint, config.alpha_lr, draw, self.hooks.ranks)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Go on from what was saved, with the threads asked for; say in one line what ends it."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        try:
            if self.hooks.saved is not None:
                self._restore(self.hooks.saved)
            yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the GPU's memory is too small for a batch of {self.config.batch_size}: take a smaller one, "
                "or --train-on cpu"
            ) from error
        except torch.AcceleratorError as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(
                f"the GPU was lost ({reason}). What was finished is kept: the same command goes on"
            ) from error
        finally:
            torch.set_num_threads(threads)

    def _restore(self, saved: State) -> None:
        self.history = [Epoch(**epoch) for epoch in saved["history"]]
        self.found, self.saved_two = saved["found"], saved["two"]
        if saved["one"] is None:
            self.one.epoch = self.one.epochs
            return
        try:
            self.one.restore(saved["one"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                "the checkpoint is of another search space or data set: remove it to begin again, or give "
                "another --name"
            ) from error

    def _ended(self, epoch: Epoch, two: StageTwo | None = None) -> None:
        """Keep the state, then log the epoch: what the log says was never lost."""
        self.history.append(epoch)
        if self.hooks.ranks.first:
            self.hooks.save(
                {
                    "history": [asdict(epoch) for epoch in self.history],
                    "one": None if two else self.one.state(),
                    "found": self.found,
                    "two": two.state() if two else None,
                }
            )
            self.hooks.report(epoch)
        total = self.one.epochs + self.config.final_epochs
        self.hooks.progress(len(self.history), total, epoch.words)

    def stage_one(self, epochs: int) -> None:
        """Train the supernet up to an epoch of stage one."""
        while self.one.epoch < epochs:
            self._ended(self.one.run_epoch())

    def _now(self) -> tuple[float | None, float | None]:
        """T and held-out accuracy of the network that would be derived now; none where none was found."""
        p_NR = self.arch.probabilities().numpy()
        try:
            derived = self._networks(p_NR, 1, _NODES_NOW)[0][0]
        except TargetError:
            return None, None
        right = held_out_accuracy(self.supernet, derived, self.splits, self.device, self.hooks.ranks)
        return derived.latency_s, right

    def _networks(
        self, p_NR: NDArray[np.float64], count: int, most_nodes: int = MOST_NODES
    ) -> tuple[list[Derived], Band | None]:
        if self.config.derive == "argmax":
            return [argmax_network(p_NR, self.lut)], None
        return derive_for(p_NR, self.lut, self.target, self.config.band, count, most_nodes)

    def stage_two(self) -> SearchResult:
        """Derive, train the derived network on, and test it."""
        p_NR = self.arch.probabilities() if self.found is None else self.found["p"]
        networks, band = self._networks(p_NR.numpy(), self.config.best)
        if self.found is None:
            chosen = most_accurate(self.supernet, networks, self.splits, self.device, self.hooks.ranks)
            self.found = {
                "p": p_NR,
                "chosen": chosen,
                "expected_s": self.arch.expected().latency_s,
                "inherited": None,
            }
        found, derived = self.found, networks[self.found["chosen"]]
        network = inherited(self.supernet, derived)
        if found["inherited"] is None:
            recalibrate(network, self.splits.train, self.device)
            found["inherited"] = accuracy(network, self.splits.test, self.device, ranks=self.hooks.ranks)
        two = StageTwo(self.config, network, self.splits.train_and_arch, self.device, self.hooks.ranks)
        if self.saved_two is not None:
            two.restore(self.saved_two)
        while two.epoch < two.epochs:
            self._ended(two.run_epoch(), two)
        return self._result(derived, band, network)

    def _result(self, derived: Derived, band: Band | None, network: nn.Sequential) -> SearchResult:
        assert self.found is not None
        p_NR: NDArray[np.float64] = self.found["p"].numpy()
        high_s = self.target.t_const_s
        return SearchResult(
            target=self.target,
            architecture=Architecture(tuple(self.space.choices[n][i] for n, i in enumerate(derived.indices))),
            derived=derived,
            in_band=(1 - self.config.band) * high_s <= derived.latency_s <= high_s,
            argmax=argmax_network(p_NR, self.lut),
            expected_latency_s=self.found["expected_s"],
            p_NR=p_NR,
            history=tuple(self.history),
            inherited_accuracy=self.found["inherited"],
            test_accuracy=accuracy(network, self.splits.test, self.device, ranks=self.hooks.ranks),
            network=network,
            band=band,
        )
