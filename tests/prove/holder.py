"""A process that is the one writer of a table: says its id, then holds on until its stdin closes.

With a number behind the path it races: it takes the lock so many times, makes a file that must not be there
yet, and removes it before it lets go; then says how often it was refused.
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
