"""Check a part in a child process, with limits on memory and processor time, before it is served.

A damaged model can then crash only the child. Parent: `PartSandbox`; child: this module, whose stdin has the
manifest, the model and the golden values, as one MessagePack array.
"""

import math
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import PartError

if TYPE_CHECKING:
    from jmsnas.deploy.parts.manifest import Manifest

LIMIT_S = 10
# Importing torch takes that long on a small board.
_TORCH_IMPORT_S = 30
# Memory of the runtime itself, beyond that of the part.
_RUNTIME_BYTES = 768 << 20


class _Verdict(msgspec.Struct):
    """Result of the child: why the part is refused, or empty, and its largest error on the golden input."""

    refused: str
    error: float


class PartSandbox:
    """A child process that checks one part; started early, so that its imports delay no shipment."""

    def __init__(self) -> None:
        # A new interpreter, not a fork: gRPC's threads do not survive a fork.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jmsnas.deploy.agent.part_sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def check(self, manifest: bytes, model: bytes, golden: bytes, runtime: str = "onnxruntime") -> float:
        """Check a part, and return its largest error on the golden input.

        Raises PartError when the child refuses it, crashes or is late, or its output is not the leader's.
        """
        content = msgspec.msgpack.encode((manifest, model, golden))
        limit_s = LIMIT_S + (_TORCH_IMPORT_S if runtime == "torch" else 0)
        try:
            output, _ = self._process.communicate(content, timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise PartError(f"a part that is not ready after {limit_s} s in its test process") from None
        finally:
            self.end()
        if not output:
            raise PartError(f"a part that crashes its test process (exit code {self._process.returncode})")
        verdict = decode_json(output, _Verdict, PartError, "the result of the test process")
        if verdict.refused:
            raise PartError(verdict.refused)
        return verdict.error

    def end(self) -> None:
        """End the process, and close its pipes."""
        with self._process:
            self._process.kill()


def main() -> None:
    """Check the part on stdin, and print the result as one JSON line."""
    from jmsnas.deploy.parts.manifest import parse_manifest  # the parent has verified the signature
    from jmsnas.deploy.parts.runtime import GOLDEN_TOLERANCE, PartRunner, golden_arrays, golden_error

    content = sys.stdin.buffer.read()  # all imports are done by now
    content, model, golden = msgspec.msgpack.decode(content, type=tuple[bytes, bytes, bytes])
    manifest = parse_manifest(content)
    refused, error = "", 0.0
    try:
        _prepare(manifest, model)
        error = golden_error(PartRunner(manifest, model), *golden_arrays(manifest, golden))
        if not error <= GOLDEN_TOLERANCE:
            refused, error = "a part whose output for the golden input is not the leader's", 0.0
    except PartError as reason:
        refused = str(reason)
    except Exception as reason:  # onnxruntime's own
        refused = f"a part that cannot run ({type(reason).__name__})"
    print(msgspec.json.encode(_Verdict(refused, error)).decode())


def _prepare(manifest: "Manifest", model: bytes) -> None:
    """Limit this process to the memory of the part; torch is imported before, and does not count."""
    if manifest.runtime == "torch":
        from jmsnas.deploy.parts.safetensors_scan import scan_safetensors
        from jmsnas.deploy.parts.torch_architecture import parse_architecture

        known = parse_architecture(manifest.blocks, manifest.input_shape, manifest.output_shape)
        scan_safetensors(model, known.weights_bytes)  # a malformed file is refused without torch
        import jmsnas.deploy.parts.torch_runtime  # noqa: F401
    _limit(manifest.peak_bytes + 2 * len(model), memory=manifest.processor == "cpu")


def _limit(more_bytes: int, memory: bool) -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the child process and the timeout remain
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    if memory:  # CUDA reserves more address space than there is memory, above any useful limit
        resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes + _RUNTIME_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + LIMIT_S,) * 2)


if __name__ == "__main__":
    main()
