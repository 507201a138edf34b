"""Modules that stand in for a network's own while it trains on a GPU; `network` puts them there and takes them away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from timm.layers import DropPath, SqueezeExcite
from timm.layers.drop import drop_path
from torch import Tensor, nn
from torch.nn import functional

from naxcli.training.kernels.block_end import ScaledSum
from naxcli.training.kernels.choice import Choices
from naxcli.training.kernels.convolution import (
    DepthwiseConvolution,
    FusedConvolution,
    Geometry,
    Normalization,
    question,
)

KERNEL_SIZES = range(3, 10)
MAX_SIDE = 32  # of a map


class PassedModule(nn.Module):
    """A module whose part in training is the kernel's of the convolution after it."""

    plain_class: ClassVar[type[nn.Module]]
    kernel_user: KernelConv2d

    def forward(self, x: Tensor) -> Tensor:
        return x if self.kernel_user.training else self.computed(x)

    def computed(self, x: Tensor) -> Tensor:
        """Return what the module makes of its input by itself."""
        result: Tensor = super().forward(x)
        return result


class PassedBatchNorm2d(PassedModule, nn.BatchNorm2d):
    plain_class = nn.BatchNorm2d


class PassedReLU(PassedModule, nn.ReLU):
    plain_class = nn.ReLU


class PassedGELU(PassedModule, nn.GELU):
    plain_class = nn.GELU


class PassedELU(PassedModule, nn.ELU):
    plain_class = nn.ELU


class PassedCELU(PassedModule, nn.CELU):
    plain_class = nn.CELU


_ACTIVATIONS: dict[type[nn.Module], str] = {
    PassedReLU: "relu",
    PassedGELU: "gelu",
    PassedELU: "elu",
    PassedCELU: "elu",  # the same where alpha is 1
}


def passed_class(module: nn.Module) -> type[nn.Module] | None:
    """Return the class of a module that leaves its part to a convolution's kernel, None where the kernel cannot take it."""
    if isinstance(module, nn.BatchNorm2d):
        is_plain = type(module) is nn.BatchNorm2d and module.momentum is not None
        return PassedBatchNorm2d if is_plain else None
    if isinstance(module, nn.GELU) and module.approximate != "none":
        return None
    if isinstance(module, nn.ELU | nn.CELU) and module.alpha != 1.0:
        return None
    passed = (kind for kind in _ACTIVATIONS if cast(type[PassedModule], kind).plain_class is type(module))
    return next(passed, None)


class KernelConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d with a square kernel, computed in the fastest way where the maps are small.

    Attributes:
        kernel_choices: What was found to be fastest.
        kernel_before: Modules in front whose part in training is this one's: normalization, activation or both.
    """

    plain_class: ClassVar[type[nn.Module]] = nn.Conv2d
    kernel_choices: Choices
    kernel_before: tuple[PassedModule, ...] = ()

    def forward(self, input: Tensor) -> Tensor:
        before = self.kernel_before if self.training else ()
        if max(input.shape[2:]) > MAX_SIDE:
            return super().forward(_by_modules(before, input))
        is_autocast = torch.is_autocast_enabled(input.device.type)
        dtype = torch.get_autocast_dtype(input.device.type) if is_autocast else input.dtype
        geometry = Geometry(stride=self.stride[0], padding=int(self.padding[0]), dtype=dtype)
        if before and self._is_fused(before, input, geometry):
            output = self._fused(before, input, geometry)
        else:
            output = self._convolved(_by_modules(before, input), geometry)
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1).to(dtype)

    def _convolved(self, input: Tensor, geometry: Geometry) -> Tensor:
        output: Tensor = DepthwiseConvolution.apply(input, self.weight, geometry, self.kernel_choices)
        return output

    def _is_fused(self, before: tuple[PassedModule, ...], input: Tensor, geometry: Geometry) -> bool:
        """Return whether one kernel is faster than the modules one after another, forward and backward."""
        if input.numel() == input.shape[1]:
            return False  # one value has no deviation, which the normalization says itself
        images = input.detach().requires_grad_(input.requires_grad)
        parameters = (self.weight, *(parameter for module in before for parameter in module.parameters()))
        needed = [tensor for tensor in (images, *parameters) if tensor.requires_grad]

        def timed(forward: Callable[[], Tensor]) -> Callable[[], Any]:
            def both() -> Any:
                output = forward()
                return torch.autograd.grad(output, needed, torch.ones_like(output)) if output.requires_grad else output

            return both

        ways = {
            "modules": timed(lambda: self._convolved(_without_running(before, images), geometry)),
            "fused": timed(lambda: self._fused(before, images, geometry, keeps_running=False)),
        }
        names = "+".join(type(module).__name__ + ("" if module.training else " (eval)") for module in before)
        needs = "".join("01"[tensor.requires_grad] for tensor in (images, *parameters)) * torch.is_grad_enabled()
        return self.kernel_choices.fastest(question(f"{names} {needs}", input, self.weight, geometry), ways) == "fused"

    def _fused(
        self, before: tuple[PassedModule, ...], input: Tensor, geometry: Geometry, *, keeps_running: bool = True
    ) -> Tensor:
        norm, activation = None, "identity"
        for module in before:
            if isinstance(module, nn.BatchNorm2d):
                norm = module
            else:
                activation = _ACTIVATIONS[type(module)]
        of_norm: tuple[Any, ...] = (None, None, None)
        if norm is not None:
            of_norm = (norm.weight, norm.bias, _normalization(norm, keeps_running=keeps_running))
        output: Tensor = FusedConvolution.apply(input, self.weight, *of_norm, activation, geometry, self.kernel_choices)
        return output


def _by_modules(before: tuple[PassedModule, ...], input: Tensor) -> Tensor:
    for module in before:
        input = module.computed(input)
    return input


def _without_running(before: tuple[PassedModule, ...], input: Tensor) -> Tensor:
    """Return what modules make of an input, without its part in running statistics."""
    for module in before:
        if isinstance(module, nn.BatchNorm2d):
            normalization = _normalization(module, keeps_running=False)
            input = functional.batch_norm(
                input,
                normalization.running_mean,
                normalization.running_var,
                module.weight,
                module.bias,
                training=normalization.is_training,
                eps=module.eps,
            )
        else:
            input = module.computed(input)
    return input


def _normalization(norm: nn.BatchNorm2d, *, keeps_running: bool) -> Normalization:
    """Return what a batch normalization does now; where it keeps running statistics, it counts the batch."""
    is_training = norm.training or norm.running_mean is None
    has_running = not is_training or (keeps_running and norm.track_running_stats)
    if is_training and has_running and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return Normalization(
        running_mean=norm.running_mean if has_running else None,
        running_var=norm.running_var if has_running else None,
        momentum=norm.momentum or 0.0,
        eps=norm.eps,
        is_training=is_training,
    )


class Scaled:
    """A map times a scale, computed with the addition that follows.

    Args:
        branch: Map of shape (n, channels, h, w).
        scale: Scale of shape (n, channels, 1, 1), or 1 in place of channels.
        choices: What was found to be fastest.
    """

    def __init__(self, branch: Tensor, scale: Tensor, choices: Choices) -> None:
        self.branch = branch
        self.scale = scale
        self._choices = choices

    def __add__(self, other: Tensor | Scaled) -> Tensor:
        if isinstance(other, Scaled):
            other = other.branch * other.scale
        if other.shape != self.branch.shape:
            return self.branch * self.scale + other
        scale = self.scale.expand(*self.branch.shape[:2], 1, 1)
        result: Tensor = ScaledSum.apply(self.branch, scale, other, self._choices)
        return result

    __radd__ = __add__


class ScalingSqueezeExcite(SqueezeExcite):  # type: ignore[misc]
    """timm's squeeze-and-excitation whose gate is applied by the addition that follows."""

    plain_class: ClassVar[type[nn.Module]] = SqueezeExcite
    kernel_choices: Choices

    def forward(self, x: Tensor) -> Tensor | Scaled:
        if not self.training:
            result: Tensor = super().forward(x)
            return result
        squeezed = x.mean((2, 3), keepdim=True)
        if self.add_maxpool:
            squeezed = 0.5 * squeezed + 0.5 * x.amax((2, 3), keepdim=True)
        return Scaled(x, self.gate(self.fc2(self.act(self.bn(self.fc1(squeezed))))), self.kernel_choices)


class ScalingDropPath(DropPath):  # type: ignore[misc]
    """timm's stochastic depth that is applied by the addition that follows; it draws the same numbers."""

    plain_class: ClassVar[type[nn.Module]] = DropPath
    kernel_choices: Choices

    def forward(self, x: Tensor | Scaled) -> Tensor | Scaled:
        if not self.training or self.drop_prob == 0.0:
            return x
        branch = x.branch if isinstance(x, Scaled) else x
        if branch.ndim != 4:
            result: Tensor = super().forward(branch)
            return result
        kept = drop_path(branch.new_ones(len(branch), 1, 1, 1), self.drop_prob, True, self.scale_by_keep)
        return Scaled(branch, x.scale * kept if isinstance(x, Scaled) else kept, self.kernel_choices)
