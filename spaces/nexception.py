"""The NEXcepTion search space: 98,304 Xception-style networks, reduced for 32x32 images or at the paper's full size.

Paper: Shavit, Jatelnicki, Mor-Puigventós, Kowalczyk, "From Xception to NEXcepTion: New Design Decisions and Neural
Architecture Search", ICPRAM 2023, doi:10.5220/0011623100003411; networks: its appendix, Tables 1 to 6. Xception:
Chollet, CVPR 2017. The authors released three final networks and a training script, but neither the search space nor
the search. This file is written from the papers and copies no code; its licence is naxcli's (Apache-2.0).

A network is stem -> entry flow (downsampling blocks) -> middle flow (blocks of constant width) -> exit flow -> head.
The reduced network has one downsampling block in the entry flow and four middle blocks, T and S have three and eight;
TP has four stages of middle blocks instead.

Hyperparameters
    kernel_size         of the separable convolutions of all blocks (the exit flow ends with 3x3 ones in any case)
    stem                conv: 3x3 stride 2 to 32, then 3x3 to 64 channels (Xception); patchify: 2x2 stride 2 to 96
    pooling             of downsampling blocks. max: 3x3 stride 2; conv: 2x2 stride 2 with bias, as in ConvNeXt;
                        blur: max 3x3 stride 1, then blur 3x3 stride 2
    block               of the middle flow. xception: c -> c -> c -> c; bottleneck: c -> 3c -> c -> c
    se                  squeeze-and-excitation at the end of each block's branch
    activation          its type everywhere: blocks, stem, squeeze-and-excitation, exit flow
    normalization       its type at the positions below; everything else (stem, shortcuts, squeeze-and-excitation,
                        last convolutions of the exit flow) keeps batch normalization
    activation_1..3     an activation before separable convolution 1, 2, 3 of a block
    activation_end      an activation after normalization 3, before squeeze-and-excitation and the addition (our reading:
                        the paper names no positions, and without it there are 49,152 configurations, fewer than its
                        "more than fifty thousand")
    normalization_1..3  a normalization after separable convolution 1, 2, 3 of a block
Downsampling blocks have two separable convolutions and follow positions 1 and 2: that one rule gives Xception's "ReLU,
sep, BN, ReLU, sep, BN" and NEXcepTion's "sep, BN, GELU, sep, BN".

The same network by another name (`canonical`): the normalization type where no position has a normalization; and celu,
because CELU with PyTorch's alpha of 1 is ELU with alpha 1. 69,120 networks remain. No other two agree: an activation
position is never next to another activation throughout a network, and every other choice changes parameters or pooling.

Deviations, and decisions where the papers are silent
    * Xception does not pad its stem's convolutions and has no activation before its first separable convolution, whose
      input is rectified already; here convolutions keep the map's size, and the position bits alone decide.
    * Stems keep their origins' order: patchify is convolution, activation, norm; conv is convolution, norm, activation.
    * Maps of odd size are pooled to ceil(n / 2) by all three poolings, as the shortcut needs.
    * Convolutions and linear layers start from PyTorch's default initialisation.
    * TP has neither the stem nor the downsampling blocks of the others, so `stem` and `pooling` do not act there. Its
      stochastic depth grows linearly over all blocks, as in ConvNeXt and in the released code.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from ConfigSpace import Categorical, ConfigurationSpace
from timm.layers import BlurPool2d, DropPath, LayerNorm2d, NormMlpClassifierHead, SqueezeExcite, create_conv2d
from timm.models import checkpoint_seq
from torch import Tensor, nn

from naxcli import Space, Variant

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "elu": nn.ELU, "celu": nn.CELU}
NORMALIZATIONS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "layer": LayerNorm2d}


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A configuration in terms of layers; positions are those of a block's separable convolutions 1, 2 and 3."""

    kernel_size: int
    stem: str
    pooling: str
    block: str
    has_se: bool
    activation: type[nn.Module]
    normalization: type[nn.Module]
    activates_before: tuple[bool, ...]
    activates_end: bool
    normalizes_after: tuple[bool, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, str | int | float | bool]) -> Self:
        return cls(
            kernel_size=int(config["kernel_size"]),
            stem=str(config["stem"]),
            pooling=str(config["pooling"]),
            block=str(config["block"]),
            has_se=config["se"] == "yes",
            activation=ACTIVATIONS[str(config["activation"])],
            normalization=NORMALIZATIONS[str(config["normalization"])],
            activates_before=tuple(config[f"activation_{position}"] == "yes" for position in (1, 2, 3)),
            activates_end=config["activation_end"] == "yes",
            normalizes_after=tuple(config[f"normalization_{position}"] == "yes" for position in (1, 2, 3)),
        )


