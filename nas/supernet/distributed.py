"""Several processes that train one network: what each takes of a batch, and what they agree on.

Started by torchrun, which sets RANK, WORLD_SIZE and where to meet. One process is rank 0 of 1: every function
here then gives back what it got.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Ranks:
    """The number of this process among `size`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Give this process's rows of each batch, an equal part of each."""
        return [chosen.tensor_split(self.size)[self.rank] for chosen in rows]

    def wrap(self, model: nn.Module, one_path: bool) -> nn.Module:
        """Wrap a network so that backward averages its gradients over the processes.

        `one_path`: only some weights are used in a step, the same on all ranks; the gradients of others stay
        None. BatchNorm's statistics are each process's own.
        """
        if self.size == 1:
            return model
        return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=one_path)

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over the processes, in place: the same bits on all of them."""
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return values

    def total(self, values: Sequence[float]) -> list[float]:
        """Add up numbers over the processes."""
        if self.size == 1:
            return list(values)
        added = torch.tensor(values, dtype=torch.float64, device=_device())
        distributed.all_reduce(added)
        return added.tolist()

    def take_first(self, buffers: Iterable[Tensor]) -> None:
        """Set tensors, in place, to those of rank 0."""
        if self.size > 1:
            for buffer in buffers:
                distributed.broadcast(buffer, 0)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Let rank 0 go first, and then the others: what it wrote, they read."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Wait for all processes to come here."""
        if self.size > 1:
            distributed.barrier()


SINGLE_PROCESS = Ranks()


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def init_distributed() -> Ranks:
    """Join the processes that torchrun started, over NCCL where there are GPUs, else over gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return SINGLE_PROCESS
    rank, gpus = int(os.environ["RANK"]), torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if gpus else "gloo")
    return Ranks(rank, size)
