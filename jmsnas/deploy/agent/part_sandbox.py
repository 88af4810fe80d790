"""Parse and run a part for the first time in a child process, with limits on memory and processor time.

What a damaged model does to a parser, it does to the child. Parent: `PartSandbox`; child: this module,
whose stdin holds the manifest's bytes, the model and the golden numbers, each behind its length.
"""

import json
import math
import struct
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from jmsnas.errors import PartError

if TYPE_CHECKING:
    from jmsnas.deploy.parts.manifest import Manifest

LIMIT_S = 10
# Importing torch takes a small board that long, and is not the part's doing.
_TORCH_S = 30
_LENGTH = struct.Struct(">I")
# What the run time itself takes beyond a part's own memory.
_ROOM_BYTES = 768 << 20


class PartSandbox:
    """A fresh process that waits for one part to check: started early, so that its imports hold nobody up."""

    def __init__(self) -> None:
        # A fresh interpreter, never a fork: gRPC's threads would not survive one.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jmsnas.deploy.agent.part_sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def check(self, manifest: bytes, model: bytes, golden: bytes, runtime: str = "onnxruntime") -> float:
        """Check a part, and give its largest error on the golden input.

        Raises
        ------
        PartError
            When the child refuses it, crashes, takes too long, or its output is not the leader's.
        """
        pieces = b"".join(_LENGTH.pack(len(piece)) + piece for piece in (manifest, model, golden))
        limit_s = LIMIT_S + (_TORCH_S if runtime == "torch" else 0)
        try:
            told, _ = self._process.communicate(pieces, timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise PartError(f"a part that is not ready after {limit_s} s in a process of its own") from None
        finally:
            self.end()
        try:
            answer = json.loads(told)
            refused, error = answer["refused"], float(answer["error"])
        except (ValueError, KeyError, TypeError):
            code = self._process.returncode
            raise PartError(f"a part that ends the process it is tried in (exit code {code})") from None
        if refused:
            raise PartError(refused)
        return error

    def end(self) -> None:
        """End the process, whether it has checked or not."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def main() -> None:
    """Check the part that comes on stdin; the answer is one JSON line."""
    from jmsnas.deploy.parts.manifest import parse_manifest  # the parent has verified the signature
    from jmsnas.deploy.parts.runtime import GOLDEN_TOLERANCE, PartRunner, golden_arrays, golden_error

    content, model, golden = (_piece(sys.stdin.buffer) for _ in range(3))  # all is imported by now
    manifest = parse_manifest(content)
    refused, error = "", 0.0
    try:
        _prepare(manifest, model)
        error = golden_error(PartRunner(manifest, model), *golden_arrays(manifest, golden))
        if not error <= GOLDEN_TOLERANCE:
            refused = "a part whose output for the golden input is not the leader's"
            error = 0.0
    except PartError as reason:
        refused = str(reason)
    except Exception as reason:  # onnxruntime's own
        refused = f"a part that cannot run ({type(reason).__name__})"
    print(json.dumps({"refused": refused, "error": error}))


def _prepare(manifest: "Manifest", model: bytes) -> None:
    """Limit this process to what the part may take; what torch takes to be imported is not the part's."""
    if manifest.runtime == "torch":
        from jmsnas.deploy.parts.safetensors_scan import scan_safetensors
        from jmsnas.deploy.parts.torch_architecture import parse_architecture

        known = parse_architecture(manifest.blocks, manifest.input_shape, manifest.output_shape)
        scan_safetensors(model, known.weights_bytes)  # what is no such file needs no torch to be refused
        import jmsnas.deploy.parts.torch_runtime  # noqa: F401
    _limit(manifest.peak_bytes + 2 * len(model), memory=manifest.processor == "cpu")


def _piece(stream: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    return stream.read(length)


def _limit(more_bytes: int, memory: bool) -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the process apart and the clock remain
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    if memory:  # CUDA reserves more addresses than there is memory: no limit would hold it
        resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes + _ROOM_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + LIMIT_S,) * 2)


if __name__ == "__main__":
    main()
