"""Between MobileOne and SwiftFormer: each stage is of either kind, with attention in none, some or all of its blocks.

Papers: Ouertatani et al., "Neural Architecture Tuning: A BO-Powered NAS Tool", OLA 2024 (the space); Vasu et al., "MobileOne: An
Improved One Millisecond Mobile Backbone", CVPR 2023; Shaker et al., "SwiftFormer: Efficient Additive Attention for
Transformer-based Real-time Mobile Vision Applications", ICCV 2023. Blocks are timm's.

Hyperparameters, for each of four stages
    block_1 .. block_4          swiftformer: convolutional encoders; mobileone: blocks that train with branches and infer without;
                                mobileone_se: these with squeeze-and-excitation
    attention_1 .. attention_4  which blocks have efficient additive attention: none, last_1, last_2, all
These are 12^4 = 20,736 configurations with both parents among them, `mobileone_s0` and `swiftformer_xs`, of which timm has the
networks. The paper says no more; these are our readings:
    * A stage has depth and channels of the parent that its blocks are of (2, 8, 10, 1 and 48, 128, 256, 1024 for MobileOne,
      3, 3, 6, 4 and 48, 56, 112, 220 for SwiftFormer), and halves its map as that does. Stem and last normalization are those
      of the parent of the first and the last stage.
    * A block with attention is SwiftFormer's: local representation, attention, multilayer perceptron. In MobileOne's stages the
      block of convolutions is its local representation.
Stages of one or two blocks give some choices of attention twice (`canonical`); 11,520 architectures remain.

Deviations: SwiftFormer's second classifier, which learns from a teacher, is left out. Convolutions start as in MobileOne,
linear layers as in SwiftFormer. The reduced network's stem has half the stride, for images of 32 pixels; variant `full` is for 224.
"""

import math
from collections.abc import Mapping
from functools import partial

from ConfigSpace import Categorical, ConfigurationSpace
from timm.layers import ClassifierHead, DropPath, SqueezeExcite
from timm.models.byobnet import ByobNet, LayerFn, create_block
from timm.models.swiftformer import Block, ConvEncoder, Embedding
from torch import nn

from naxcli import Space

MOBILEONE = ((2, 48), (8, 128), (10, 256), (1, 1024))  # depth and channels of the stages
SWIFTFORMER = ((3, 48), (3, 56), (6, 112), (4, 220))
NUM_BRANCHES = 4
MLP_RATIO = 4
ATTENTION = {"none": 0, "last_1": 1, "last_2": 2, "all": 99}


class HybridNetwork(ByobNet):
    """timm's network of stem, stages, last layer and classifier, whose parts are given to it.

    Args:
        stem: of the network.
        stages: of falling resolution.
        norm: last layer before the classifier.
        feature_info: timm's description of the maps of stages.
        num_classes: of the classifier.
        in_channels: of the images.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: list[nn.Sequential],
        norm: nn.Module,
        *,
        feature_info: list[dict[str, str | int]],
        num_classes: int,
        in_channels: int,
    ) -> None:
        nn.Module.__init__(self)  # ByobNet's own builds stages of one kind of block from a description
        self.num_classes, self.in_chans = num_classes, in_channels
        self.drop_rate, self.grad_checkpointing, self.global_pool = 0.0, False, "avg"
        self.feature_info = feature_info
        self.stage_ends = [info["stage"] for info in feature_info]
        self.num_features = self.head_hidden_size = int(feature_info[-1]["num_chs"])
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.final_conv = norm
        self.head = ClassifierHead(self.num_features, num_classes)
        self.apply(initialise)


def initialise(module: nn.Module) -> None:
    """Set the weights that a layer starts from."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def mobileone_block(in_channels: int, out_channels: int, *, stride: int, has_se: bool) -> nn.Sequential:
    """Return a depthwise 3 x 3 and a pointwise convolution, each of several branches."""
    block = partial(create_block, "one", num_conv_branches=NUM_BRANCHES)
    layers = LayerFn(attn=SqueezeExcite if has_se else None)
    return nn.Sequential(
        block(in_chs=in_channels, out_chs=in_channels, stride=stride, group_size=1, layers=layers),
        block(in_chs=in_channels, out_chs=out_channels, kernel_size=1, layers=layers),
    )


def with_drop_path(block: nn.Module) -> nn.Module:
    """Return a block of SwiftFormer with a layer whose rate training sets."""
    block.drop_path = DropPath()
    return block


def mobileone_stage(in_channels: int, channels: int, depth: int, num_attention: int, *, has_se: bool) -> nn.Sequential:
    """Return a stage of MobileOne: (batch, in, n, n) -> (batch, channels, n / 2, n / 2)."""
    blocks = []
    for index in range(depth):
        block = mobileone_block(in_channels, channels, stride=1 if index else 2, has_se=has_se)
        if index >= depth - num_attention:
            encoder = with_drop_path(Block(channels, MLP_RATIO))
            encoder.local_representation = block
            blocks.append(encoder)
        else:
            blocks.append(block)
        in_channels = channels
    return nn.Sequential(*blocks)