class SeparableConv2d(nn.Sequential):
    """Depthwise k x k, then pointwise 1 x 1 convolution, both without bias; the map keeps its size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)


def separable_branch(design: Design, channels: tuple[int, ...]) -> nn.Sequential:
    """Return separable convolutions through these channel counts, with activations and normalizations where chosen."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for position, (c_in, c_out) in enumerate(pairwise(channels), start=1):
        if design.activates_before[position - 1]:
            layers[f"act{position}"] = design.activation()
        layers[f"conv{position}"] = SeparableConv2d(c_in, c_out, design.kernel_size)
        if design.normalizes_after[position - 1]:
            layers[f"norm{position}"] = design.normalization(c_out)
    return nn.Sequential(layers)


def squeeze_excite(design: Design, channels: int) -> nn.Module:
    """Return timm's squeeze-and-excitation (to channels / 16, with batch normalization inside), or nothing."""
    if not design.has_se:
        return nn.Identity()
    se: nn.Module = SqueezeExcite(channels, act_layer=design.activation, norm_layer=nn.BatchNorm2d)
    return se


def downsampling_pool(design: Design, channels: int) -> nn.Module:
    """Return the pooling that halves a map, (n, n) -> (ceil(n / 2), ceil(n / 2))."""
    if design.pooling == "max":
        return nn.MaxPool2d(3, stride=2, padding=1)
    if design.pooling == "conv":
        # Padding "same" does nothing on even maps; on odd ones it adds the row and column that the shortcut also sees.
        conv: nn.Module = create_conv2d(channels, channels, 2, stride=2, padding="same", bias=True)
        return conv
    return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), BlurPool2d(channels, filt_size=3, stride=2))


class MiddleBlock(nn.Module):
    """Three separable convolutions, of constant width or through three times the width, added to the input.

    Args:
        design: the configuration.
        channels: of input and output.
        drop_path_scale: share of the network's stochastic depth rate that this block gets, 0 to 1.
    """

    def __init__(self, design: Design, channels: int, *, drop_path_scale: float = 1.0) -> None:
        super().__init__()
        widest = 3 * channels if design.block == "bottleneck" else channels
        self.branch = separable_branch(design, (channels, widest, channels, channels))
        if design.activates_end:
            self.branch.add_module("act_end", design.activation())
        self.se = squeeze_excite(design, channels)
        self.drop_path = DropPath()
        self.drop_path.rate_scale = drop_path_scale

    def forward(self, x: Tensor) -> Tensor:
        # (batch, channels, n, n) -> the same
        out: Tensor = self.drop_path(self.se(self.branch(x))) + x
        return out


class DownsamplingBlock(nn.Module):
    """Two separable convolutions and a pooling; added to a strided 1 x 1 convolution of the input.

    Args:
        design: the configuration.
        in_channels: of the input.
        out_channels: of the output.
        grows_first: whether the first separable convolution changes the width (entry flow) or the second (exit flow).
    """

    def __init__(self, design: Design, in_channels: int, out_channels: int, *, grows_first: bool = True) -> None:
        super().__init__()
        hidden = out_channels if grows_first else in_channels
        self.branch = separable_branch(design, (in_channels, hidden, out_channels))
        self.pool = downsampling_pool(design, out_channels)
        self.se = squeeze_excite(design, out_channels)
        self.drop_path = DropPath()
        self.shortcut = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False), norm=nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        # (batch, in, n, n) -> (batch, out, ceil(n / 2), ceil(n / 2))
        out: Tensor = self.drop_path(self.se(self.pool(self.branch(x)))) + self.shortcut(x)
        return out


