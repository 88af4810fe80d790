"""What one sitting measures, and what it tells, as plain JSON: a sitting can have a process of its own.

No torch here: who starts that process need not load it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import Block, BlockOrPart, Part

# What is told: {"progress": [done, of, what]}, {"row": index, ...}, {"energy": index, "j": joules},
# {"failed": index, "why": text}.
EventHandler = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ProfileJob:
    """What one sitting measures: blocks and parts under a key, and how long.

    `one_by_one` makes blocks ready each on its own, slower, so that one that kills the process is known;
    `energy` reads the meter, where the host has one, after the timing.
    """

    key: RuntimeKey
    subjects: tuple[BlockOrPart, ...]
    cache: Path
    seed: int
    config: TimingConfig
    one_by_one: bool = False
    energy: bool = True

    def document(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {
            "key": asdict(self.key),
            "subjects": [_texts(subject) for subject in self.subjects],
            "cache": str(self.cache),
            "seed": self.seed,
            "config": asdict(self.config),
            "one_by_one": self.one_by_one,
            "energy": self.energy,
        }


def job_from_document(document: dict[str, Any]) -> ProfileJob:
    """Make the job of a document that `Job.document` gave."""
    return ProfileJob(
        RuntimeKey(**document["key"]),
        tuple(_subject(texts) for texts in document["subjects"]),
        Path(document["cache"]),
        document["seed"],
        TimingConfig(**document["config"]),
        document["one_by_one"],
        document["energy"],
    )


def _texts(subject: BlockOrPart) -> str | list[str]:
    return str(subject) if isinstance(subject, Block) else [str(block) for block in subject.blocks]


def _subject(texts: str | list[str]) -> BlockOrPart:
    return Block.parse(texts) if isinstance(texts, str) else Part(tuple(Block.parse(text) for text in texts))