def swiftformer_stage(
    in_channels: int, channels: int, depth: int, num_attention: int, *, is_halved: bool
) -> nn.Sequential:
    """Return a stage of SwiftFormer: (batch, in, n, n) -> (batch, channels, n / 2, n / 2), or n where the stem did that."""
    blocks = [Embedding(in_channels, channels, patch_size=3, stride=2, padding=1)] if is_halved else []
    for index in range(depth):
        has_attention = index >= depth - num_attention
        block = Block(channels, MLP_RATIO) if has_attention else ConvEncoder(channels, MLP_RATIO * channels)
        blocks.append(with_drop_path(block))
    return nn.Sequential(*blocks)


def make_stem(in_channels: int, channels: int, *, is_swiftformer: bool, stride: int) -> nn.Module:
    """Return the stem of MobileOne, which divides the image's side by `stride`, or of SwiftFormer, which does so by 2 * stride."""
    if not is_swiftformer:
        stem: nn.Module = create_block(
            "one", in_chs=in_channels, out_chs=channels, kernel_size=3, stride=stride, layers=LayerFn()
        )
        return stem
    return nn.Sequential(
        nn.Conv2d(in_channels, channels // 2, 3, stride, padding=1),
        nn.BatchNorm2d(channels // 2),
        nn.ReLU(),
        nn.Conv2d(channels // 2, channels, 3, 2, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def shape_of(block: str, number: int) -> tuple[int, int]:
    """Return depth and channels of a stage of that kind."""
    return (SWIFTFORMER if block == "swiftformer" else MOBILEONE)[number - 1]


def hybrid_network(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    width: float,
    stem_stride: int,
) -> HybridNetwork:
    """Return the network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""
    is_swiftformer = config["block_1"] == "swiftformer"
    channels = scaled(shape_of(str(config["block_1"]), 1)[1], width)
    stem = make_stem(in_channels, channels, is_swiftformer=is_swiftformer, stride=stem_stride)
    stages, features = [], []
    for number in range(1, 5):
        block = str(config[f"block_{number}"])
        depth, full_channels = shape_of(block, number)
        num_attention = ATTENTION[str(config[f"attention_{number}"])]
        in_stage, channels = channels, scaled(full_channels, width)
        if block == "swiftformer":
            stage = swiftformer_stage(in_stage, channels, depth, num_attention, is_halved=number > 1)
        else:
            stage = mobileone_stage(in_stage, channels, depth, num_attention, has_se=block == "mobileone_se")
        stages.append(stage)
        module = f"stages.{number - 1}" if number < 4 else "final_conv"
        features.append({"module": module, "num_chs": channels, "reduction": stem_stride * 2**number, "stage": number})
    norm = nn.BatchNorm2d(channels) if config["block_4"] == "swiftformer" else nn.Identity()
    return HybridNetwork(stem, stages, norm, feature_info=features, num_classes=num_classes, in_channels=in_channels)


def scaled(channels: int, width: float) -> int:
    """Return channels times width, at least 8, as a multiple of 4."""
    return max(8, 4 * round(channels * width / 4))


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> HybridNetwork:
    """Return the reduced network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""
    return hybrid_network(config, num_classes=num_classes, in_channels=in_channels, width=width, stem_stride=1)


def full(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> HybridNetwork:
    """Return the network for 224 x 224 images."""
    return hybrid_network(config, num_classes=num_classes, in_channels=in_channels, width=width, stem_stride=2)


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return the choices of the four stages; defaults are those of MobileOne-S0."""
    space = ConfigurationSpace(name="mobileone_swiftformer", seed=seed)
    for number in range(1, 5):
        blocks = ["swiftformer", "mobileone", "mobileone_se"]
        space.add(
            Categorical(f"block_{number}", blocks, default="mobileone"),
            Categorical(f"attention_{number}", list(ATTENTION), default="none", ordered=True),
        )
    return space


def canonical(config: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """Return the configuration that calls attention in every block of a stage `all`."""
    result = dict(config)
    for number in range(1, 5):
        depth, _ = shape_of(str(config[f"block_{number}"]), number)
        if ATTENTION[str(config[f"attention_{number}"])] >= depth:
            result[f"attention_{number}"] = "all"
    return result


def deletable_blocks(network: nn.Module) -> list[str]:
    """Return the names of the stages' blocks, but for one of convolutions that starts a stage of MobileOne.

    Deleting one leaves its input; one with attention that starts a stage of MobileOne, the convolutions of its local representation.
    """
    return [
        f"stages.{number}.{index}"
        for number, stage in enumerate(network.stages)
        for index, module in enumerate(stage)
        if isinstance(module, Block | ConvEncoder) or (isinstance(module, nn.Sequential) and index > 0)
    ]


def parent(block: str, attention: str) -> dict[str, str | int | float | bool]:
    """Return the configuration whose stages are all the same."""
    return {
        name: value
        for number in range(1, 5)
        for name, value in ((f"block_{number}", block), (f"attention_{number}", attention))
    }


SPACE = Space(
    name="mobileone_swiftformer",
    configspace=configspace,
    build=build,
    groups={
        "blocks": [f"block_{number}" for number in range(1, 5)],
        "attention": [f"attention_{number}" for number in range(1, 5)],
    },
    reference={"mobileone_s0": parent("mobileone", "none"), "swiftformer_xs": parent("swiftformer", "last_1")},
    variants={"full": full},
    canonical=canonical,
    blocks=deletable_blocks,
    paper="Ouertatani et al., Neural Architecture Tuning, OLA 2024; Vasu et al., CVPR 2023; Shaker et al., ICCV 2023",
)