class Stage(nn.Sequential):
    """Layers in sequence, which can trade time for memory: `grad_checkpointing` keeps their inputs only, and computes the rest again."""

    def __init__(self, *layers: nn.Module | OrderedDict[str, nn.Module]) -> None:
        super().__init__(*layers)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training and not torch.jit.is_scripting():
            x = checkpoint_seq(self, x)
        else:
            for layer in self:
                x = layer(x)
        return x


class Network(nn.Module):
    """Stem, stages of falling resolution, and timm's classifier head; with timm's methods for features and classifiers.

    Args:
        stem: (batch, in_channels, n, n) -> (batch, stem channels, n / 2, n / 2), or n / 4 (TP).
        stages: of blocks.
        feature_info: for timm's feature extraction, see `feature_info`: of the stages, or of the stem and the stages.
        num_classes: of the classifier, 0 for none.
        head_norm: whether the pooled features are batch-normalized (TP).
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stages: list[Stage],
        *,
        feature_info: list[dict[str, str | int]],
        num_classes: int,
        head_norm: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.feature_info = feature_info
        self.num_features = self.head_hidden_size = int(feature_info[-1]["num_chs"])
        head_norm_layer = nn.BatchNorm2d if head_norm else nn.Identity
        self.head = NormMlpClassifierHead(self.num_features, num_classes, norm_layer=head_norm_layer)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, (batch, num_features, n / reduction, n / reduction)."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (batch, num_classes), or the pooled features (batch, num_features) before the classifier."""
        logits: Tensor = self.head(x, pre_logits=pre_logits)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last feature map and the ones in between, as timm's feature wrappers want them.

        Args:
            x: images, (batch, in_channels, n, n).
            indices: which of `feature_info`: these, the last so many, or all (None).
            norm: no matter here, as no normalization follows the last stage.
            stop_early: whether to leave out the stages after the last map that is wanted.
            output_fmt: NCHW, the only layout.
            intermediates_only: whether to return the list alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"feature maps are laid out as NCHW, not {output_fmt}")
        taken = self._feature_indices(indices)
        first = len(self.feature_info) - len(self.stages)  # 1 where the stem's map is a feature too
        x = self.stem(x)
        intermediates = [x] if first and 0 in taken else []
        for index, stage in enumerate(self.stages, start=first):
            if stop_early and index > max(taken):
                break
            x = stage(x)
            if index in taken:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of these feature maps, and the classifier; return the indices of the maps.

        Args:
            indices: as in `forward_intermediates`.
            prune_norm: no matter here, as no normalization follows the last stage.
            prune_head: whether the classifier goes where all stages stay.
        """
        taken = self._feature_indices(indices)
        num_stages = max(taken) + 1 - (len(self.feature_info) - len(self.stages))
        if prune_head or num_stages < len(self.stages):
            self.stages = self.stages[:num_stages]
            self.feature_info = self.feature_info[: max(taken) + 1]
            self.num_classes = 0
            self.num_features = self.head_hidden_size = int(self.feature_info[-1]["num_chs"])
            self.head = NormMlpClassifierHead(self.num_features, 0, pool_type="", norm_layer=nn.Identity)
        return taken

    def _feature_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        every = range(len(self.feature_info))
        wanted = every if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
        return [every[index] for index in wanted]

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; 0 classes leave pooled features, `global_pool=""` leaves maps."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: keep only the blocks' inputs for the backward pass and compute the rest again."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str | list[tuple[str, None]]]:
        """Return which parameters lie at one depth, for timm's learning rates by layer: stages (coarse) or blocks."""
        blocks = [(r"^stages\.(\d+)\.(\d+)", None), (r"^stages\.(\d+)\.\D", None)]  # the exit flow is one block
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else blocks}

    def set_drop_path_rate(self, rate: float) -> None:
        """Set stochastic depth: each block is skipped with probability `rate` times its `rate_scale` (1 but in TP)."""
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = rate * getattr(module, "rate_scale", 1.0)


def scaled(channels: int, width: float) -> int:
    """Return channels times width, at least 8, as a multiple of 8 (below 256 channels of 4, below 128 of 2).

    Processors like multiples of 8; of few channels, steps of 8 would be so coarse that some sizes of network had no width.
    """
    exact = channels * width
    step = 8 if exact >= 256 else 4 if exact >= 128 else 2
    return max(8, step * math.floor(exact / step + 0.5))


