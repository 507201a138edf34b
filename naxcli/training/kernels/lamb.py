"""LAMB in four launches, whose learning rate and step lie on the device, so that a CUDA graph can hold it.

Each kernel goes through all parameters at once, in blocks that a table tells the owner of. The gradient is read twice, parameter and
moments twice, and each is written once: eleven passes over the parameters' size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from naxcli.training.kernels.maps import on_device, sum_type
from naxcli.training.lamb import Lamb, is_dense

_BLOCK = 2048  # elements of one program


class FusedLamb(Lamb):
    """`Lamb` for parameters of one type on one device, dense in memory, in groups with the same betas and eps. Its state is Lamb's."""

    def step_in_graph(self) -> None:
        """Take the step of `begin_step` with what the gradients' addresses of `note_gradients` hold; to be captured."""
        first = self._parameters[0]
        blocks, type_of_sums = len(self._owners), sum_type(first)
        beta1, beta2 = self.defaults["betas"]
        tables = (self._owners, self._facts, self._addresses, self._schedule)
        decays = {"LOG_BETA1": math.log(beta1), "LOG_BETA2": math.log(beta2), "EPS": self.defaults["eps"]}
        common: dict[str, Any] = {**decays, "TYPE": type_of_sums, "BLOCK": _BLOCK}
        with on_device(first):
            if self._max_grad_norm:
                _square_kernel[(blocks,)](
                    self._owners, self._facts, self._addresses, self._squares[0], TYPE=type_of_sums, BLOCK=_BLOCK
                )
                torch.sum(self._squares[0], dim=0, out=self._squared_norm)
            _moment_kernel[(blocks,)](
                *tables,
                self._squared_norm,
                self._squares[0],
                self._squares[1],
                MAX_NORM=self._max_grad_norm,
                **common,
            )
            _apply_kernel[(blocks,)](*tables, self._squares[0], self._squares[1], SUMMED=256, **common)

    def begin_step(self) -> None:
        """Count a step, and put its number, learning rate and weight decay on the device, in the order of what was launched."""
        for group in self.param_groups:
            group["step"] += 1
        rows = [[group["lr"], group["step"], group["weight_decay"]] for group in self.param_groups]
        self._schedule.copy_(torch.tensor(rows, dtype=torch.float64), non_blocking=True)

    def prepare(self) -> None:
        """Lay out tables for the parameters that have a gradient now; the next steps are of those."""
        layout = self._present_layout()
        if not self._is_laid_out(layout):
            self._make_buffers(layout)

    def note_gradients(self) -> bool:
        """Tell the kernels where the gradients are, and return whether those are the parameters' own rather than copies in order."""
        self._gradients = [self._in_order(parameter) for parameter in self._parameters]
        addresses = [
            [tensor.data_ptr() for tensor in (parameter, gradient, state["exp_avg"], state["exp_avg_sq"])]
            for parameter, gradient, state in zip(
                self._parameters, self._gradients, map(self.state.__getitem__, self._parameters), strict=True
            )
        ]
        self._addresses.copy_(torch.tensor(addresses, dtype=torch.int64), non_blocking=True)
        pairs = zip(self._gradients, self._parameters, strict=True)
        return all(gradient is parameter.grad for gradient, parameter in pairs)

    def changed_tensors(self) -> list[Tensor]:
        """Return everything on the device that a step changes."""
        states = [self.state[parameter] for parameter in self._parameters]
        return [*self._parameters, *(state[name] for state in states for name in ("exp_avg", "exp_avg_sq"))]

    def _take_step(self) -> None:
        if self._parameters:
            self.begin_step()
            self.note_gradients()
            self.step_in_graph()

    def _make_buffers(self, layout: list[list[Tensor]]) -> None:
        self._layout = layout
        self._parameters = [parameter for group in layout for parameter in group]
        if not self._parameters:
            return
        for parameter in self._parameters:
            for name in ("exp_avg", "exp_avg_sq"):
                moment = torch.zeros_like(parameter)
                if name in self.state[parameter]:
                    moment.copy_(self.state[parameter][name])
                self.state[parameter][name] = moment
        device, dtype = self._parameters[0].device, self._parameters[0].dtype
        num_blocks = [triton.cdiv(parameter.numel(), _BLOCK) for parameter in self._parameters]
        firsts = [sum(num_blocks[:index]) for index in range(len(num_blocks))]
        groups = [index for index, group in enumerate(layout) for _ in group]
        sizes = [parameter.numel() for parameter in self._parameters]
        owners = [index for index, count in enumerate(num_blocks) for _ in range(count)]
        # Size, first block, number of blocks and group of each parameter.
        facts = list(zip(sizes, firsts, num_blocks, groups, strict=True))
        self._owners = torch.tensor(owners, dtype=torch.int32, device=device)
        self._facts = torch.tensor(facts, dtype=torch.int64, device=device)
        self._addresses = torch.zeros(len(sizes), 4, dtype=torch.int64, device=device)
        self._schedule = torch.zeros(len(layout), 3, dtype=torch.float64, device=device)
        self._squares = torch.zeros(2, len(owners), dtype=dtype, device=device)
        self._squared_norm = torch.zeros((), dtype=dtype, device=device)

    @staticmethod
    def _in_order(parameter: Tensor) -> Tensor:
        """Return a parameter's gradient with its elements in the parameter's order of memory."""
        gradient = parameter.grad
        assert gradient is not None
        strides = zip(gradient.stride(), parameter.stride(), parameter.shape, strict=True)
        is_same = all(one == other for one, other, size in strides if size > 1)
        return (
            gradient if is_same and gradient.dtype == parameter.dtype else torch.empty_like(parameter).copy_(gradient)
        )


