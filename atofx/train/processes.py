"""The processes of a run: one, or as many as ``accelerate launch`` started."""

from __future__ import annotations

import atexit
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from atofx.train.plan import Share


@dataclass(frozen=True, eq=False)
class Processes:
    """What the engine needs of accelerate."""

    accelerator: Accelerator

    @classmethod
    def present(cls) -> Processes:
        """Those this program was started with. Mixed precision is the engine's own, so accelerate's stays off."""
        # without an accelerator, accelerate takes processes of torchrun for one each unless told to use the CPU
        accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
        if accelerator.num_processes > 1:
            atexit.register(_leave_group)
        return cls(accelerator)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self.accelerator.device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return bool(self.accelerator.is_main_process)

    @property
    def share(self) -> Share:
        """This process' part of every batch."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over processes; the model itself on one process."""
        wrapped = self.accelerator.prepare_model(model) if self.share.processes > 1 else model
        assert isinstance(wrapped, nn.Module)
        return wrapped

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.share.processes == 1:
            return values
        summed = self.accelerator.reduce(values, reduction="sum")
        assert isinstance(summed, Tensor)
        return summed

    def average_buffers(self, model: nn.Module) -> None:
        """Make floating-point buffers (running statistics) the mean over all processes, in place.

        Each process sees its own part of the batch; the mean of their running means is that of the whole batch. Equal
        buffers everywhere also make every decision taken from the model equal everywhere.
        """
        if self.share.processes == 1:
            return
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if not buffers:
            return
        flat = torch.cat([buffer.detach().flatten().float() for buffer in buffers])
        flat = self.sum(flat) / self.share.processes
        with torch.no_grad():
            for buffer, mean in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(mean.view_as(buffer))

    def agree(self, text: str) -> str:
        """The main process' text, on every process."""
        if self.share.processes == 1:
            return text
        agreed: list[str] = broadcast_object_list([text])
        return agreed[0]

    def one_by_one(self) -> AbstractContextManager[None]:
        """A block that each machine's first process runs before the others: downloads."""
        first: AbstractContextManager[None] = self.accelerator.local_main_process_first()
        return first

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()


def _leave_group() -> None:
    """End the threads that talk to the other processes: one that still runs as the program ends aborts it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
