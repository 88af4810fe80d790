"""Search of section V-B: warm-up, alternating training of weights and alpha, derivation, final training."""

from jmsnas.datasets.splits import DatasetSplits
from jmsnas.nas.derivation.target import LatencyTarget
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.session import Callbacks, SearchResult, SearchSession
from jmsnas.space import SearchSpace


def search(
    config: SearchConfig,
    space: SearchSpace,
    lut: LatencyLUT,
    splits: DatasetSplits,
    callbacks: Callbacks | None = None,
    target: LatencyTarget | None = None,
) -> SearchResult:
    """Search an architecture and its split so that T <= T_const, and train it.

    `target`: the config's T_const where it was resolved before. The same config, latencies and machine give
    the same result, also when resumed from a saved state. Raises InfeasibleError before any training, and
    TrainingError for a loss that is not finite or a lost GPU.
    """
    session = SearchSession(config, space, lut, splits, callbacks, target)
    with session.running():
        session.stage_one(config.warmup_epochs + config.search_epochs)
        return session.stage_two()


def train_shared_epochs(
    config: SearchConfig,
    space: SearchSpace,
    lut: LatencyLUT,
    splits: DatasetSplits,
    epochs: int,
    callbacks: Callbacks,
    target: LatencyTarget | None = None,
) -> None:
    """Train the first `epochs` of stage one only, which several searches have in common; see `search`."""
    session = SearchSession(config, space, lut, splits, callbacks, target)
    with session.running():
        session.stage_one(epochs)
