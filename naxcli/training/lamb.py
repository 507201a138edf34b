"""LAMB on flat buffers instead of parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

# Elements of one flat buffer. On a CPU small enough that moments, gradient and update stay in a core's second-level
# cache; on an accelerator large, so that few kernels are launched.
_CPU_BUFFER_ELEMENTS = 1 << 17
_ACCELERATOR_BUFFER_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Buffer:
    """Parameters of one group whose moments lie side by side in memory.

    Args:
        parameters: The k parameters.
        exp_avg: First moments of shape (total elements,).
        exp_avg_sq: Second moments of shape (total elements,).
        gradient: Scratch space of shape (total elements,) for the gradients.
        update: Scratch space of shape (total elements,) for the updates.
        gradients: k views of `gradient` in the parameters' shapes.
        updates: k views of `update` in the parameters' shapes.
    """

    parameters: list[Tensor]
    exp_avg: Tensor
    exp_avg_sq: Tensor
    gradient: Tensor
    update: Tensor
    gradients: list[Tensor]
    updates: list[Tensor]


class Lamb(Optimizer):
    """LAMB (You et al., 2020) as timm's `Lamb`, computed on flat buffers instead of parameter by parameter.

    Without weight decay a parameter has no trust ratio. The state has timm's names, one entry per parameter.

    Args:
        params: Parameters, or groups of them with their `weight_decay`.
        lr: Learning rate.
        betas: Decay of the running means of gradient and squared gradient.
        eps: Number added to the root of the second moment.
        weight_decay: Weight decay of groups that do not state their own.
        max_grad_norm: Norm that the gradient of all parameters together is clipped to; 0 does not clip.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "step": 0})
        self._max_grad_norm = max_grad_norm
        self._layout: list[list[Tensor]] = []  # parameters with a gradient, per group, that the buffers were made for
        self._buffers: list[list[_Buffer]] = []

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change the parameters by one step from their gradients, which stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        layout = self._present_layout()
        if not self._is_laid_out(layout):
            self._make_buffers(layout)
        self._take_step()
        return loss

    def _present_layout(self) -> list[list[Tensor]]:
        return [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]

    def _is_laid_out(self, layout: list[list[Tensor]]) -> bool:
        return [list(map(id, group)) for group in layout] == [list(map(id, group)) for group in self._layout]

    def _take_step(self) -> None:
        clip = self._clip_divisor()
        for group, buffers in zip(self.param_groups, self._buffers, strict=True):
            group["step"] += 1
            for buffer in buffers:
                _update(buffer, group, clip)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._layout, self._buffers = [], []  # the loaded moments are copied into new buffers by the next step

    def _clip_divisor(self) -> Tensor | None:
        gradients = [p.grad for group in self._layout for p in group if p.grad is not None]
        if not self._max_grad_norm or not gradients:
            return None
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        return (norm / self._max_grad_norm).clamp_(min=1.0)

    def _make_buffers(self, layout: list[list[Tensor]]) -> None:
        """Lay the moments of the parameters out anew, keeping those there are; scratch space is shared."""
        self._layout = layout
        self._buffers = []
        chunks = [_chunks(group) for group in layout]
        largest = max((sum(p.numel() for p in chunk) for group in chunks for chunk in group), default=0)
        scratch: tuple[Tensor, Tensor] | None = None
        for group in chunks:
            buffers = []
            for parameters in group:
                if scratch is None:
                    scratch = (parameters[0].new_empty(largest), parameters[0].new_empty(largest))
                buffers.append(self._make_buffer(parameters, *scratch))
            self._buffers.append(buffers)

    def _make_buffer(self, parameters: list[Tensor], gradient: Tensor, update: Tensor) -> _Buffer:
        total = sum(parameter.numel() for parameter in parameters)
        moments = {name: parameters[0].new_zeros(total) for name in ("exp_avg", "exp_avg_sq")}
        for name, moment in moments.items():
            for parameter, view in zip(parameters, _views(moment, parameters), strict=True):
                if name in self.state[parameter]:
                    view.copy_(self.state[parameter][name])
                self.state[parameter][name] = view
        return _Buffer(
            parameters=parameters,
            gradient=gradient[:total],
            update=update[:total],
            gradients=_views(gradient, parameters),
            updates=_views(update, parameters),
            **moments,
        )


def _update(buffer: _Buffer, group: dict[str, Any], clip: Tensor | None) -> None:
    beta1, beta2 = group["betas"]
    correction2 = (1 - beta2 ** group["step"]) ** 0.5
    # Bias corrections are folded into scalars: m / b1 / (sqrt(v) / b2 + eps) = b2 / b1 * m / (sqrt(v) + eps * b2).
    scale = correction2 / (1 - beta1 ** group["step"])
    torch._foreach_copy_(buffer.gradients, [p.grad for p in buffer.parameters if p.grad is not None])
    if clip is not None:
        buffer.gradient.div_(clip)
    buffer.exp_avg.lerp_(buffer.gradient, 1 - beta1)
    buffer.exp_avg_sq.mul_(beta2).addcmul_(buffer.gradient, buffer.gradient, value=1 - beta2)
    torch.sqrt(buffer.exp_avg_sq, out=buffer.update)
    buffer.update.add_(group["eps"] * correction2)
    torch.div(buffer.exp_avg, buffer.update, out=buffer.update)
    if group["weight_decay"] == 0:
        torch._foreach_add_(buffer.parameters, buffer.updates, alpha=-group["lr"] * scale)
        return
    torch._foreach_add_(buffer.updates, buffer.parameters, alpha=group["weight_decay"] / scale)
    parameter_norm = torch.stack(torch._foreach_norm(buffer.parameters))
    update_norm = torch.stack(torch._foreach_norm(buffer.updates)) * scale
    ratio = torch.where((parameter_norm > 0) & (update_norm > 0), parameter_norm / update_norm, 1.0)
    torch._foreach_mul_(buffer.updates, list((ratio * (-group["lr"] * scale)).unbind()))
    torch._foreach_add_(buffer.parameters, buffer.updates)


def _chunks(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Return consecutive parameters in lists of a buffer's size; one larger than that has its own."""
    chunks: list[list[Tensor]] = []
    total = 0
    for parameter in parameters:
        limit = _CPU_BUFFER_ELEMENTS if parameter.device.type == "cpu" else _ACCELERATOR_BUFFER_ELEMENTS
        if not chunks or total + parameter.numel() > limit:
            chunks.append([])
            total = 0
        chunks[-1].append(parameter)
        total += parameter.numel()
    return chunks


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor's elements lie side by side in memory, in the order of its strides."""
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()


def _views(flat: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """Return consecutive views of `flat` in the parameters' shapes and, where they are dense, their strides."""
    views, start = [], 0
    for parameter in parameters:
        strides = parameter.stride() if is_dense(parameter) else torch.empty(parameter.shape, device="meta").stride()
        views.append(flat.as_strided(parameter.shape, strides, flat.storage_offset() + start))
        start += parameter.numel()
    return views
