import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from deployments import fleet, pieces, segments

from jmsnas.deploy.agent import part_sandbox
from jmsnas.deploy.agent.part_sandbox import LIMIT_S, PartSandbox
from jmsnas.deploy.parts.manifest import manifest_bytes
from jmsnas.deploy.parts.shipment import make_shipments
from jmsnas.errors import PartError

GIB = 1 << 30
# The child of a check, which then prints the limits it set and whether it gets a gibibyte of memory.
_CHILD = """
import json, resource, sys
from jmsnas.deploy.agent import part_sandbox
part_sandbox.main()
limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]
try:
    more = len(bytearray(1 << 30))
except MemoryError:
    more = 0
print(json.dumps([*limits, more]))
"""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """Manifest, model and golden values of a valid part."""
    with fleet(tmp_path_factory.mktemp("fleet"), ("pi4",)) as one:
        leader = one.leader
        made = make_shipments(
            pieces((6,), ("pi4",)), segments(), leader.agents, leader._cluster, leader._fingerprint, 1
        )["pi4"]
    assert made.manifest.model and made.manifest.golden
    model, golden = (made.blobs[blob.sha256] for blob in (made.manifest.model, made.manifest.golden))
    return manifest_bytes(made.manifest), bytes(model), bytes(golden)


def test_the_child_limits_its_memory_and_processor_time(content: tuple[bytes, bytes, bytes]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], input=msgspec.msgpack.encode(content), capture_output=True, check=True
    )
    verdict, limits = map(json.loads, done.stdout.splitlines())
    memory_bytes, cpu_s, more = limits
    assert verdict["refused"] == "" and verdict["error"] < 1e-4
    # What the process had, the peak of the part, and the runtime's own memory: less than a few gibibytes.
    assert 0 < memory_bytes < 8 * GIB and more == 0
    assert LIMIT_S <= cpu_s < 10 * LIMIT_S


@pytest.mark.parametrize("memory", [True, False])
def test_memory_is_not_limited_for_a_gpu(memory: bool) -> None:
    code = (
        "import resource; from jmsnas.deploy.agent.part_sandbox import _limit\n"
        f"_limit(0, memory={memory}); print(resource.getrlimit(resource.RLIMIT_AS)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 0) is memory


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(part_sandbox, "LIMIT_S", 0.5)
    monkeypatch.setattr(part_sandbox.sys, "executable", _program(tmp_path, "sleep 600"))
    sandbox = PartSandbox()
    with pytest.raises(PartError, match=r"a part that is not ready after 0.5 s in its test process"):
        sandbox.check(b"", b"", b"")
    assert sandbox._process.poll() is not None


def test_a_child_that_crashes_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(part_sandbox.sys, "executable", _program(tmp_path, "cat > /dev/null; kill -SEGV $$"))
    with pytest.raises(PartError, match=r"a part that crashes its test process \(exit code -11\)"):
        PartSandbox().check(b"", b"", b"")


def _program(folder: Path, script: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)
