"""Parse and run a part for the first time in a child process, with limits on memory and processor time.

What a damaged model does to a parser, it does to the child. Parent: `Checker`; child: this module,
whose stdin holds the manifest's bytes, the model and the golden numbers, each behind its length.
"""

import json
import struct
import subprocess
import sys
from contextlib import suppress
from typing import IO

from jmsnas.errors import PartError

LIMIT_S = 10
_LENGTH = struct.Struct(">I")
# What onnxruntime itself takes beyond a part's own memory.
_ROOM_BYTES = 768 << 20


class Checker:
    """A fresh process that waits for one part to check: started early, so that its imports hold nobody up."""

    def __init__(self) -> None:
        # A fresh interpreter, never a fork: gRPC's threads would not survive one.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jmsnas.deploy.check_part"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def check(self, manifest: bytes, model: bytes, golden: bytes) -> float:
        """Check a part, and give its largest error on the golden input.

        Raises
        ------
        PartError
            When the child refuses it, crashes, takes too long, or its output is not the leader's.
        """
        pieces = b"".join(_LENGTH.pack(len(piece)) + piece for piece in (manifest, model, golden))
        try:
            told, _ = self._process.communicate(pieces, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise PartError(f"a part that is not ready after {LIMIT_S} s in a process of its own") from None
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
    from jmsnas.deploy.manifest import parse  # the parent has verified the signature
    from jmsnas.deploy.runtime import GOLDEN_TOLERANCE, Runner, golden_arrays, golden_error

    content, model, golden = (_piece(sys.stdin.buffer) for _ in range(3))  # all is imported by now
    manifest = parse(content)
    _limit(manifest.peak_bytes + 2 * len(model))
    refused, error = "", 0.0
    try:
        error = golden_error(Runner(manifest, model), *golden_arrays(manifest, golden))
        if not error <= GOLDEN_TOLERANCE:
            refused = "a part whose output for the golden input is not the leader's"
            error = 0.0
    except PartError as reason:
        refused = str(reason)
    except Exception as reason:  # onnxruntime's own
        refused = f"a part that cannot run ({type(reason).__name__})"
    print(json.dumps({"refused": refused, "error": error}))


def _piece(stream: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    return stream.read(length)


def _limit(more_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the process apart and the clock remain
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes + _ROOM_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))


if __name__ == "__main__":
    main()
