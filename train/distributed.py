"""Several processes, one run: what ``torchrun`` puts into the environment, and the few collectives that are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from edgeir.errors import UsageError


@dataclass(frozen=True, slots=True)
class Group:
    """This process among the processes of the run.

    Attributes:
        rank: 0 to ``world - 1``; rank 0 writes and prints.
        world: number of processes, over all nodes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Mean of a scalar tensor over the processes, the same in all of them."""
        if self.world == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: the same answer in all of them, so that all stop together."""
        if self.world == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item() > 0)

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group of this process: alone, or as ``torchrun`` says (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``).

    Args:
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.

    Raises:
        UsageError: CUDA is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise UsageError("there is no CUDA device here", where="--device", fix="Leave out --device to train anyway.")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if cuda and device != "cpu" else torch.device("cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Group(0, 1, place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()
