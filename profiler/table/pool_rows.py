"""One row of what two processes measured of the same block."""

import math
from dataclasses import replace

from jmsnas.profiler.table.latency_table import R
from jmsnas.profiler.table.measurement import TARGET_HALF_WIDTH, summarise
from jmsnas.profiler.table.trust import is_disturbed

# More processes and samples say nothing new of a block, and a table must be read in a moment.
_MOST_PROCESSES, _MOST_SAMPLES = 8, 4000


def pool_rows(before: R, after: R) -> R:
    """Put two rows of one key and block together; the ratio is the median over the samples of both.

    The later one alone counts where they do not belong together: another environment, a simulated row, the
    same samples again. Where the host was in the way of one of them, the other alone counts: what was
    disturbed is repeated, not diluted.
    """
    unlike = before.kind != after.kind or before.environment != after.environment
    if not unlike and not after.stages:
        after = replace(after, stages=before.stages, stages_s=before.stages_s)
    if unlike or before.samples == after.samples or not before.samples:
        return after
    if is_disturbed(before) != is_disturbed(after):
        return after if is_disturbed(before) else before
    rounds = (*before.process_rounds, *after.process_rounds)[-_MOST_PROCESSES:]
    while sum(rounds) > _MOST_SAMPLES and len(rounds) > 2:
        rounds = rounds[1:]
    samples = (*before.samples, *after.samples)[-sum(rounds) :]
    # The geometric mean: a level that jumped is a factor, and neither process knows the truth.
    level_s = math.sqrt(before.reference_s * after.reference_s)
    found = summarise(samples, level_s, TARGET_HALF_WIDTH)
    return replace(
        after,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        reference_s=level_s,
        rounds=len(samples),
        converged=found.converged,
        samples=samples,
        process_rounds=rounds,
        drift=max(before.drift, after.drift),
        interrupted=max(before.interrupted, after.interrupted),
        host_faults=tuple(dict.fromkeys((*before.host_faults, *after.host_faults))),
        energy_j=before.energy_j if after.energy_j is None else after.energy_j,
    )