def feature_info(modules: list[str], channels: tuple[int, ...], *, first_reduction: int) -> list[dict[str, str | int]]:
    """Return timm's description of the feature maps, each at half the resolution of the one before."""
    return [
        {"module": module, "num_chs": num_channels, "reduction": first_reduction * 2**index}
        for index, (module, num_channels) in enumerate(zip(modules, channels, strict=True))
    ]


def make_stem(design: Design, in_channels: int, width: float) -> tuple[nn.Sequential, int]:
    """Return the stem, which halves the image, and its number of output channels."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if design.stem == "patchify":
        out_channels = scaled(96, width)
        layers["conv"] = nn.Conv2d(in_channels, out_channels, 2, stride=2)
        layers["act"] = design.activation()
        layers["norm"] = nn.BatchNorm2d(out_channels)
    else:
        hidden, out_channels = scaled(32, width), scaled(64, width)
        layers["conv1"] = nn.Conv2d(in_channels, hidden, 3, stride=2, padding=1, bias=False)
        layers["norm1"] = nn.BatchNorm2d(hidden)
        layers["act1"] = design.activation()
        layers["conv2"] = nn.Conv2d(hidden, out_channels, 3, padding=1, bias=False)
        layers["norm2"] = nn.BatchNorm2d(out_channels)
        layers["act2"] = design.activation()
    return nn.Sequential(layers), out_channels


def exit_flow(design: Design, in_channels: int, width: float) -> Stage:
    """Return Xception's exit flow: a downsampling block to 1024, then separable 3 x 3 to 1536 and 2048 channels."""
    c1, c2, c3 = (scaled(channels, width) for channels in (1024, 1536, 2048))
    return Stage(
        OrderedDict(
            block=DownsamplingBlock(design, in_channels, c1, grows_first=False),
            conv1=SeparableConv2d(c1, c2, 3),
            norm1=nn.BatchNorm2d(c2),
            act1=design.activation(),
            conv2=SeparableConv2d(c2, c3, 3),
            norm2=nn.BatchNorm2d(c3),
            act2=design.activation(),
        )
    )


def three_flows(
    config: Mapping[str, str | int | float | bool],
    *,
    entry_channels: tuple[int, ...],
    middle_depth: int,
    num_classes: int,
    in_channels: int,
    width: float,
) -> Network:
    """Return a network of entry, middle and exit flow.

    Args:
        config: a configuration of this space.
        entry_channels: of each downsampling block of the entry flow; the last is the width of the middle flow.
        middle_depth: number of blocks of the middle flow.
        num_classes: of the classifier.
        in_channels: of the images.
        width: factor of all channel counts.
    """
    design = Design.from_config(config)
    stem, stem_channels = make_stem(design, in_channels, width)
    channels = (stem_channels, *(scaled(channels, width) for channels in entry_channels))
    stages = [Stage(DownsamplingBlock(design, c_in, c_out)) for c_in, c_out in pairwise(channels)]
    stages[-1].extend(MiddleBlock(design, channels[-1]) for _ in range(middle_depth))
    stages.append(exit_flow(design, channels[-1], width))
    last_stem_layer = list(dict(stem.named_children()))[-1]
    features = feature_info(
        [f"stem.{last_stem_layer}", *(f"stages.{index}" for index in range(len(stages)))],
        (*channels, scaled(2048, width)),
        first_reduction=2,
    )
    return Network(stem, stages, feature_info=features, num_classes=num_classes)


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> Network:
    """Return the reduced network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes).

    Raises:
        ValueError: if the image is smaller than 8 pixels, which three halvings would shrink to nothing.
    """
    if image_size < 8:
        raise ValueError(f"images of {image_size} pixels are too small for this network: 8 is the least")
    return three_flows(
        config, entry_channels=(512,), middle_depth=4, num_classes=num_classes, in_channels=in_channels, width=width
    )


