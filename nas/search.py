"""The search: warm-up, weights and architecture in turn, exact derivation, second stage (section V-B)."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jmsnas.datasets.splits import Splits
from jmsnas.errors import TargetError
from jmsnas.nas.architecture_step import ArchitectureStep
from jmsnas.nas.config import SearchConfig
from jmsnas.nas.derive import Derived, argmax_network, derive, feasible_range_s
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.stages import Epoch, Report, stage_one, stage_two
from jmsnas.nas.supernet import Supernet
from jmsnas.nas.training import accuracy, device_for, recalibrate
from jmsnas.progress import Progress, silent
from jmsnas.space import Architecture, SearchSpace
from jmsnas.units import format_duration


@dataclass(frozen=True, slots=True)
class Target:
    """T_const, and the range of T that networks reach under their best split; seconds."""

    t_const_s: float
    fastest_s: float
    slowest_s: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    derived, in_band
        The network and its split; `in_band` is False where no network's T lies in the band, and `derived` is
        then the best below T_const.
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


def choose_target(lut: LatencyLUT, t_const_s: float | None) -> Target:
    """Check T_const against the feasible range, or take its middle. Raises TargetError."""
    fastest_s, slowest_s = feasible_range_s(lut)
    middle_s = (fastest_s + slowest_s) / 2
    if t_const_s is not None and t_const_s < fastest_s:
        raise TargetError(
            f"no network meets T_const {format_duration(t_const_s)} on {' - '.join(lut.devices)}: "
            f"the feasible range is {format_duration(fastest_s)} to {format_duration(slowest_s)}. "
            f"Try --t-const {middle_s * 1e3:.3g}ms"
        )
    return Target(middle_s if t_const_s is None else t_const_s, fastest_s, slowest_s)


def derive_for(
    p_NR: NDArray[np.float64], lut: LatencyLUT, target: Target, band: float
) -> tuple[Derived, bool]:
    """Derive in the band; where it holds no network, or T_const is above all of them, the best below T_const.

    Returns the network and whether it is in the band. Raises TargetError when nothing was found.
    """
    if target.t_const_s <= target.slowest_s:
        found = derive(p_NR, lut, (1 - band) * target.t_const_s, target.t_const_s)
        if found:
            return found, True
    found = derive(p_NR, lut, 0.0, target.t_const_s)
    if not found:
        raise TargetError(
            f"no network with T <= {format_duration(target.t_const_s)} was found: raise --t-const"
        )
    return found, False


def search(
    config: SearchConfig,
    space: SearchSpace,
    lut: LatencyLUT,
    splits: Splits,
    report: Report = lambda epoch: None,
    progress: Progress = silent,
) -> SearchResult:
    """Search an architecture and its split so that T <= T_const, and train it.

    The same config, latencies and machine give the same result. `report` gets every epoch of the log as it
    ends. Raises TargetError (before any training), TrainingError.
    """
    target = choose_target(lut, config.t_const_s)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _search(config, space, lut, splits, target, _Recorder(config, report, progress))
    finally:
        torch.set_num_threads(threads)


class _Recorder:
    """Keeps the log, hands it on, and says how far the search is."""

    def __init__(self, config: SearchConfig, report: Report, progress: Progress) -> None:
        self.epochs: list[Epoch] = []
        self.total = config.warmup_epochs + config.search_epochs + config.final_epochs
        self.report, self.progress = report, progress

    def __call__(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        self.report(epoch)
        expected = epoch.expected_latency_s
        at = f", E[T] {format_duration(expected)}" if expected else ""
        self.progress(len(self.epochs), self.total, f"{epoch.stage} {epoch.epoch}: loss {epoch.loss:.3f}{at}")


def _search(
    config: SearchConfig,
    space: SearchSpace,
    lut: LatencyLUT,
    splits: Splits,
    target: Target,
    recorder: _Recorder,
) -> SearchResult:
    device = device_for(config.train_on)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        supernet = Supernet(space).to(device)
    supernet.to(memory_format=torch.channels_last)
    gates = torch.Generator().manual_seed(config.seed + 3)
    arch = ArchitectureStep(supernet, lut, target.t_const_s, config.lambda2, config.alpha_lr, gates)
    stage_one(config, arch, splits, device, recorder)
    p_NR, expected_s = arch.probabilities().numpy(), arch.expected().latency_s
    derived, in_band = derive_for(p_NR, lut, target, config.band)
    architecture = Architecture(tuple(space.choices[n][i] for n, i in enumerate(derived.indices)))
    network = copy.deepcopy(supernet.derived(architecture))
    recalibrate(network, splits.train, device)
    inherited = accuracy(network, splits.test, device)
    stage_two(config, network, splits.train_and_arch, device, recorder)
    return SearchResult(
        target=target,
        architecture=architecture,
        derived=derived,
        in_band=in_band,
        argmax=argmax_network(p_NR, lut),
        expected_latency_s=expected_s,
        p_NR=p_NR,
        history=tuple(recorder.epochs),
        inherited_accuracy=inherited,
        test_accuracy=accuracy(network, splits.test, device),
        network=network,
    )
