"""MobileOne with other depths and widths: networks that train with branches and infer without, on timm's blocks.

Papers: Ouertatani et al., "Neural Architecture Tuning: A BO-Powered NAS Tool", OLA 2024 (the space); Vasu et al., "MobileOne: An
Improved One Millisecond Mobile Backbone", CVPR 2023 (the networks; timm's `mobileone_s0`).

Hyperparameters
    depth_1 .. depth_4  blocks of each stage, a depthwise and a pointwise convolution each: 0, 1, 2, 5, 8, 10; a stage without
                        blocks is left out, and so is its stride
    width_1 .. width_4  multiplier of the stage's 64, 128, 256, 512 channels, in steps of 0.25, not falling from stage to stage;
                        inactive where the stage is left out
    se                  squeeze-and-excitation in all convolutions, or in none
    branches            convolutions side by side in a block while it trains, 1 or 4, beside one of 1 x 1 and a normalization

Kept are networks of 19 to 22 blocks with 0.86M to 1.26M parameters in the form for inference, counted at 10 classes and full
width whatever is searched. Of each width those are listed that some network within the limits has.

By this reading the space has 33,776 architectures. The paper states 55,870, which no reading tried gives: with the widths of
empty stages told apart there are 70,550. `mobileone_s0` is one of them, with 4,278,522 parameters at 10 classes while it trains
and 1,063,754 for inference.

The reduced network has a stem without stride, for images of 32 pixels; variant `full` is for 224.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations

from ConfigSpace import Categorical, ConfigurationSpace, ForbiddenGreaterThanRelation, NotEqualsCondition
from timm.layers import make_divisible
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg, MobileOneBlock
from torch import nn

from naxcli import Space

CHANNELS = (64, 128, 256, 512)
DEPTHS = (0, 1, 2, 5, 8, 10)
MAX_WIDTHS = (2.25, 2.75, 4.0, 4.0)
MIN_LAST_WIDTH = 0.5
DEPTH_LIMITS = (19, 22)
PARAMETER_LIMITS = (860_000, 1_260_000)
NUM_CLASSES = 10  # of the limits


def stages_of(config: Mapping[str, str | int | float | bool]) -> list[tuple[int, int]]:
    """Return depth and channels of the stages that have blocks."""
    return [
        (int(config[f"depth_{number}"]), int(channels * float(config[f"width_{number}"])))
        for number, channels in enumerate(CHANNELS, start=1)
        if config[f"depth_{number}"] != 0
    ]


def mobileone_network(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float
) -> ByobNet:
    """Return the full-size network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""
    stages = [(depth, int(make_divisible(channels * width))) for depth, channels in stages_of(config)]
    stem = current = int(make_divisible(min(64, stages_of(config)[0][1]) * width))
    attention = "se" if config["se"] == "yes" else None
    branches = {"num_conv_branches": int(config["branches"])}
    blocks = []
    for depth, channels in stages:
        stage = []
        for _ in range(depth):
            depthwise = ByoBlockCfg("one", 1, current, gs=1, attn_layer=attention, block_kwargs=branches)
            pointwise = ByoBlockCfg(
                "one", 1, channels, gs=0, attn_layer=attention, block_kwargs={"kernel_size": 1, **branches}
            )
            stage += [depthwise, pointwise]
            current = channels
        blocks.append(stage)
    architecture = ByoModelCfg(blocks=blocks, stem_type="one", stem_chs=stem)
    return ByobNet(architecture, num_classes=num_classes, in_chans=in_channels)


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> ByobNet:
    """Return the reduced network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes)."""
    network = mobileone_network(config, num_classes=num_classes, in_channels=in_channels, width=width)
    for module in network.stem.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    for feature in network.feature_info:
        feature["reduction"] //= 2
    return network


