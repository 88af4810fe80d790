"""A tiny search in a process of its own: its epochs go to stdout, its state to a folder; it ends in a digest.

    python -m prove.searched FOLDER [PIECE]

With PIECE it forgets that piece of what was saved, when it goes on.
"""

import os
import sys
from pathlib import Path

from tiny_search import CONFIG, LUT, SPACE, digest, tiny_splits

from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Callbacks, SearchSession
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.checkpoint import StateDict, read_checkpoint, write_checkpoint


def say(epoch: EpochRecord) -> None:
    print(f"{epoch.stage} {epoch.epoch}", flush=True)


def finish_without_fsync(folder: Path) -> None:
    """Do the same, for who kills it: what fsync does is seen after a power cut alone.

    A tiny search would be killed in little else.
    """
    os.fsync = lambda file: None  # type: ignore[assignment]
    finish(folder)


def without(saved: StateDict, piece: str) -> StateDict:
    """The state as it would be if a piece of it were not saved: that piece begins anew."""
    fresh = SearchSession(CONFIG, SPACE, LUT, tiny_splits(), Callbacks()).one.state()
    assert piece in saved["one"] and piece in fresh
    return {**saved, "one": {**saved["one"], piece: fresh[piece]}}


def finish(folder: Path, piece: str | None = None) -> str:
    """Begin or go on with the search in a folder, to its end; give the digest of what it ended in."""
    path = folder / "checkpoint.pt"
    saved = read_checkpoint(path)
    if saved and piece:
        saved = without(saved, piece)
    hooks = Callbacks(say, save=lambda state: write_checkpoint(path, state), saved=saved)
    return digest(search(CONFIG, SPACE, LUT, tiny_splits(), hooks))


def main() -> None:
    print("begins", flush=True)
    print(finish(Path(sys.argv[1]), *sys.argv[2:]), flush=True)


if __name__ == "__main__":
    main()
