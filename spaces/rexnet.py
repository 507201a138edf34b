"""Channel configurations of ReXNet: the widths of nine inverted bottlenecks as a piecewise-linear function of the block index.

Paper: Han, Yun, Heo, Yoo, "Rethinking Channel Dimensions for Efficient Model Design", CVPR 2021. Its search maximises accuracy over
c_1 <= ... <= c_d within given parameters and multiply-adds, the network otherwise fixed: MobileNetV2's inverted bottlenecks with
expansion 6 after a stem of 16. `rexnet_5` and `rexnet_13` are the same space for 5 and 13 blocks. Bands of parameters and multiply-adds
are those of a search: experiments/rexnet-*.toml.

Hyperparameters
    blocks       d, of which the hyperparameters below say nothing
    first_width  c_1
    rise         c_d - c_1
    slope_1..4   how steep each quarter of the block indices is, as a ratio: all equal is a straight line, 0 a flat stage. Slopes of
                 the same ratio, such as 1-1-1-1 and 2-2-2-2, are one network.
    Widths are rounded to whole numbers, halves up: 24 rising by 70 is the paper's 24-33-42-50-59-68-77-85-94.

What the paper does not say, and what is declared here:
    * a penultimate width of 640. Of the widths that lead to the paper's numbers of parameters (576 to 784 with 100 classes) it is the
      one half as wide as MobileNetV2's; 1280 would make 0.64M of its 0.5M.
    * where maps are halved (`HALVED_BEFORE`, for 32x32 images with a stem of stride 1), so that straight lines of the paper's
      parameters have its multiply-adds.
    * expansion 6 in the first block too, and ReXNet's shortcut: the input is added to as many of the output's channels as it has.

`rexnet` and `mobilenet_v2` are the published networks out of the same builder, with the weights' names of timm's ReXNet.
The blocks are timm's (Apache 2.0), after the authors' https://github.com/clovaai/rexnet (MIT).
"""

import math
from collections.abc import Mapping, Sequence

from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
)
from timm.layers import ClassifierHead, ConvNormAct, DropPath
from timm.models.rexnet import LinearBottleneck, RexNet
from torch import nn

from naxcli import Space

SLOPES = ("slope_1", "slope_2", "slope_3", "slope_4")
STRAIGHT = dict.fromkeys(SLOPES, 1)
PENULTIMATE_WIDTH = 640
HALVED_BEFORE = {5: (3, 4), 9: (4, 7), 13: (5, 8, 11)}
"""For each number of blocks, those with stride 2, counted from 1."""
MOBILENET_V2 = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)


class BottleneckNetwork(RexNet):
    """A stem, inverted bottlenecks of given widths, a penultimate 1x1 convolution and a classifier.

    Passes, feature maps and the rest of what timm asks of a network are those of its ReXNet, whose maps are the ones before
    each stride and the last.

    Args:
        widths: Output channels of each block.
        halved_before: Blocks with stride 2, counted from 1.
        num_classes: Classes of the classifier.
        in_channels: Channels of the images.
        stem_width: Channels of the stem, a 3x3 convolution.
        stem_stride: Stride of the stem.
        penultimate_width: Channels before the classifier.
        first_expansion: Expansion of the first block; that of all others is 6.
        activation: Of every convolution but the depthwise ones, which have ReLU6.
        squeezes_from: First block with squeeze-and-excitation (to 1/12 of its channels), counted from 1; None has none.
        adds_to_wider: Whether the input is also added to an output with more channels, to the first of them.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        halved_before: Sequence[int],
        num_classes: int,
        in_channels: int,
        stem_width: int,
        stem_stride: int,
        penultimate_width: int,
        first_expansion: int = 6,
        activation: str = "relu6",
        squeezes_from: int | None = None,
        adds_to_wider: bool = True,
    ) -> None:
        super(RexNet, self).__init__()  # not ReXNet's own, which sets the widths
        self.num_classes = num_classes
        self.drop_rate = 0.0
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = penultimate_width
        self.stem = ConvNormAct(in_channels, stem_width, 3, stride=stem_stride, act_layer=activation)
        layers: list[nn.Module] = []
        self.feature_info: list[dict[str, str | int]] = []
        before, reduction = stem_width, stem_stride
        for index, width in enumerate(widths, start=1):
            if index in halved_before:
                if index > 1:
                    self._note_maps(before, reduction, index - 2)
                reduction *= 2
            block = LinearBottleneck(
                before,
                width,
                stride=2 if index in halved_before else 1,
                exp_ratio=first_expansion if index == 1 else 6,
                se_ratio=1 / 12 if squeezes_from is not None and index >= squeezes_from else 0.0,
                act_layer=activation,
                drop_path=DropPath(),
            )
            block.use_shortcut = block.use_shortcut and (adds_to_wider or before == width)
            layers.append(block)
            before = width
        layers.append(ConvNormAct(before, penultimate_width, 1, act_layer=activation))
        self._note_maps(before, reduction, len(widths) - 1)
        self.stage_ends = [int(str(info["module"]).rpartition(".")[2]) for info in self.feature_info]
        self.features = nn.Sequential(*layers)
        self.head = ClassifierHead(penultimate_width, num_classes)
        self.apply(initialise)

    def _note_maps(self, num_channels: int, reduction: int, index: int) -> None:
        self.feature_info.append({"num_chs": num_channels, "reduction": reduction, "module": f"features.{index}"})


def initialise(module: nn.Module) -> None:
    """Initialise a layer as timm does those of this family: He et al. (2015) by the fan-out of a group."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
        nn.init.zeros_(module.bias)


