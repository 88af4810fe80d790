"""What one of two processes does in the tests of torchrun: `torchrun ... ranked.py FOLDER`."""

import hashlib
import sys
from pathlib import Path

import torch
from tiny_search import CONFIG, LUT, SPACE, digest, tiny_splits

from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Hooks, Session
from jmsnas.nas.supernet.checkpoint import State, read_checkpoint, write_checkpoint
from jmsnas.nas.supernet.distributed import Ranks, join_ranks
from jmsnas.nas.supernet.training import batches, weight_step

STEPS = 6


def steps(session: Session) -> list[tuple[float, str]]:
    """Loss of a weight step, and a digest of alpha after the architecture step behind it; `STEPS` times."""
    one, arch, told = session.one, session.arch, list[tuple[float, str]]()
    session.supernet.train()
    for batch in batches(one.splits.train, 16, 0, "weights", 0, ranks=one.ranks):
        if len(told) == STEPS:
            break
        loss, _ = weight_step(one.network, (batch[0], arch.sample_path()), batch[1], one.optimizer, "here")
        arch.step(*one.held_out.next())
        told.append((loss, hashlib.sha256(arch.alpha_NR.numpy().tobytes()).hexdigest()))
    return told


def ends(folder: Path, ranks: Ranks) -> tuple[str, str]:
    """Digest of a search, and of one that goes on from its second epoch."""
    path = folder / "checkpoint.pt"

    def save(state: State) -> None:
        if len(state["history"]) == 2:
            write_checkpoint(path, state)

    whole = search(CONFIG, SPACE, LUT, tiny_splits(), Hooks(save=save, ranks=ranks))
    ranks.wait()
    saved = read_checkpoint(path)
    assert saved is not None
    return digest(whole), digest(search(CONFIG, SPACE, LUT, tiny_splits(), Hooks(saved=saved, ranks=ranks)))


def main() -> None:
    folder, ranks = Path(sys.argv[1]), join_ranks()
    session = Session(CONFIG, SPACE, LUT, tiny_splits(), Hooks(ranks=ranks))
    told = steps(session)
    unused = [name for name, p in session.supernet.named_parameters() if p.grad is None]
    assert unused, "all weights had a gradient: paths that were not drawn would decay"
    torch.save([told, session.supernet.state_dict(), ends(folder, ranks)], folder / f"{ranks.rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
