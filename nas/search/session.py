"""State of a search between epochs: training stages, derivation, callbacks and checkpoints."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import nn

from jmsnas.architecture import Architecture
from jmsnas.arrays import FloatArray
from jmsnas.datasets.seeding import seeded_generator
from jmsnas.datasets.splits import DatasetSplits
from jmsnas.errors import InfeasibleError, InputError, TrainingError
from jmsnas.nas.derivation.derive import MAX_NODES, DerivedArchitecture, argmax_architecture
from jmsnas.nas.derivation.target import (
    BandStatus,
    LatencyTarget,
    check_resource_limits,
    derive_for_target,
    resolve_target,
)
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.stages import EpochCallback, EpochRecord, StageOne, StageTwo
from jmsnas.nas.supernet.architecture_step import ArchitectureStep
from jmsnas.nas.supernet.checkpoint import StateDict
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.nas.supernet.latency_loss import LatencyLoss, dimensionless_lambda2
from jmsnas.nas.supernet.subnet import extract_subnet, held_out_accuracy, most_accurate
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.nas.supernet.training import accuracy, recalibrate, training_device
from jmsnas.progress import Progress, no_progress
from jmsnas.space import SearchSpace

# Node limit of the derivation after each epoch, which needs no proof of the optimum.
_EPOCH_NODES = 3000
SaveState = Callable[[StateDict], None]


def _ignore(value: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Callbacks of a search: epoch records, progress, checkpoints; and the processes that train together.

    `save` is called with the state after each epoch, before `report`; write its tensors at once, since
    training changes them. `saved`: a state from `save` to resume from.
    """

    report: EpochCallback = _ignore
    progress: Progress = no_progress
    save: SaveState = _ignore
    saved: StateDict | None = None
    ranks: Ranks = SINGLE_PROCESS


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a search.

    Where T of `derived` is not in the band, it is the best below T_const, or it was derived by argmax (`band`
    is None). `argmax`: the likeliest candidate of each layer under its best split, as in the paper; for
    comparison. `expected_latency_s`: E[T] at the end of stage one, seconds. `inherited_accuracy` and
    `test_accuracy`: of the derived model on test images before and after stage two.
    """

    target: LatencyTarget
    architecture: Architecture
    derived: DerivedArchitecture
    in_band: bool
    argmax: DerivedArchitecture
    expected_latency_s: float
    p_NR: FloatArray
    history: tuple[EpochRecord, ...]
    inherited_accuracy: float
    test_accuracy: float
    model: nn.Sequential
    band: BandStatus | None = None


class SearchSession:
    """A search in progress; `search` and `train_shared_epochs` of search.py run it."""

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        lut: LatencyLUT,
        splits: DatasetSplits,
        callbacks: Callbacks | None = None,
        target: LatencyTarget | None = None,
    ) -> None:
        self.config, self.space, self.lut, self.splits = config, space, lut, splits
        self.callbacks = callbacks or Callbacks()
        self.target = target or resolve_target(lut, config.t_const_s)
        check_resource_limits(lut, self.target, config.band)
        self.history: list[EpochRecord] = []
        self.device = training_device(config.train_on)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.supernet = Supernet(space).to(self.device)
        self.supernet.to(memory_format=torch.channels_last)
        self.arch = self._architecture_step()
        self.one = StageOne(config, self.arch, splits, self.device, self._evaluate_derived)
        self.found: StateDict | None = None
        self.saved_two: StateDict | None = None

    def _architecture_step(self) -> ArchitectureStep:
        config, t_const_s, lambda2 = self.config, self.target.t_const_s, self.config.lambda2
        if config.lambda2_per_s2 is not None:
            lambda2 = dimensionless_lambda2(config.lambda2_per_s2, t_const_s)
        constraint = LatencyLoss(
            config.constraint, t_const_s, lambda2, config.multiplier_rate, config.entropy
        )
        draw = seeded_generator(config.seed, "paths")
        return ArchitectureStep(
            self.supernet, self.lut, constraint, config.alpha_lr, draw, self.callbacks.ranks
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set the number of threads and resume from a saved state; convert errors of the GPU."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        try:
            if self.callbacks.saved is not None:
                self._restore(self.callbacks.saved)
            yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the GPU's memory is too small for a batch of {self.config.batch_size}: take a smaller one, "
                "or --train-on cpu"
            ) from error
        except torch.AcceleratorError as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(
                f"the GPU was lost ({reason}). Finished epochs are kept: run the same command to resume"
            ) from error
        finally:
            torch.set_num_threads(threads)

    def _restore(self, saved: StateDict) -> None:
        self.history = [EpochRecord(**epoch) for epoch in saved["history"]]
        self.found, self.saved_two = saved["found"], saved["two"]
        if saved["one"] is None:
            self.one.epoch = self.one.epochs
            return
        try:
            self.one.restore(saved["one"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                "the checkpoint is of another search space or data set: remove it to start again, or give "
                "another --name"
            ) from error

    def _finish_epoch(self, epoch: EpochRecord, two: StageTwo | None = None) -> None:
        """Save the state, then report the epoch, so that every logged epoch is in the checkpoint."""
        self.history.append(epoch)
        if self.callbacks.ranks.first:
            self.callbacks.save(
                {
                    "history": [asdict(epoch) for epoch in self.history],
                    "one": None if two else self.one.state(),
                    "found": self.found,
                    "two": two.state() if two else None,
                }
            )
            self.callbacks.report(epoch)
        total = self.one.epochs + self.config.final_epochs
        self.callbacks.progress(len(self.history), total, epoch.summary)

    def stage_one(self, epochs: int) -> None:
        """Train the supernet up to an epoch of stage one."""
        while self.one.epoch < epochs:
            self._finish_epoch(self.one.run_epoch())

    def _evaluate_derived(self) -> tuple[float | None, float | None]:
        """Compute T and held-out accuracy of the model derived from the current p, if any."""
        p_NR = self.arch.probabilities().numpy()
        try:
            derived = self._derive(p_NR, 1, _EPOCH_NODES)[0][0]
        except InfeasibleError:
            return None, None
        ranks = self.callbacks.ranks
        return derived.latency_s, held_out_accuracy(self.supernet, derived, self.splits, self.device, ranks)

    def _derive(
        self, p_NR: FloatArray, count: int, max_nodes: int = MAX_NODES
    ) -> tuple[list[DerivedArchitecture], BandStatus | None]:
        if self.config.derive == "argmax":
            return [argmax_architecture(p_NR, self.lut)], None
        return derive_for_target(p_NR, self.lut, self.target, self.config.band, count, max_nodes)

    def stage_two(self) -> SearchResult:
        """Derive an architecture, train its model, and test it."""
        p_NR = self.arch.probabilities() if self.found is None else self.found["p"]
        candidates, band = self._derive(p_NR.numpy(), self.config.best)
        if self.found is None:
            chosen = most_accurate(self.supernet, candidates, self.splits, self.device, self.callbacks.ranks)
            self.found = {
                "p": p_NR,
                "chosen": chosen,
                "expected_s": self.arch.expected().latency_s,
                "inherited": None,
            }
        found, derived = self.found, candidates[self.found["chosen"]]
        model = extract_subnet(self.supernet, derived)
        if found["inherited"] is None:
            recalibrate(model, self.splits.train, self.device)
            found["inherited"] = accuracy(model, self.splits.test, self.device, ranks=self.callbacks.ranks)
        two = StageTwo(self.config, model, self.splits.train_and_arch, self.device, self.callbacks.ranks)
        if self.saved_two is not None:
            two.restore(self.saved_two)
        while two.epoch < two.epochs:
            self._finish_epoch(two.run_epoch(), two)
        return self._result(derived, band, model)

    def _result(
        self, derived: DerivedArchitecture, band: BandStatus | None, model: nn.Sequential
    ) -> SearchResult:
        assert self.found is not None
        p_NR, high_s = self.found["p"].numpy(), self.target.t_const_s
        return SearchResult(
            target=self.target,
            architecture=Architecture(tuple(self.space.choices[n][i] for n, i in enumerate(derived.indices))),
            derived=derived,
            in_band=(1 - self.config.band) * high_s <= derived.latency_s <= high_s,
            argmax=argmax_architecture(p_NR, self.lut),
            expected_latency_s=self.found["expected_s"],
            p_NR=p_NR,
            history=tuple(self.history),
            inherited_accuracy=self.found["inherited"],
            test_accuracy=accuracy(model, self.splits.test, self.device, ranks=self.callbacks.ranks),
            model=model,
            band=band,
        )
