"""A process that holds the lock of a table: it prints its id and holds the lock until its stdin closes.

With a number after the path it races instead: it takes the lock that many times, each time creates a file
that must not exist and removes it before releasing the lock, and then prints how often it was refused.
"""

import os
import sys
import time
from pathlib import Path

from jmsnas.errors import MeasurementError
from jmsnas.profiler.table.journal import table_lock


def main() -> None:
    path = Path(sys.argv[1])
    if len(sys.argv) == 2:
        with table_lock(path):
            print(os.getpid(), flush=True)
            sys.stdin.read()
        return
    sys.stdin.readline()
    won, lost, inside = 0, 0, path.with_name("inside")
    while won < int(sys.argv[2]):
        try:
            with table_lock(path):
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                time.sleep(1e-3)
                os.unlink(inside)
                won += 1
        except MeasurementError:
            lost += 1
    print(lost, flush=True)


if __name__ == "__main__":
    main()
