"""A profiling job (blocks, runtime key, timing options) and its JSON form, which a worker process reads.

This module does not import torch, so that the process that starts a worker need not load it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import Block, BlockOrPart, Part

# Receives the events of a job: {"progress": [done, total, text]}, {"row": index, and the fields of a
# Measurement}, {"energy": index, "j": joules}, {"failed": index, "why": reason}.
EventHandler = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ProfileJob:
    """Blocks and parts to measure under one runtime key in one process.

    With `one_by_one` each block is prepared separately, which is slower, so that a block that ends the
    process is identified; with `energy` it is measured after the timing, where the host has a meter.
    """

    key: RuntimeKey
    subjects: tuple[BlockOrPart, ...]
    cache: Path
    seed: int
    config: TimingConfig
    one_by_one: bool = False
    energy: bool = True

    def document(self) -> dict[str, Any]:
        """Convert the job to JSON types."""
        subjects = [str(s) if isinstance(s, Block) else [*map(str, s.blocks)] for s in self.subjects]
        return {**asdict(self), "subjects": subjects, "cache": str(self.cache)}


def job_from_document(document: dict[str, Any]) -> ProfileJob:
    """Build the job that `ProfileJob.document` converted."""
    values = {
        "key": RuntimeKey(**document["key"]),
        "subjects": tuple(_subject_from_text(text) for text in document["subjects"]),
        "cache": Path(document["cache"]),
        "config": TimingConfig(**document["config"]),
    }
    return ProfileJob(**{**document, **values})


def _subject_from_text(text: str | list[str]) -> BlockOrPart:
    return Block.parse(text) if isinstance(text, str) else Part(tuple(Block.parse(block) for block in text))
