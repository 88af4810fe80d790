"""Run a tiny search in its own process: epochs on stdout, checkpoints in a folder, a digest at the end.

    python -m prove.searched FOLDER [PIECE]

With PIECE, that piece of the checkpoint is ignored on resuming.
"""

import os
import sys
from pathlib import Path

from tiny_search import CONFIG, LUT, SPACE, digest, tiny_splits

from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Callbacks, SearchSession
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.checkpoint import StateDict, read_checkpoint, write_checkpoint


def print_epoch(epoch: EpochRecord) -> None:
    print(f"{epoch.stage} {epoch.epoch}", flush=True)


def finish_without_fsync(folder: Path) -> None:
    """Do the same without fsync, which matters only after a power cut, and which most kills would hit."""
    os.fsync = lambda file: None  # type: ignore[assignment]
    finish(folder)


def without(saved: StateDict, piece: str) -> StateDict:
    """Return the state with one piece reset to its initial value, as if it had not been saved."""
    fresh = SearchSession(CONFIG, SPACE, LUT, tiny_splits(), Callbacks()).one.state()
    assert piece in saved["one"] and piece in fresh
    return {**saved, "one": {**saved["one"], piece: fresh[piece]}}


def finish(folder: Path, piece: str | None = None) -> str:
    """Start or resume the search in a folder, run it to the end, and return the digest of its result."""
    path = folder / "checkpoint.pt"
    saved = read_checkpoint(path)
    if saved and piece:
        saved = without(saved, piece)
    hooks = Callbacks(print_epoch, save=lambda state: write_checkpoint(path, state), saved=saved)
    return digest(search(CONFIG, SPACE, LUT, tiny_splits(), hooks))


def main() -> None:
    print("begins", flush=True)
    print(finish(Path(sys.argv[1]), *sys.argv[2:]), flush=True)


if __name__ == "__main__":
    main()
