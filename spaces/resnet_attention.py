"""Residual networks with attention modules and other convolutions: 27 networks on timm's ResNet.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (networks); Hu et al., "Squeeze-and-Excitation
Networks", CVPR 2018 (SE); Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018 (CBAM); Yu and Koltun,
"Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016 (dilated); Dai et al., "Deformable Convolutional
Networks", ICCV 2017 (deformable).

Hyperparameters
    depth        18 and 34 (basic blocks), 50 (bottlenecks)
    attention    at the end of each block's branch: none, se, cbam (channel, then spatial attention)
    convolution  the 3x3 convolutions of the last stage. plain; dilated: by 2, without the stage's stride; deformable: at
                 positions that a convolution of their own predicts from the same map

The reduced network is the one common for 32x32 images, a 3x3 stem without stride or pooling; variant `full` has the 7x7
stem of the papers. `width` scales the stages; the stem keeps timm's 64 channels.

At 1,000 classes the full networks have, counted: SE-ResNet-50 28,088,024 parameters (the paper: 28.09M), ResNet-18 with CBAM
11,777,352 (11.78M). ResNet-50 with CBAM has 28,073,576 in timm, whose channel attention has no biases (the paper: 28.09M).

Deviations: deformable convolutions are not modulated, start from positions without offsets, and use the learning rate of
all other weights.
"""

from collections.abc import Mapping

import torch
from ConfigSpace import Categorical, ConfigurationSpace
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from naxcli import Space

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class DeformableConv2d(nn.Module):
    """A convolution whose 3x3 positions are moved by offsets that another convolution predicts, none at the start.

    Args:
        plain: The 3x3 convolution without bias that it takes the place of.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        stride = plain.stride[0]
        self.offset = nn.Conv2d(plain.in_channels, 2 * 3 * 3, 3, stride=stride, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.conv = DeformConv2d(plain.in_channels, plain.out_channels, 3, stride=stride, padding=1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(plain.weight)

    def forward(self, x: Tensor) -> Tensor:
        # (batch, in, n, n) -> (batch, out, n / stride, n / stride)
        out: Tensor = self.conv(x, self.offset(x))
        return out


def residual_network(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float
) -> ResNet:
    """Return the full-size network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""
    depth, attention = int(config["depth"]), str(config["attention"])
    network = ResNet(
        BasicBlock if depth < 50 else Bottleneck,
        LAYERS[depth],
        num_classes=num_classes,
        in_chans=in_channels,
        channels=tuple(max(8, 8 * round(channels * width / 8)) for channels in (64, 128, 256, 512)),
        output_stride=16 if config["convolution"] == "dilated" else 32,
        block_args={} if attention == "none" else {"attn_layer": attention},
    )
    if config["convolution"] == "deformable":
        for block in network.layer4:
            name = "conv1" if depth < 50 else "conv2"  # the one with the stage's stride
            setattr(block, name, DeformableConv2d(getattr(block, name)))
            if depth < 50:
                block.conv2 = DeformableConv2d(block.conv2)
    return network


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> ResNet:
    """Return the reduced network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""
    network = residual_network(config, num_classes=num_classes, in_channels=in_channels, width=width)
    network.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm's stem
    network.maxpool = nn.Identity()
    for index, feature in enumerate(network.feature_info):
        # The stem halved twice; its own map comes before the pooling.
        feature["reduction"] //= 2 if index == 0 else 4
    return network


def full(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> ResNet:
    """Return the network of the papers, for 224 x 224 images."""
    return residual_network(config, num_classes=num_classes, in_channels=in_channels, width=width)


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return the 27 configurations; defaults are those of ResNet-18."""
    space = ConfigurationSpace(name="resnet_attention", seed=seed)
    space.add(
        Categorical("depth", [18, 34, 50], default=18, ordered=True),
        Categorical("attention", ["none", "se", "cbam"], default="none"),
        Categorical("convolution", ["plain", "dilated", "deformable"], default="plain"),
    )
    return space


SPACE = Space(
    name="resnet_attention",
    configspace=configspace,
    build=build,
    reference={
        "resnet_18": {"depth": 18, "attention": "none", "convolution": "plain"},
        "seresnet_50": {"depth": 50, "attention": "se", "convolution": "plain"},
    },
    variants={"full": full},
    paper="He et al., CVPR 2016; Hu et al., CVPR 2018; Woo et al., ECCV 2018; Dai et al., ICCV 2017",
)
