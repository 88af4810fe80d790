"""Standard output and error streams: closed streams, pipes without a reader, and text made printable.

A reader that has closed the pipe (`jmsnas split ... | head`) does not stop the program: what it prints after
that is dropped.
"""

import errno
import io
import os
import sys
from typing import Any


def printable(text: str) -> str:
    r"""Escape the characters that a terminal interprets: ESC becomes `\x1b`, a line end `\n`.

    Marks that change the direction of text and invalid Unicode are escaped too, white space but for spaces.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


class _Output(io.FileIO):
    """Raw output stream that keeps the first error of a write instead of raising it."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise
            self.failed = self.failed or error
            return memoryview(data).nbytes


def install_streams() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that no closed reader, full disk or encoding ends.

    Descriptors 0 to 2 that are closed are opened on the null device, as the next opened file would get them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (_stream(1, sys.stdout), _stream(2, sys.stderr))


def _stream(descriptor: int, old: Any) -> io.TextIOWrapper:
    raw = _Output(descriptor, "w", closefd=False)
    encoding = getattr(old, "encoding", None) or "utf-8"
    lines = descriptor == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)


def output_failure() -> str:
    """Flush `sys.stdout` and return why output was lost; empty if none was, or its reader has ended."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failed = raw.failed if isinstance(raw, _Output) else None
    if failed is None or failed.errno == errno.EPIPE:
        return ""
    return failed.strerror or type(failed).__name__
