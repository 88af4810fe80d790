"""Blocks without end, a sitting that makes up a row of each at once, and what must be left of its rows."""

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.measurement import TARGET_HALF_WIDTH, summarise
from jmsnas.space import Block, Candidate, Layer

Samples = tuple[float, ...]
Told = Callable[[str, Samples], None]


def synthetic_blocks(count: int) -> list[Block]:
    return [Block(Candidate(3, 3), Layer(8, 8, 1, size, size)) for size in range(1, count + 1)]


@dataclass
class Sit:
    """Reports each block twice, the second time with more samples, as a block that goes on to a finer target.

    No sample is ever drawn twice, so that each can be counted. `confirm` is called with a block and its
    samples when `report` has returned, that is when the journal has confirmed the row.
    """

    confirm: Told
    generator: random.Random = field(default_factory=random.Random)

    def __call__(self, job: ProfileJob, report: EventHandler, tick: Callable[[], None]) -> None:
        for index, subject in enumerate(job.subjects):
            samples: Samples = ()
            for _ in range(2):
                samples += tuple(1 + 1e-3 * self.generator.random() for _ in range(6))
                report({"row": index, **asdict(summarise(samples, 1e-4, TARGET_HALF_WIDTH))})
                self.confirm(str(subject), samples)
            tick()


class Confirmed:
    """What the journal has confirmed: blocks and their samples, in order."""

    def __init__(self, told: Iterable[tuple[str, Samples]] = ()) -> None:
        self.told = list(told)

    def __call__(self, block: str, samples: Samples) -> None:
        self.told.append((block, samples))

    def check(self, rows: Iterable[AnyRow]) -> None:
        """Fail where a confirmed sample is not in its row, or any sample stands there twice."""
        found = {str(row.block): row.samples for row in rows}
        for block, samples in found.items():
            assert len(set(samples)) == len(samples), f"{block}: a sample stands twice"
        for block, samples in self.told:
            assert set(samples) <= set(found.get(block, ())), f"{block}: confirmed samples are lost"
