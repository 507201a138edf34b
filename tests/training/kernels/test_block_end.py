"""The end of a residual block against float64, and its gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from naxcli.training.kernels import block_end
from naxcli.training.kernels.block_end import ScaledSum
from tests.training.kernels.ways import always


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_end, "MAX_POSITIONS", 8)
    monkeypatch.setattr(block_end, "MAX_CHANNELS", 4)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("way", ["triton", "torch"])
@pytest.mark.parametrize(
    ("shape", "dtype", "shortcut_dtype", "layout"),
    [
        ((2, 5, 3, 5), torch.float32, torch.float32, torch.channels_last),
        ((1, 3, 1, 1), torch.float32, torch.float32, torch.contiguous_format),
        ((2, 3, 4, 2), torch.bfloat16, torch.float32, torch.channels_last),
        ((1, 6, 3, 3), torch.bfloat16, torch.bfloat16, torch.contiguous_format),
    ],
)
def test_scaled_sum_and_gradients_are_those_of_float64(
    shape: tuple[int, ...], dtype: torch.dtype, shortcut_dtype: torch.dtype, layout: torch.memory_format, way: str
) -> None:
    branch = random(*shape, seed=0, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    scale = random(*shape[:2], 1, 1, seed=1, dtype=dtype).requires_grad_()
    shortcut = random(*shape, seed=2, dtype=shortcut_dtype).contiguous(memory_format=layout).requires_grad_()
    output = ScaledSum.apply(branch, scale, shortcut, always(way))
    upstream = random(*shape, seed=3, dtype=output.dtype)
    output.backward(upstream)
    assert output.dtype == torch.result_type(branch, shortcut) and output.is_contiguous(memory_format=layout)

    truths = [tensor.detach().double().requires_grad_() for tensor in (branch, scale, shortcut)]
    expected = truths[0] * truths[1] + truths[2]
    expected.backward(upstream.double())
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    pairs = zip([output, branch.grad, scale.grad, shortcut.grad], [expected, *(t.grad for t in truths)], strict=True)
    for ours, truth in pairs:
        assert ours.shape == truth.shape
        assert (ours.double() - truth).abs().max() <= tolerance * truth.abs().max()
    assert branch.grad.dtype == dtype and scale.grad.dtype == dtype and shortcut.grad.dtype == shortcut_dtype


def test_gradients_are_finite_differences() -> None:
    inputs = [
        random(*shape, seed=seed).requires_grad_()
        for seed, shape in enumerate([(2, 3, 2, 3), (2, 3, 1, 1), (2, 3, 2, 3)])
    ]
    assert torch.autograd.gradcheck(lambda *given: ScaledSum.apply(*given, always("triton")), inputs, fast_mode=True)


def test_a_scale_without_gradient_gets_none() -> None:
    branch, scale = random(1, 2, 2, 2, seed=0).requires_grad_(), random(1, 2, 1, 1, seed=1)
    ScaledSum.apply(branch, scale, random(1, 2, 2, 2, seed=2), always("triton")).sum().backward()
    assert scale.grad is None and torch.allclose(branch.grad, scale.expand_as(branch))
