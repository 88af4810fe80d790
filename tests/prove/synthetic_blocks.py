"""Synthetic blocks, a job runner that reports synthetic rows at once, and a check that they were kept."""

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.measurement import TARGET_HALF_WIDTH, summarise
from jmsnas.space import Block, Candidate, Layer

Samples = tuple[float, ...]
Confirm = Callable[[str, Samples], None]


def synthetic_blocks(count: int) -> list[Block]:
    return [Block(Candidate(3, 3), Layer(8, 8, 1, size, size)) for size in range(1, count + 1)]


@dataclass
class ConfirmingRunner:
    """Job runner that reports each block twice, the second time with more samples, as when it is refined.

    Samples are distinct, so that each can be counted. `confirm` is called with a block and its samples when
    `on_event` has returned, that is when the row is in the journal.
    """

    confirm: Confirm
    generator: random.Random = field(default_factory=random.Random)

    def __call__(self, job: ProfileJob, on_event: EventHandler, tick: Callable[[], None]) -> None:
        for index, subject in enumerate(job.subjects):
            samples: Samples = ()
            for _ in range(2):
                samples += tuple(1 + 1e-3 * self.generator.random() for _ in range(6))
                on_event({"row": index, **asdict(summarise(samples, 1e-4, TARGET_HALF_WIDTH))})
                self.confirm(str(subject), samples)
            tick()


class Confirmed:
    """Blocks and samples that the journal has confirmed, in order."""

    def __init__(self, rows: Iterable[tuple[str, Samples]] = ()) -> None:
        self.rows = list(rows)

    def __call__(self, block: str, samples: Samples) -> None:
        self.rows.append((block, samples))

    def check(self, rows: Iterable[AnyRow]) -> None:
        """Fail where a confirmed sample is missing from its row, or a sample is duplicated."""
        found = {str(row.block): row.samples for row in rows}
        for block, samples in found.items():
            assert len(set(samples)) == len(samples), f"{block}: a sample is duplicated"
        for block, samples in self.rows:
            assert set(samples) <= set(found.get(block, ())), f"{block}: confirmed samples are lost"
