"""What one of two processes does in the tests of torchrun: `torchrun ... ranked.py FOLDER`."""

import hashlib
import sys
from pathlib import Path

import torch
from tiny_search import CONFIG, LUT, SPACE, digest, tiny_splits

from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Callbacks, SearchSession
from jmsnas.nas.supernet.checkpoint import StateDict, read_checkpoint, write_checkpoint
from jmsnas.nas.supernet.distributed import Ranks, init_distributed
from jmsnas.nas.supernet.training import batches, weight_step

STEPS = 6


def steps(session: SearchSession) -> list[tuple[float, str]]:
    """Loss of a weight step, and a digest of alpha after the architecture step behind it; `STEPS` times."""
    one, arch, told = session.one, session.arch, list[tuple[float, str]]()
    session.supernet.train()
    for batch in batches(one.splits.train, 16, 0, "weights", 0, ranks=one.ranks):
        if len(told) == STEPS:
            break
        loss, _ = weight_step(one.model, (batch[0], arch.sample_path()), batch[1], one.optimizer, "here")
        arch.step(*one.held_out.next())
        told.append((loss, hashlib.sha256(arch.alpha_NR.numpy().tobytes()).hexdigest()))
    return told


def ends(folder: Path, ranks: Ranks) -> tuple[str, str]:
    """Digest of a search, and of one that goes on from its second epoch."""
    path = folder / "checkpoint.pt"

    def save(state: StateDict) -> None:
        if len(state["history"]) == 2:
            write_checkpoint(path, state)

    whole = search(CONFIG, SPACE, LUT, tiny_splits(), Callbacks(save=save, ranks=ranks))
    ranks.wait()
    saved = read_checkpoint(path)
    assert saved is not None
    return digest(whole), digest(
        search(CONFIG, SPACE, LUT, tiny_splits(), Callbacks(saved=saved, ranks=ranks))
    )


def main() -> None:
    folder, ranks = Path(sys.argv[1]), init_distributed()
    session = SearchSession(CONFIG, SPACE, LUT, tiny_splits(), Callbacks(ranks=ranks))
    told = steps(session)
    unused = [name for name, p in session.supernet.named_parameters() if p.grad is None]
    assert unused, "all weights had a gradient: paths that were not drawn would decay"
    torch.save([told, session.supernet.state_dict(), ends(folder, ranks)], folder / f"{ranks.rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