def full(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> ByobNet:
    """Return the network for 224 x 224 images."""
    return mobileone_network(config, num_classes=num_classes, in_channels=in_channels, width=width)


def layers_of(config: Mapping[str, str | int | float | bool]) -> Iterator[tuple[int, int, int]]:
    """Yield kernel size, inputs of each output, and outputs of the convolutions of the form for inference, after the stem."""
    stages = stages_of(config)
    current = min(64, stages[0][1])
    for depth, channels in stages:
        for _ in range(depth):
            yield 3, 1, current
            yield 1, current, channels
            current = channels


def inference_params(config: Mapping[str, str | int | float | bool]) -> int:
    """Return the parameters of the form for inference at full width, 3 channels of input and 10 classes, without building it."""
    stages = stages_of(config)
    stem, last = min(64, stages[0][1]), stages[-1][1]
    count = (3 * 3 * 3 + 1) * stem + (last + 1) * NUM_CLASSES
    for size, inputs, outputs in layers_of(config):
        count += (size * size * inputs + 1) * outputs
        if config["se"] == "yes":
            squeezed = int(make_divisible(outputs / 16, 8, round_limit=0.0))
            count += 2 * outputs * squeezed + squeezed + outputs
    return count


def depth_is_that_of_the_space(config: Mapping[str, str | int | float | bool]) -> bool:
    """Return whether the stages have 19 to 22 blocks together."""
    depth = sum(int(config[f"depth_{number}"]) for number in range(1, 5))
    return DEPTH_LIMITS[0] <= depth <= DEPTH_LIMITS[1]


def size_is_that_of_the_space(config: Mapping[str, str | int | float | bool]) -> bool:
    """Return whether the form for inference has 0.86M to 1.26M parameters."""
    return PARAMETER_LIMITS[0] <= inference_params(config) <= PARAMETER_LIMITS[1]


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return depths and widths of the stages; defaults are those of MobileOne-S0."""
    space = ConfigurationSpace(name="mobileone", seed=seed)
    for number, most in enumerate(MAX_WIDTHS, start=1):
        least = MIN_LAST_WIDTH if number == 4 else 0.25
        widths = [step / 4 for step in range(round(4 * least), round(4 * most) + 1)]
        depth = Categorical(f"depth_{number}", DEPTHS, default=S0[f"depth_{number}"], ordered=True)
        width = Categorical(f"width_{number}", widths, default=S0[f"width_{number}"], ordered=True)
        space.add(depth, width, NotEqualsCondition(width, depth, 0))
    widths_of_stages = [space[f"width_{number}"] for number in range(1, 5)]
    # Not a constraint, because one in ten combinations keeps it: ConfigSpace draws these quickly.
    space.add(*(ForbiddenGreaterThanRelation(*pair) for pair in combinations(widths_of_stages, 2)))
    space.add(Categorical("se", ["no", "yes"], default="no"), Categorical("branches", [1, 4], default=4, ordered=True))
    return space


def deletable_blocks(network: nn.Module) -> list[str]:
    """Return the names of the layers of a block that have a branch without a convolution: deleting one leaves its input."""
    return [
        name
        for name, module in network.named_modules()
        if name != "stem" and isinstance(module, MobileOneBlock) and module.identity is not None
    ]


S0: dict[str, str | int | float | bool] = {
    "depth_1": 2,
    "depth_2": 8,
    "depth_3": 10,
    "depth_4": 1,
    "width_1": 0.75,
    "width_2": 1.0,
    "width_3": 1.0,
    "width_4": 2.0,
    "se": "no",
    "branches": 4,
}

SPACE = Space(
    name="mobileone",
    configspace=configspace,
    build=build,
    constraints=[depth_is_that_of_the_space, size_is_that_of_the_space],
    groups={
        "depths": [f"depth_{number}" for number in range(1, 5)],
        "widths": [f"width_{number}" for number in range(1, 5)],
    },
    reference={"mobileone_s0": S0},
    variants={"full": full},
    blocks=deletable_blocks,
    paper="Ouertatani et al., Neural Architecture Tuning, OLA 2024; Vasu et al., MobileOne, CVPR 2023",
)
