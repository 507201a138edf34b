"""Processes: several processes, as torchrun starts them, that train one network together on shares of every batch.

They compute what one process would with the whole batch: gradients and losses are sums over the shares, and batch
normalizations see the statistics of all shares. Only the randomness inside the network (stochastic depth) differs:
every process draws it for its own images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """This process among those that train one network.

    Args:
        rank: Number of this process, from 0; the main process, 0, writes files and prints.
        num: Number of processes.
    """

    rank: int = 0
    num: int = 1

    @property
    def is_main_process(self) -> bool:
        return self.rank == 0

    def share(self, num_items: int) -> slice:
        """Return this process's consecutive items; shares differ by one item at most."""
        return slice(self.rank * num_items // self.num, (self.rank + 1) * num_items // self.num)

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace dense tensors of one type by their sums over all processes."""
        if self.num == 1:
            return
        # One message instead of hundreds, most of which would be a few numbers.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            list(tensors), [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        )

    def any(self, condition: bool) -> bool:
        """Return whether the condition holds in any process, the same answer in all of them."""
        if self.num == 1:
            return condition
        flag = torch.tensor(int(condition))  # on the CPU: no accelerator is waited for
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return (num, ...) the tensors of all processes, which lie on the CPU and have one shape."""
        if self.num == 1:
            return tensor[None]
        gathered = [torch.empty_like(tensor) for _ in range(self.num)]
        distributed.all_gather(gathered, tensor)
        return torch.stack(gathered)

    def broadcast(self, network: nn.Module) -> None:
        """Give every process the main one's weights."""
        if self.num > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the main process before the others, such as to download what all of them read."""
        if not self.is_main_process:
            self.any(False)
        yield
        if self.is_main_process:
            self.any(False)


ALONE = Processes()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that torchrun started for the duration of the block; without torchrun this one is alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(rank=distributed.get_rank(), num=distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def synchronise_batch_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with batch normalizations whose training statistics are those of all processes' images."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    # torch's own exists for accelerators only, and without one on CPUs nothing but several GPUs could show that processes
    # together compute what one does.
    for module in network.modules():
        for plain, synchronised in _SYNCHRONISED.items():
            if type(module) is plain:
                module.__class__ = synchronised
    return network


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, which passes gradients on to each of them."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class _SynchronisedBatchNorm1d(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input) if self.training else super().forward(input)


class _SynchronisedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input) if self.training else super().forward(input)


_SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _SynchronisedBatchNorm1d,
    nn.BatchNorm2d: _SynchronisedBatchNorm2d,
}


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, images: Tensor) -> Tensor:
    """Return images (n, channels, ...) normalized by the statistics of all processes, and update the running ones."""
    values = images.float()
    dims = [0, *range(2, values.dim())]
    shape = (1, -1, *(1,) * (values.dim() - 2))
    count = values.new_full((1,), values.numel() // values.shape[1])
    sums: Tensor = _Sum.apply(torch.cat([values.sum(dims), count]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean.view(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(dims)) / count
    if module.running_mean is not None and module.running_var is not None:
        assert module.num_batches_tracked is not None
        module.num_batches_tracked.add_(1)
        factor = 1 / module.num_batches_tracked if module.momentum is None else torch.tensor(module.momentum)
        module.running_mean.lerp_(mean.detach(), factor)
        module.running_var.lerp_(variance.detach() * (count / (count - 1)), factor)
    normalized = centred * torch.rsqrt(variance + module.eps).view(shape)
    if module.weight is not None:
        normalized = normalized * module.weight.view(shape) + module.bias.view(shape)
    return normalized.to(images.dtype)
