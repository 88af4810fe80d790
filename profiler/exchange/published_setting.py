"""Device and runtime named by a published table, as device name and runtime key of JMSNAS."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from jmsnas.profiler.table.latency_table import RuntimeKey

_LONGEST_NAME = 64
_DIGITS = 8
# Names of runtimes that launch operator by operator, as torch does; any other compiles a graph.
_EAGER = ("torch", "eager")
_CUDA = ("cuda", "nvidia")
_THREADS = re.compile(r"\b([1-9][0-9]{0,2}) threads?\b")


@dataclass(frozen=True, slots=True, order=True)
class PublishedSetting:
    """Device, processor, runtime, batch and campaign as a published table names them; empty if unnamed."""

    device: str
    processor: str = ""
    runtime: str = ""
    batch: int = 1
    campaign: str = ""

    def __str__(self) -> str:
        """Print as `Google Pixel 1, CPU, TensorFlow Lite, campaign 0`, and `batch 8` where it is not 1."""
        terms = [self.device, self.processor, self.runtime]
        terms += [f"batch {self.batch}"] if self.batch != 1 else []
        terms += [f"campaign {self.campaign}"] if self.campaign else []
        return ", ".join(term for term in terms if term)

    @property
    def name(self) -> str:
        """Device name that is valid in a path: `google-pixel-1-cpu-campaign-0`."""
        campaign = f"campaign {self.campaign}" if self.campaign else ""
        text = " ".join((self.device, self.processor, campaign))
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
        if len(name) <= _LONGEST_NAME:
            return name
        digits = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        return f"{name[: _LONGEST_NAME - _DIGITS - 1].rstrip('-')}-{digits}"

    @property
    def key(self) -> RuntimeKey:
        """Runtime key: torch for runtimes that launch operator by operator, else onnxruntime."""
        text = str(self).lower()
        threads = _THREADS.search(text)
        return RuntimeKey(
            "torch" if any(name in text for name in _EAGER) else "onnxruntime",
            int(threads[1]) if threads else 1,
            self.batch,
            processor="cuda" if any(name in text for name in _CUDA) else "cpu",
        )


def published_setting(record: Mapping[str, object], batch: int = 1) -> PublishedSetting:
    """Read device, processor, runtime and campaign from a row of a published table."""
    device, processor, runtime, campaign = (
        "" if record.get(name) is None else str(record[name])
        for name in ("device", "processor", "runtime", "campaign")
    )
    return PublishedSetting(device, processor, runtime, batch, campaign)