def can_fuse(parameters: Sequence[Tensor]) -> bool:
    """Return whether `FusedLamb` is for these parameters."""
    kinds = {(parameter.dtype, parameter.device) for parameter in parameters}
    return len(kinds) == 1 and parameters[0].dtype == torch.float32 and all(map(is_dense, parameters))


@triton.jit
def _place(owners: tl.tensor, facts: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """Return the parameter of this program's block, the elements' offsets in it, and which of them there are."""
    owner = tl.load(owners + tl.program_id(0))
    start = (tl.program_id(0) - tl.load(facts + owner * 4 + 1)) * BLOCK
    offset = start + tl.arange(0, BLOCK)
    return owner, offset, offset < tl.load(facts + owner * 4)


@triton.jit
def _update(
    moment: tl.tensor,
    square: tl.tensor,
    value: tl.tensor,
    step: tl.tensor,
    decay: tl.tensor,
    LOG_BETA1: tl.constexpr,
    LOG_BETA2: tl.constexpr,
    EPS: tl.constexpr,
    TYPE: tl.constexpr,
) -> tl.tensor:
    """Return the update of some elements, before learning rate and trust ratio."""
    correction1 = (1.0 - tl.exp(step * LOG_BETA1)).to(TYPE)  # in float64, where 1 - 0.999 is exact enough
    correction2 = tl.sqrt(1.0 - tl.exp(step * LOG_BETA2)).to(TYPE)
    return moment / correction1 / (tl.sqrt(square) / correction2 + EPS) + decay.to(TYPE) * value


@triton.jit
def _square_kernel(
    owners: tl.tensor,
    facts: tl.tensor,
    addresses: tl.tensor,
    squares: tl.tensor,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Sum up the squares of a block of the gradients."""
    owner, offset, mask = _place(owners, facts, BLOCK)
    gradient = tl.load(tl.load(addresses + owner * 4 + 1).to(tl.pointer_type(TYPE)) + offset, mask=mask, other=0.0)
    tl.store(squares + tl.program_id(0), tl.sum(gradient * gradient, axis=0))


@triton.jit
def _moment_kernel(
    owners: tl.tensor,
    facts: tl.tensor,
    addresses: tl.tensor,
    schedule: tl.tensor,
    squared_norm: tl.tensor,
    value_squares: tl.tensor,
    update_squares: tl.tensor,
    MAX_NORM: tl.constexpr,
    LOG_BETA1: tl.constexpr,
    LOG_BETA2: tl.constexpr,
    EPS: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Update the moments of a block from its clipped gradient, and sum up the squares of its parameters and updates."""
    owner, offset, mask = _place(owners, facts, BLOCK)
    group = tl.load(facts + owner * 4 + 3)
    step = tl.load(schedule + group * 3 + 1)
    decay = tl.load(schedule + group * 3 + 2)
    value = tl.load(tl.load(addresses + owner * 4).to(tl.pointer_type(TYPE)) + offset, mask=mask, other=0.0)
    gradient = tl.load(tl.load(addresses + owner * 4 + 1).to(tl.pointer_type(TYPE)) + offset, mask=mask, other=0.0)
    moments = tl.load(addresses + owner * 4 + 2).to(tl.pointer_type(TYPE)) + offset
    squared = tl.load(addresses + owner * 4 + 3).to(tl.pointer_type(TYPE)) + offset
    if MAX_NORM > 0:
        ratio = tl.sqrt(tl.load(squared_norm)) / MAX_NORM
        gradient = gradient / tl.where(ratio <= 1.0, 1.0, ratio)  # NaN stays
    weight1 = 1.0 - tl.exp(tl.full((), LOG_BETA1, tl.float64))
    weight2 = 1.0 - tl.exp(tl.full((), LOG_BETA2, tl.float64))
    moment = tl.load(moments, mask=mask, other=0.0)
    moment += (gradient - moment) * weight1.to(TYPE)
    square = tl.load(squared, mask=mask, other=0.0)
    square += (gradient * gradient - square) * weight2.to(TYPE)
    tl.store(moments, moment, mask=mask)
    tl.store(squared, square, mask=mask)
    update = tl.where(mask, _update(moment, square, value, step, decay, LOG_BETA1, LOG_BETA2, EPS, TYPE), 0.0)
    tl.store(value_squares + tl.program_id(0), tl.sum(value * value, axis=0))
    tl.store(update_squares + tl.program_id(0), tl.sum(update * update, axis=0))


@triton.jit
def _apply_kernel(
    owners: tl.tensor,
    facts: tl.tensor,
    addresses: tl.tensor,
    schedule: tl.tensor,
    value_squares: tl.tensor,
    update_squares: tl.tensor,
    SUMMED: tl.constexpr,
    LOG_BETA1: tl.constexpr,
    LOG_BETA2: tl.constexpr,
    EPS: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Change a block of the parameters; those with weight decay by the trust ratio of their whole parameter."""
    owner, offset, mask = _place(owners, facts, BLOCK)
    group = tl.load(facts + owner * 4 + 3)
    rate = tl.load(schedule + group * 3).to(TYPE)
    step = tl.load(schedule + group * 3 + 1)
    decay = tl.load(schedule + group * 3 + 2)
    if decay != 0:
        first = tl.load(facts + owner * 4 + 1)
        end = first + tl.load(facts + owner * 4 + 2)
        of_values = tl.zeros((SUMMED,), TYPE)
        of_updates = tl.zeros((SUMMED,), TYPE)
        for start in range(first, end, SUMMED):
            block = start + tl.arange(0, SUMMED)
            of_values += tl.load(value_squares + block, mask=block < end, other=0.0)
            of_updates += tl.load(update_squares + block, mask=block < end, other=0.0)
        value_norm = tl.sqrt(tl.sum(of_values, axis=0))
        update_norm = tl.sqrt(tl.sum(of_updates, axis=0))
        is_zero = (value_norm == 0) | (update_norm == 0)
        rate = rate * tl.where(is_zero, 1.0, value_norm / tl.where(is_zero, 1.0, update_norm))
    values = tl.load(addresses + owner * 4).to(tl.pointer_type(TYPE)) + offset
    value = tl.load(values, mask=mask, other=0.0)
    moment = tl.load(tl.load(addresses + owner * 4 + 2).to(tl.pointer_type(TYPE)) + offset, mask=mask, other=0.0)
    square = tl.load(tl.load(addresses + owner * 4 + 3).to(tl.pointer_type(TYPE)) + offset, mask=mask, other=0.0)
    update = _update(moment, square, value, step, decay, LOG_BETA1, LOG_BETA2, EPS, TYPE)
    tl.store(values, value - rate * update, mask=mask)
