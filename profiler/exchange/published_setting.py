"""What a published table says its rows were measured on, and the name and key that stand for it here."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from jmsnas.profiler.table.latency_table import RuntimeKey

_LONGEST_NAME = 64
_DIGITS = 8
# Words of run times that launch operator after operator, as torch does; any other compiles a graph.
_EAGER = ("torch", "eager")
_CUDA = ("cuda", "nvidia")
_THREADS = re.compile(r"\b([1-9][0-9]{0,2}) threads?\b")


@dataclass(frozen=True, slots=True, order=True)
class PublishedSetting:
    """What ran a block, in the words of a published table; empty where it does not say."""

    device: str
    processor: str = ""
    runtime: str = ""
    batch: int = 1
    campaign: str = ""

    def __str__(self) -> str:
        """Print as `Google Pixel 1, CPU, TensorFlow Lite, campaign 0`, and `batch 8` where it is not 1."""
        words = [self.device, self.processor, self.runtime]
        words += [f"batch {self.batch}"] if self.batch != 1 else []
        words += [f"campaign {self.campaign}"] if self.campaign else []
        return ", ".join(word for word in words if word)

    @property
    def name(self) -> str:
        """A name for the device that can be part of a path: `google-pixel-1-cpu-campaign-0`."""
        campaign = f"campaign {self.campaign}" if self.campaign else ""
        text = " ".join((self.device, self.processor, campaign))
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
        if len(name) <= _LONGEST_NAME:
            return name
        digits = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        return f"{name[: _LONGEST_NAME - _DIGITS - 1].rstrip('-')}-{digits}"

    @property
    def key(self) -> RuntimeKey:
        """The key it stands under: of torch where operators are launched one by one, else of onnxruntime.

        So many threads as it says, 1 where it does not.
        """
        words = str(self).lower()
        threads = _THREADS.search(words)
        return RuntimeKey(
            "torch" if any(word in words for word in _EAGER) else "onnxruntime",
            int(threads[1]) if threads else 1,
            self.batch,
            processor="cuda" if any(word in words for word in _CUDA) else "cpu",
        )


def published_setting(record: Mapping[str, object], batch: int = 1) -> PublishedSetting:
    """Read what a row of a published table says of what ran it."""
    device, processor, runtime, campaign = (
        "" if record.get(name) is None else str(record[name])
        for name in ("device", "processor", "runtime", "campaign")
    )
    return PublishedSetting(device, processor, runtime, batch, campaign)
