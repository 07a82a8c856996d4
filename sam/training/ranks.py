"""The processes that train one model together, started by ``torchrun``; by default there is one.

Each computes other samples of a step's batch, and their gradients are averaged
(``DistributedDataParallel``). The first writes all files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sam.errors import EnvironmentProblem

PATIENCE = timedelta(hours=6)
"""How long the others wait for the one that packs photos or validates."""


@dataclass(frozen=True)
class Ranks:
    """One process among those of a run.

    Attributes:
        rank: from 0. count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and validates."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            distributed.barrier()

    def agree(self, value: Any) -> Any:
        """The leader's ``value``, in all processes."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any of them says so."""
        if self.count == 1:
            return flag
        said = torch.tensor([float(flag)], device=device)
        distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
        return bool(said.item() > 0)

    def mean(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Each value's mean over all processes, which have the same names."""
        if self.count == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float32, device=device)
        distributed.all_reduce(total)
        return dict(zip(values, (total / self.count).tolist(), strict=True))

    def share(self, module: nn.Module) -> nn.Module:
        """``module`` with its gradients averaged over all processes."""
        if self.count == 1:
            return module
        # A step without a text prompt, or of one round, leaves parameters without a gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    @staticmethod
    def apart(module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once a step, after its ``last`` part."""
        if isinstance(module, DistributedDataParallel) and not last:
            held: AbstractContextManager[None] = module.no_sync()
            return held
        return nullcontext()


ALONE = Ranks()


@contextmanager
def joined(device: torch.device, environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """This process among those that ``torchrun`` started; outside of it, alone.

    Raises:
        EnvironmentProblem: the others cannot be reached.
    """
    count = int(environment.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in environment:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EnvironmentProblem(
            f"the {count} processes of this run cannot reach each other ({error}); start them with torchrun"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def local_device(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """The device of this process: under ``torchrun`` each takes a GPU of its own, where there are any.

    Args:
        name: as asked for; one with a number is left as it is.
        environment: of the process.
    """
    number = environment.get("LOCAL_RANK")
    if number is None or not torch.cuda.is_available() or name not in ("auto", "cuda"):
        return name
    return f"cuda:{number}"
