"""Data-parallel training over the processes that torchrun started.

torchrun sets RANK, WORLD_SIZE and the address of the rendezvous. A single process is rank 0 of 1, where every
function here returns its argument.
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
    """Rank of this process among `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Split each batch into equal parts and return this rank's rows."""
        return [chosen.tensor_split(self.size)[self.rank] for chosen in rows]

    def wrap(self, model: nn.Module, one_path: bool) -> nn.Module:
        """Wrap a model so that backward averages its gradients over the processes.

        `one_path`: a step uses some of the weights only, the same on all ranks; the gradients of the others
        stay None. BatchNorm statistics are separate on each process.
        """
        if self.size == 1:
            return model
        return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=one_path)

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over the processes, in place; bitwise equal on all of them."""
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return values

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum numbers over the processes."""
        if self.size == 1:
            return list(values)
        added = torch.tensor(values, dtype=torch.float64, device=_device())
        distributed.all_reduce(added)
        return added.tolist()

    def take_first(self, buffers: Iterable[Tensor]) -> None:
        """Copy the tensors of rank 0 to all ranks, in place."""
        if self.size > 1:
            for buffer in buffers:
                distributed.broadcast(buffer, 0)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Run the block on rank 0 first, then on the others, which can read the files it wrote."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Wait for all processes (a barrier)."""
        if self.size > 1:
            distributed.barrier()


SINGLE_PROCESS = Ranks()


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def init_distributed() -> Ranks:
    """Join the process group of torchrun, over NCCL where there are GPUs, else over gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return SINGLE_PROCESS
    rank, gpus = int(os.environ["RANK"]), torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if gpus else "gloo")
    return Ranks(rank, size)
