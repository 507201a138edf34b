"""Rank of the features of random layers against their ratio of channels.

Source: Han, Yun, Heo, Yoo, "Rethinking Channel Dimensions for Efficient Model Design", CVPR 2021: layers of random size with
d_in <= d_out channels, whose features f(WX) have the rank ratio rank / d_out; a linear 1x1 layer has d_in / d_out.

What is counted as rank depends on what counts as zero, which is fixed beforehand here: a singular value below `TOLERANCE` of
the largest. Two choices let that be a property of the activation alone, and a linear layer's ratio exact:

* there are at least `IMAGES_PER_INPUT` images for every number that a feature sees, so that the inputs are well conditioned;
* weights are random orthogonal matrices, scaled to keep the variance: a Gaussian matrix that is nearly square has singular
  values near zero, and its linear layer a rank that depends on the tolerance. Channels inside a bottleneck have the same
  variance, for a depthwise convolution does not mix them.

An image shows one output position: 3x3 convolutions see 3x3 pixels of it, all independent. Inverted bottlenecks are those of
MobileNetV2: 1x1 to six times the channels and a 3x3 convolution, each with the activation, and a linear 1x1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from naxcli.studies.features import singular_values

TOLERANCE = 1e-2
IMAGES_PER_INPUT = 4
MIN_WIDTH, MAX_WIDTH = 16, 32  # of d_out
MIN_RATIO = 0.1  # of d_in to d_out, up to 1
EXPANSION = 6
PATCH = 9  # positions that a 3x3 convolution sees

LINEAR = "linear"
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    LINEAR: lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "hard_swish": functional.hardswish,
    "silu": functional.silu,
}
LAYERS = ("conv1x1", "conv3x3", "bottleneck", "bottleneck_dw")
"""1x1, 3x3, an inverted bottleneck with a plain and one with a depthwise 3x3 convolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rank ratio of one random layer. `ratio` is d_in / d_out, `rank_ratios` is rank / d_out at each tolerance."""

    network: int
    layer: str
    activation: str
    d_in: int
    d_out: int
    rank_ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return self.d_in / self.d_out


def measure_random_layers(num_networks: int, *, tolerances: Sequence[float], seed: int) -> Iterator[list[Measured]]:
    """Yield for each random network the rank ratio of every layer type with every activation, on the same weights and inputs.

    Args:
        num_networks: Number of random sizes.
        tolerances: Shares of the largest singular value below which another counts as zero.
        seed: Random seed; the same networks whatever their number.
    """
    for number in range(num_networks):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        d_out = int(torch.randint(MIN_WIDTH, MAX_WIDTH + 1, (), generator=generator))
        wanted = MIN_RATIO + (1 - MIN_RATIO) * float(torch.rand((), generator=generator))
        d_in = max(1, round(wanted * d_out))
        yield [
            Measured(
                network=number,
                layer=layer,
                activation=activation,
                d_in=d_in,
                d_out=d_out,
                rank_ratios=tuple(rank / d_out for rank in ranks(features, tolerances)),
            )
            for layer in LAYERS
            for activation, features in _features(layer, d_in, d_out, generator)
        ]


def linear_ratio(layer: str, d_in: int, d_out: int) -> float:
    """Return the rank ratio that a layer without activations has: that of its narrowest place to its output."""
    narrowest = {
        "conv1x1": d_in,
        "conv3x3": PATCH * d_in,
        "bottleneck": min(PATCH, EXPANSION) * d_in,
        "bottleneck_dw": min(PATCH, EXPANSION) * d_in,
    }[layer]
    return min(narrowest, d_out) / d_out


def _features(layer: str, d_in: int, d_out: int, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each activation with the layer's features, (num_images, d_out)."""
    seen = 1 if layer == "conv1x1" else PATCH
    num_images = IMAGES_PER_INPUT * max(seen * d_in, d_out)
    images = torch.randn(num_images, seen, d_in, generator=generator)
    if layer in ("conv1x1", "conv3x3"):
        linear = images.flatten(1) @ random_orthogonal(d_out, seen * d_in, generator).T
        for name, activation in ACTIVATIONS.items():
            yield name, activation(linear)
        return
    wide = EXPANSION * d_in
    expand = random_orthogonal(wide, d_in, generator)
    expanded = images @ (expand / expand.norm(dim=1, keepdim=True)).T  # (num_images, 9, wide), of variance 1
    if layer == "bottleneck":
        spatial = random_orthogonal(wide, PATCH * wide, generator).T
    else:
        spatial = torch.randn(PATCH, wide, generator=generator)
        spatial /= spatial.norm(dim=0)
    project = random_orthogonal(d_out, wide, generator).T
    for name, activation in ACTIVATIONS.items():
        hidden = activation(expanded)
        seen_by = hidden.flatten(1) @ spatial if layer == "bottleneck" else (hidden * spatial).sum(1)
        yield name, activation(seen_by) @ project


def random_orthogonal(num_out: int, num_in: int, generator: torch.Generator) -> Tensor:
    """Return a random matrix (num_out, num_in) whose singular values are all equal, and that keeps the variance of its inputs."""
    gaussian = torch.randn(max(num_out, num_in), min(num_out, num_in), generator=generator)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()  # uniform over the orthogonal matrices (Mezzadri 2007)
    matrix: Tensor = (q if num_out >= num_in else q.T) * math.sqrt(max(1.0, num_out / num_in))
    return matrix


def ranks(features: Tensor, tolerances: Sequence[float]) -> list[int]:
    """Return the number of singular values above each share of the largest."""
    values = singular_values(features)
    return [int((values > tolerance * values[0]).sum()) for tolerance in tolerances]
