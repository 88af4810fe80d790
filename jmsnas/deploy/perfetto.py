"""Requests as a Perfetto trace: a file a device, and the manifest that merges them, in one tar.

All times are on the first device's clock already: the manifest pins every other file, whose format has no
clock of its own, to the first's with no offset (https://perfetto.dev/docs/reference/perfetto-manifest).
Events are asynchronous, by request, so that requests of a pipeline may overlap. Open it at ui.perfetto.dev.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from typing import Any

from jmsnas.deploy.leader.measured_terms import HopTiming

TRACE_FILE = "deploy.trace.tar"


def perfetto_tar(requests: Sequence[Sequence[HopTiming]]) -> bytes:
    """Make the tar: `perfetto_manifest.json` first, then `<device>.json` for each device.

    Parameters
    ----------
    requests
        The legs of each request, seconds since its image was there; they are laid one behind the other.
    """
    events: dict[str, list[dict[str, Any]]] = {}
    origin_us = 0.0
    for number, legs in enumerate(requests):
        for source, device, sent, received, begun, ended in legs:
            own = events.setdefault(device, [_named(device)])
            if source:
                own += _pair(f"receive from {source}", number, origin_us, sent, received)
            own += _pair("wait", number, origin_us, received, begun)
            own += _pair("compute", number, origin_us, begun, ended)
        origin_us += 1e6 * max(leg[5] for leg in legs) + 100
    contents: dict[str, Any] = {"perfetto_manifest.json": _manifest(list(events))}
    for device, (head, *found) in events.items():
        contents[f"{device}.json"] = {"traceEvents": [head, *sorted(found, key=lambda event: event["ts"])]}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, document in contents.items():
            text = json.dumps(document).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    return content.getvalue()


def _manifest(devices: Sequence[str]) -> dict[str, Any]:
    first, *others = ({"path": f"{device}.json", "machine": {"name": device}} for device in devices)
    pinned = [{**file, "clocks": {"sync_to": {"file": first["path"]}, "offset_ns": 0}} for file in others]
    return {"perfetto_manifest": {"version": 1, "files": [first, *pinned]}}


def _named(device: str) -> dict[str, Any]:
    return {"ph": "M", "pid": 1, "tid": 1, "name": "process_name", "args": {"name": device}}


def _pair(name: str, request: int, origin_us: float, begins_s: float, ends_s: float) -> list[dict[str, Any]]:
    common = {"name": name, "cat": "request", "id": request, "pid": 1, "tid": 1}
    # Clocks of two devices are known to within a round trip: a transfer must not end before it began.
    ends_s = max(begins_s, ends_s)
    return [
        {**common, "ph": "b", "ts": round(origin_us + 1e6 * begins_s, 3)},
        {**common, "ph": "e", "ts": round(origin_us + 1e6 * ends_s, 3)},
    ]
