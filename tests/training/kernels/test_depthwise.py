"""Every kernel against float64 references of PyTorch's own, and gradients against finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from naxcli.training.kernels import depthwise
from naxcli.training.kernels.convolution import (
    DepthwiseConvolution,
    FusedConvolution,
    Geometry,
    Normalization,
)
from tests.training.kernels.ways import always

# The interpreter cuts the digits off that bfloat16 has not, up to 2 ** -7 each of twice; a GPU rounds.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}
TRITON = always("triton")
ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "elu": functional.elu,
}


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let several programs share the smallest map, and each of them loop."""
    monkeypatch.setattr(depthwise, "MAX_POSITIONS", 8)
    monkeypatch.setattr(depthwise, "MAX_CHANNELS", 4)
    monkeypatch.setattr(depthwise, "_WEIGHT_CHANNELS", 4)
    monkeypatch.setattr(depthwise, "_WEIGHT_PROGRAMS", 6)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float64, copy=True).requires_grad_()


def assert_close(ours: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert ours.shape == expected.shape
    assert (ours.double() - expected).abs().max() <= TOLERANCES[dtype] * expected.abs().max()


# (n, channels, height, width), kernel size, stride, padding, type of the maps, memory format of images and gradient
CASES = [
    ((2, 5, 3, 3), 3, 1, 1, torch.float32, torch.channels_last),
    ((1, 3, 2, 3), 5, 1, 2, torch.bfloat16, torch.channels_last),
    ((1, 2, 3, 2), 7, 1, 3, torch.float32, torch.contiguous_format),
    ((1, 2, 2, 3), 9, 1, 4, torch.float64, torch.channels_last),
    ((1, 3, 7, 5), 3, 2, 1, torch.float32, torch.channels_last),
    ((2, 2, 4, 4), 3, 2, 1, torch.bfloat16, torch.contiguous_format),
    ((1, 2, 5, 5), 4, 1, 0, torch.float64, torch.contiguous_format),  # an even kernel that sees no border
    ((1, 2, 1, 1), 3, 1, 1, torch.float32, torch.channels_last),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_direction_is_the_convolutions(case: Any) -> None:
    shape, size, stride, padding, dtype, layout = case
    images = random(*shape, seed=0, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    weight = random(shape[1], 1, size, size, seed=1, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    weight.requires_grad_()
    geometry = Geometry(stride=stride, padding=padding, dtype=dtype)
    output = DepthwiseConvolution.apply(images, weight, geometry, TRITON)
    upstream = random(*output.shape, seed=2, dtype=dtype).contiguous(memory_format=layout)
    output.backward(upstream)

    true_images, true_weight = leaf(images.detach()), leaf(weight.detach())
    expected = functional.conv2d(true_images, true_weight, stride=stride, padding=padding, groups=shape[1])
    expected.backward(upstream.double())
    assert output.dtype == dtype and output.is_contiguous(memory_format=layout)
    assert_close(output, expected, dtype)
    assert_close(images.grad, true_images.grad, dtype)
    # The sums are wider than the maps.
    assert_close(weight.grad, true_weight.grad, torch.float32 if dtype == torch.bfloat16 else dtype)


@pytest.mark.parametrize("way", ["cudnn", "native"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_other_ways_return_the_same_in_the_same_memory_format(way: str, layout: torch.memory_format) -> None:
    images = random(1, 3, 5, 4, seed=0).contiguous(memory_format=layout)
    weight = random(3, 1, 3, 3, seed=1)
    results = []
    for choices in (always(way), TRITON):
        given, taps = leaf(images), leaf(weight)
        output = DepthwiseConvolution.apply(given, taps, Geometry(stride=2, padding=1, dtype=torch.float64), choices)
        output.sum().backward()
        results.append([output, given.grad, taps.grad])
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected.detach(), torch.float64)
    assert results[0][0].is_contiguous(memory_format=layout) and results[1][0].is_contiguous(memory_format=layout)


def test_under_autocasts_type_the_images_may_be_wider() -> None:
    images, weight = random(1, 3, 4, 4, seed=0, dtype=torch.float32), random(3, 1, 3, 3, seed=1, dtype=torch.float32)
    images.requires_grad_()
    geometry = Geometry(stride=1, padding=1, dtype=torch.bfloat16)
    output = DepthwiseConvolution.apply(images, weight, geometry, TRITON)
    output.sum().backward()
    assert output.dtype == torch.bfloat16 and images.grad is not None and images.grad.dtype == torch.float32
    expected = functional.conv2d(images.double(), weight.double(), padding=1, groups=3)
    assert_close(output, expected.detach(), torch.bfloat16)


def reference(
    images: Tensor, weight: Tensor, factor: Tensor | None, summand: Tensor | None, activation: str, **how: Any
) -> Tensor:
    if factor is not None:
        running = (how.pop("mean"), how.pop("variance"))
        images = functional.batch_norm(images, *running, factor, summand, training=how.pop("training"), eps=1e-5)
    return functional.conv2d(ACTIVATIONS[activation](images), weight, groups=len(weight), **how)


PROLOGUES = [
    # normalization in training (None is none), activation, type, layout, kernel size
    (True, "relu", torch.bfloat16, torch.channels_last, 3),
    (True, "identity", torch.float32, torch.contiguous_format, 3),
    (False, "elu", torch.float32, torch.channels_last, 3),
    (None, "elu", torch.float32, torch.channels_last, 3),
]


@pytest.mark.parametrize("case", PROLOGUES, ids=str)
def test_normalization_and_activation_in_front_are_those_of_float64(case: Any) -> None:
    training, activation, dtype, layout, size = case
    images = random(2, 3, 3, 4, seed=0, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    weight = random(3, 1, size, size, seed=1, dtype=torch.float32).requires_grad_()
    factor = summand = normalization = None
    mean, variance = random(3, seed=5, dtype=torch.float32), random(3, seed=6, dtype=torch.float32).square() + 0.5
    true_mean, true_variance = mean.double(), variance.double()
    if training is not None:
        factor, summand = (random(3, seed=seed, dtype=torch.float32).requires_grad_() for seed in (3, 4))
        normalization = Normalization(
            running_mean=mean, running_var=variance, momentum=0.1, eps=1e-5, is_training=training
        )
    geometry = Geometry(stride=1, padding=size // 2, dtype=dtype)
    output = FusedConvolution.apply(images, weight, factor, summand, normalization, activation, geometry, TRITON)
    upstream = random(*output.shape, seed=2, dtype=dtype)
    output.backward(upstream)

    ours = [tensor for tensor in (images, weight, factor, summand) if tensor is not None]
    truths = [None if tensor is None else leaf(tensor.detach()) for tensor in (images, weight, factor, summand)]
    expected = reference(
        *truths,  # type: ignore[arg-type]
        activation,
        padding=size // 2,
        **({} if training is None else {"mean": true_mean, "variance": true_variance, "training": training}),
    )
    expected.backward(upstream.double())
    assert output.dtype == dtype and output.is_contiguous(memory_format=layout)
    assert_close(output, expected, dtype)
    for tensor, truth in zip(ours, [tensor for tensor in truths if tensor is not None], strict=True):
        assert_close(tensor.grad, truth.grad, torch.bfloat16 if dtype == torch.bfloat16 else torch.float32)
    assert_close(mean, true_mean, torch.float32)
    assert_close(variance, true_variance, torch.float32)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_the_fused_kernels_are_finite_differences(training: bool) -> None:
    geometry = Geometry(stride=2, padding=1, dtype=torch.float64)

    def function(images: Tensor, weight: Tensor, *of_norm: Tensor) -> Any:
        normalization = None
        if training:
            normalization = Normalization(running_mean=None, running_var=None, momentum=0.1, eps=1e-5, is_training=True)
        parameters = of_norm or (None, None)
        return FusedConvolution.apply(images, weight, *parameters, normalization, "gelu", geometry, TRITON)

    inputs = [random(1, 2, 3, 2, seed=0), random(2, 1, 3, 3, seed=1)]
    if training:
        inputs += [random(2, seed=3), random(2, seed=4)]
    assert torch.autograd.gradcheck(function, [leaf(tensor) for tensor in inputs], fast_mode=True)


def test_gradients_of_the_convolution_are_finite_differences() -> None:
    geometry = Geometry(stride=1, padding=1, dtype=torch.float64)
    inputs = [leaf(random(1, 2, 3, 2, seed=0)), leaf(random(2, 1, 3, 3, seed=1))]
    assert torch.autograd.gradcheck(
        lambda *given: DepthwiseConvolution.apply(*given, geometry, TRITON), inputs, fast_mode=True
    )


def test_only_the_gradients_that_are_needed_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_needed(*_: object, **__: object) -> None:
        raise AssertionError("not needed")

    geometry = Geometry(stride=1, padding=1, dtype=torch.float64)
    images, weight = random(1, 2, 3, 3, seed=0), random(2, 1, 3, 3, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(depthwise, "data_gradient", not_needed)
        DepthwiseConvolution.apply(images, leaf(weight), geometry, TRITON).sum().backward()
    monkeypatch.setattr(depthwise, "weight_gradient", not_needed)
    DepthwiseConvolution.apply(leaf(images), weight, geometry, TRITON).sum().backward()
