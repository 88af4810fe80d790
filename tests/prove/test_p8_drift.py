"""P8: a host that becomes 10 % slower half way changes ratios by less than 0.5 % (95th percentile)."""

import numpy as np
from prove.fake_clock import FakeHost
from prove.proof import Proof

from jmsnas.profiler.timing.paired_timing import Clocks, TimingConfig, measure

BLOCKS_S = (20e-6, 80e-6, 130e-6, 700e-6)
# No block finishes before the last round, so that each has half of its samples after the change.
CONFIG = TimingConfig(budget_s=1e9, target=1e-12, max_rounds=60)


def ratios(host: FakeHost, seed: int) -> dict[int, float]:
    found: dict[int, float] = {}

    def finished(index: int, measurement: object) -> None:
        found[index] = measurement.ratio  # type: ignore[attr-defined]

    blocks = [host.timed(seconds) for seconds in BLOCKS_S]
    measure(blocks, [host.timed(1e-4)], finished, CONFIG, seed, clocks=Clocks(host.clock))
    return found


def test_drift_half_way(proof: Proof) -> None:
    seeds, moved, level = proof.count(200, long=5000), [], []
    for seed in range(seeds):
        steady = FakeHost(seed, noise=0.03)
        before = ratios(steady, seed)
        half_s = steady.seconds * np.random.default_rng(seed).uniform(0.4, 0.6)
        drifting = FakeHost(
            seed, noise=0.03, pace=lambda seconds, half_s=half_s: 1.1 if seconds > half_s else 1.0
        )
        after = ratios(drifting, seed)
        moved += [abs(after[index] / ratio - 1) for index, ratio in before.items()]
        level.append(drifting.seconds / steady.seconds)
    assert min(level) > 1.03 and max(level) < 1.07, "the step was not half way"
    p95 = float(np.quantile(moved, 0.95))
    worst = int(np.argmax(moved))
    assert p95 < 0.005, (
        f"worst: seed {worst // len(BLOCKS_S)}, block {worst % len(BLOCKS_S)}, {moved[worst]:.2%}"
    )
    proof.show(f"{seeds} seeds: ratios changed by {p95:.2%} (p95), {max(moved):.2%} at most")
