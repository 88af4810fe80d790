"""The row of what a sitting tells of a block."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from jmsnas.profiler.table.latency_table import AnyRow, BlockRow, PartRow, RuntimeKey
from jmsnas.space import Block, BlockOrPart


def event_row(
    event: dict[str, Any],
    device: str,
    key: RuntimeKey,
    subject: BlockOrPart,
    environment: str,
    host_faults: tuple[str, ...],
) -> AnyRow:
    """Make the row of one block from what one process found; levels and trust are set when it is folded in.

    `event` has the fields of `jmsnas.profiler.table.measurement.Measurement`.
    """
    level_s, samples = event["reference_s"], tuple(event["samples"])
    make = BlockRow if isinstance(subject, Block) else PartRow
    return make(
        device=device,
        key=key,
        block=subject,  # type: ignore[arg-type]  # the one of the two that `make` is of
        kind="measured",
        median_s=event["ratio"] * level_s,
        low_s=event["ratio_low"] * level_s,
        high_s=event["ratio_high"] * level_s,
        ratio=event["ratio"],
        ratio_low=event["ratio_low"],
        ratio_high=event["ratio_high"],
        reference_s=level_s,
        min_s=min(samples) * level_s,
        p90_s=float(np.quantile(samples, 0.9)) * level_s,
        rounds=len(samples),
        converged=event["converged"],
        environment=environment,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        source=f"jmsnas {version('jmsnas')}",
        samples=samples,
        process_rounds=(len(samples),),
        drift=event["drift"],
        interrupted=event["interrupted"],
        host_faults=host_faults,
    )
