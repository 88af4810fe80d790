"""Export requests as a Perfetto trace: one trace file for each device and a manifest, in one tar.

All times are of the first device's clock. The manifest pins every other file to the first with no offset, as
the format has no clock of its own (https://perfetto.dev/docs/reference/perfetto-manifest). Events are
asynchronous, one track for each request, so that pipelined requests may overlap. Open at ui.perfetto.dev.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from typing import Any

from jmsnas.deploy.leader.measured_terms import HopTiming, end_s

TRACE_FILE = "deploy.trace.tar"


def perfetto_tar(requests: Sequence[Sequence[HopTiming]]) -> bytes:
    """Write the tar: `perfetto_manifest.json` first, then `<device>.json` for each device.

    `requests` are timings, each counted from its own start; they are placed one after another.
    """
    events: dict[str, list[dict[str, Any]]] = {}
    origin_us = 0.0
    for number, timings in enumerate(requests):
        for hop in timings:
            own = events.setdefault(hop.device, [_process_name(hop.device)])
            if hop.source:
                own += _begin_end(f"receive from {hop.source}", number, origin_us, hop.sent_s, hop.received_s)
            own += _begin_end("wait", number, origin_us, hop.received_s, hop.begun_s)
            own += _begin_end("compute", number, origin_us, hop.begun_s, hop.ended_s)
        origin_us += 1e6 * end_s(timings) + 100
    contents: dict[str, Any] = {"perfetto_manifest.json": _manifest(list(events))}
    for device, (head, *others) in events.items():
        contents[f"{device}.json"] = {"traceEvents": [head, *sorted(others, key=lambda event: event["ts"])]}
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


def _process_name(device: str) -> dict[str, Any]:
    return {"ph": "M", "pid": 1, "tid": 1, "name": "process_name", "args": {"name": device}}


def _begin_end(
    name: str, request: int, origin_us: float, begin_s: float, finish_s: float
) -> list[dict[str, Any]]:
    common = {"name": name, "cat": "request", "id": request, "pid": 1, "tid": 1}
    # Clock offsets are known to within a round trip only: a transfer must not end before it began.
    finish_s = max(begin_s, finish_s)
    return [
        {**common, "ph": "b", "ts": round(origin_us + 1e6 * begin_s, 3)},
        {**common, "ph": "e", "ts": round(origin_us + 1e6 * finish_s, 3)},
    ]
