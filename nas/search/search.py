"""The search: warm-up, weights and architecture in turn, exact derivation, second stage (section V-B)."""

from jmsnas.datasets.splits import DatasetSplits
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.session import Callbacks, SearchResult, SearchSession
from jmsnas.space import SearchSpace


def search(
    config: SearchConfig,
    space: SearchSpace,
    lut: LatencyLUT,
    splits: DatasetSplits,
    hooks: Callbacks | None = None,
) -> SearchResult:
    """Search an architecture and its split so that T <= T_const, and train it.

    The same config, latencies and machine give the same result, also where it goes on from a saved state.
    Raises TargetError (before any training), TrainingError (a loss that is not finite, a lost GPU).
    """
    session = SearchSession(config, space, lut, splits, hooks or Callbacks())
    with session.running():
        session.stage_one(config.warmup_epochs + config.search_epochs)
        return session.stage_two()


def train_shared_epochs(
    config: SearchConfig,
    space: SearchSpace,
    lut: LatencyLUT,
    splits: DatasetSplits,
    epochs: int,
    hooks: Callbacks,
) -> None:
    """Run the first `epochs` of stage one alone: what several searches have in common. See `search`."""
    session = SearchSession(config, space, lut, splits, hooks)
    with session.running():
        session.stage_one(epochs)
