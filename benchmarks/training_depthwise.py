"""Depthwise convolution forward and backward on a CPU: PyTorch's own against naxcli's.

    python -m benchmarks.training_depthwise [--repeats 5]

The shapes are some of the reduced NEXcepTion's at widths 1, 0.25 and 0.125. Both alternate in one process on one thread, channels
last; the measure is CPU time, and the largest relative difference of the gradients is printed beside it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from torch import Tensor, nn

from naxcli.training.depthwise import speed_up_depthwise

SHAPES = (
    (64, 24, 16),
    (64, 128, 8),
    (64, 384, 8),
    (64, 512, 8),
    (64, 1536, 8),
    (64, 256, 4),
    (64, 192, 2),
)  # batch, channels, side


def gradients(module: nn.Conv2d, images: Tensor, upstream: Tensor) -> list[Tensor]:
    images.grad = module.weight.grad = None
    module(images).backward(upstream)
    assert images.grad is not None and module.weight.grad is not None
    return [images.grad, module.weight.grad]


def milliseconds(module: nn.Conv2d, images: Tensor, upstream: Tensor) -> float:
    start = time.process_time()
    gradients(module, images, upstream)
    return (time.process_time() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'kernel':>6s} {'shape':>16s} {'torch ms':>9s} {'naxcli ms':>9s} {'ratio':>6s}  range          difference")
    for size in (3, 5, 7, 9):
        for batch, channels, side in SHAPES:
            torch.manual_seed(0)
            plain = nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False)
            fast = copy.deepcopy(plain)
            speed_up_depthwise(fast)
            images, upstream = (
                torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last) for _ in range(2)
            )
            images.requires_grad_()
            pairs = zip(gradients(plain, images, upstream), gradients(fast, images, upstream), strict=True)
            difference = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
            times = [
                [milliseconds(module, images, upstream) for module in (plain, fast)] for _ in range(arguments.repeats)
            ]
            ratios = sorted(row[0] / row[1] for row in times)
            medians = [statistics.median(row[column] for row in times) for column in (0, 1)]
            print(
                f"{size:6d} {f'{batch}x{channels}x{side}x{side}':>16s} {medians[0]:9.2f} {medians[1]:9.2f} "
                f"{statistics.median(ratios):6.2f}  {ratios[0]:.2f} to {ratios[-1]:.2f}   {difference:.0e}"
            )


if __name__ == "__main__":
    main()