def channels(config: Mapping[str, str | int | float | bool]) -> tuple[int, ...]:
    """Return the width of each block, from the first to the last."""
    first, rise, steps = int(config["first_width"]), int(config["rise"]), int(config["blocks"]) - 1
    slopes = [int(config[name]) for name in SLOPES]
    # In units of which a quarter of the indices is `steps` long, so that everything is a whole number.
    total = steps * sum(slopes)
    risen = [
        sum(slope * min(max(len(slopes) * step - quarter * steps, 0), steps) for quarter, slope in enumerate(slopes))
        for step in range(steps + 1)
    ]
    return tuple(first + (2 * rise * part + total) // (2 * total) for part in risen)


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> BottleneckNetwork:
    """Return the network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""

    def scaled(number: int) -> int:
        return max(2, round(number * width))

    widths = channels(config)
    return BottleneckNetwork(
        [scaled(number) for number in widths],
        halved_before=HALVED_BEFORE[len(widths)],
        num_classes=num_classes,
        in_channels=in_channels,
        stem_width=scaled(16),
        stem_stride=1,
        penultimate_width=scaled(PENULTIMATE_WIDTH),
    )


def rexnet(multiplier: float = 1.0, *, num_classes: int = 1000, in_channels: int = 3) -> BottleneckNetwork:
    """Return ReXNet for 224x224 images, whose 16 widths rise by 180 / 16 a block: timm's `rexnet_100` to `rexnet_300`.

    Args:
        multiplier: Factor on all widths, at least 1.
        num_classes: Classes of the classifier.
        in_channels: Channels of the images.
    """
    return BottleneckNetwork(
        [round((16 + 180 / 16 * block) * multiplier) for block in range(16)],
        halved_before=(2, 4, 6, 12),
        num_classes=num_classes,
        in_channels=in_channels,
        stem_width=round(32 * multiplier),
        stem_stride=2,
        penultimate_width=round(1280 * multiplier),
        first_expansion=1,
        activation="silu",
        squeezes_from=4,
    )


def mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> BottleneckNetwork:
    """Return MobileNetV2 for 224x224 images (Sandler et al., CVPR 2018), whose widths are steps: timm's `mobilenetv2_100`."""
    return BottleneckNetwork(
        MOBILENET_V2,
        halved_before=(2, 4, 7, 14),
        num_classes=num_classes,
        in_channels=in_channels,
        stem_width=32,
        stem_stride=2,
        penultimate_width=1280,
        first_expansion=1,
        adds_to_wider=False,
    )


def deletable_blocks(network: nn.Module) -> list[str]:
    """Return the names of the blocks that pass their input on; new channels are the block's own, so that those that add some do not."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, LinearBottleneck) and module.use_shortcut and module.in_channels == module.out_channels
    ]


def canonical(config: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """Return the configuration whose slopes have no common factor."""
    factor = math.gcd(*(int(config[name]) for name in SLOPES))
    return {**config, **{name: int(config[name]) // factor for name in SLOPES}}


def configspace(seed: int | None = None, *, blocks: int = 9) -> ConfigurationSpace:
    """Return the channel configurations of a number of blocks; the default is the paper's best of nine."""
    space = ConfigurationSpace(name="rexnet", seed=seed)
    slopes = [Categorical(name, [0, 1, 2, 3], default=1, ordered=True) for name in SLOPES]
    space.add(
        Constant("blocks", blocks),
        Integer("first_width", (8, 64), log=True, default=24),
        Integer("rise", (8, 320), log=True, default=70),
        *slopes,
        ForbiddenAndConjunction(*(ForbiddenEqualsClause(slope, 0) for slope in slopes)),
    )
    return space


SPACE = Space(
    name="rexnet",
    configspace=configspace,
    build=build,
    canonical=canonical,
    groups={"slopes": SLOPES},
    reference={
        "best_9": {"blocks": 9, "first_width": 24, "rise": 70, **STRAIGHT},
        "straight_1m": {"blocks": 9, "first_width": 40, "rise": 99, **STRAIGHT},
    },
    profiles={"channels": channels},
    blocks=deletable_blocks,
    paper="Han et al., CVPR 2021",
)
