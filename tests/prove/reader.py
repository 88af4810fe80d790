"""A process limited to 1 GB that reads files as latency tables and reports the outcome of each.

A file that kills it is a finding of its parent, not the end of the tests.
"""

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.errors import TableError
from jmsnas.profiler.quality.read_published import read_entries
from jmsnas.profiler.table.parquet import read_table

MEMORY_BYTES = 1 << 30
READERS = {"read_table": read_table, "read_readings": read_entries}


@dataclass
class Reader:
    """Client of the reader process, one file at a time; `slowest_s` is the longest time of a file."""

    process: Any
    slowest_s: float = 0.0

    def __call__(self, name: str, path: Path) -> str:
        """Read a file with a reader by name, and return `refused: reason` or `read: SHA-256 of the content`.

        Fails where an exception other than a TableError was raised, and where the process died.
        """
        began = time.monotonic()
        self.process.stdin.write(json.dumps([name, str(path)]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        assert line, f"the process that read it ended with {self.process.wait()}"
        kind, words = json.loads(line)
        assert kind != "escaped", words
        return f"{kind}: {words}"


@contextmanager
def reader() -> Iterator[Reader]:
    """Start the process."""
    command = [sys.executable, "-m", "prove.reader"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Reader(process)
        finally:
            process.kill()


def answer(name: str, path: Path) -> tuple[str, str]:
    try:
        found = READERS[name](path)
    except TableError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return "refused", str(error)
    except BaseException as error:
        return "escaped", f"{type(error).__name__} from {name}: {str(error)[:200]}"
    return "read", hashlib.sha256(repr(found).encode()).hexdigest()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        name, path = json.loads(line)
        print(json.dumps(answer(name, Path(path))), flush=True)


if __name__ == "__main__":
    main()