def nexception_t(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return variant T: Xception's depths with a middle flow of 512 channels, for 224 x 224 images."""
    return three_flows(
        config,
        entry_channels=(128, 256, 512),
        middle_depth=8,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
    )


def nexception_s(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return variant S: as T with a middle flow of 752 channels."""
    return three_flows(
        config,
        entry_channels=(128, 256, 752),
        middle_depth=8,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
    )


def nexception_tp(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return variant TP: middle blocks in ConvNeXt-T's pyramid of four stages, for 224 x 224 images."""
    design = Design.from_config(config)
    depths = (3, 4, 9, 3)
    channels = tuple(scaled(channels, width) for channels in (96, 192, 384, 768))
    stem = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(in_channels, channels[0], 4, stride=4), norm=nn.BatchNorm2d(channels[0]))
    )
    scales = iter(torch.linspace(0, 1, sum(depths), device="cpu").tolist())
    stages = []
    for index, (depth, c_out) in enumerate(zip(depths, channels, strict=True)):
        stage = Stage()
        if index > 0:
            c_in = channels[index - 1]
            stage.extend([nn.BatchNorm2d(c_in), nn.Conv2d(c_in, c_out, 2, stride=2)])
        stage.extend(MiddleBlock(design, c_out, drop_path_scale=next(scales)) for _ in range(depth))
        stages.append(stage)
    features = feature_info([f"stages.{index}" for index in range(len(stages))], channels, first_reduction=4)
    return Network(stem, stages, feature_info=features, num_classes=num_classes, head_norm=True)


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return the 98,304 configurations; choices stand in their natural order, defaults are Xception's."""
    space = ConfigurationSpace(name="nexception", seed=seed)
    space.add(
        Categorical("kernel_size", [3, 5, 7, 9], default=3, ordered=True),
        Categorical("stem", ["conv", "patchify"], default="conv"),
        Categorical("pooling", ["max", "conv", "blur"], default="max"),
        Categorical("block", ["xception", "bottleneck"], default="xception"),
        Categorical("se", ["no", "yes"], default="no"),
        Categorical("activation", ["relu", "gelu", "elu", "celu"], default="relu"),
        Categorical("normalization", ["batch", "layer"], default="batch"),
        *(Categorical(name, ["no", "yes"], default=XCEPTION[name]) for name in POSITIONS),
    )
    return space


def canonical(config: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """Return the configuration that names the same network in the one agreed way (see the top of the file)."""
    result = dict(config)
    if all(result[name] == "no" for name in NORMALIZATION_POSITIONS):
        result["normalization"] = "batch"
    if result["activation"] == "celu":
        result["activation"] = "elu"
    return result


ACTIVATION_POSITIONS = ("activation_1", "activation_2", "activation_3", "activation_end")
NORMALIZATION_POSITIONS = ("normalization_1", "normalization_2", "normalization_3")
POSITIONS = ACTIVATION_POSITIONS + NORMALIZATION_POSITIONS

XCEPTION: dict[str, str | int | float | bool] = {
    "kernel_size": 3,
    "stem": "conv",
    "pooling": "max",
    "block": "xception",
    "se": "no",
    "activation": "relu",
    "normalization": "batch",
    **dict.fromkeys(POSITIONS, "yes"),
    "activation_end": "no",
}
NEXCEPTION: dict[str, str | int | float | bool] = {
    "kernel_size": 5,
    "stem": "patchify",
    "pooling": "blur",
    "block": "bottleneck",
    "se": "yes",
    "activation": "gelu",
    "normalization": "batch",
    **dict.fromkeys(POSITIONS, "no"),
    "activation_2": "yes",
    "normalization_1": "yes",
    "normalization_2": "yes",
}

VARIANTS = {
    "T": Variant(build=nexception_t, reference="nexception"),
    # The paper trains S with half the batch and a smaller learning rate.
    "S": Variant(build=nexception_s, reference="nexception", recipe={"batch_size": 128, "learning_rate": 1.4e-3}),
    "TP": Variant(build=nexception_tp, reference="nexception"),
}

SPACE = Space(
    name="nexception",
    configspace=configspace,
    build=build,
    groups={"activation_positions": ACTIVATION_POSITIONS, "normalization_positions": NORMALIZATION_POSITIONS},
    reference={"xception": XCEPTION, "nexception": NEXCEPTION},
    variants=VARIANTS,
    baselines={"legacy_xception": 299},  # Xception, at the size that it was made for
    canonical=canonical,
    paper="Shavit et al., From Xception to NEXcepTion, ICPRAM 2023, doi:10.5220/0011623100003411",
)
