"""The NASNet search space: a normal and a reduction cell of five blocks each, stacked; 2.29e18 cells of each kind.

Paper: Zoph, Vasudevan, Shlens, Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018. The
network that it found, NASNet-A, was released in TensorFlow and is timm's `nasnetalarge`; both are Apache-2.0. This file is
written anew.

Hyperparameters, for CELL in normal and reduction and BLOCK from 1 to 5
    CELL_BLOCK_input_1, _2      current (the output of the cell before), previous (that of the one before that), or the output
                                of an earlier block of the same cell
    CELL_BLOCK_operation_1, _2  what is done to each input, of the paper's thirteen operations
    CELL_BLOCK_combination      how the two results become the block's output: add, or concat along the channels
Ordered, as the paper draws them, these are (2 * 3 * 4 * 5 * 6)^2 * (13^2 * 2)^5 = 2.29e18 choices for a cell. The two halves of a
block can be exchanged without changing the network (`canonical`).

N normal cells, a reduction cell, N normal cells, a reduction cell, N normal cells; each reduction doubles the filters F. N and F
belong to the network and not to the space, as in the paper: the reduced network has its proxy's N = 2 and F = 32, which
`width` scales, and the variants are named by kind of images, N, and channels of the last map, 24 * F for NASNet-A.

Counted at 1,000 classes NASNet-A (reference `nasnet_a`) has as `imagenet_6_4032` the 88,753,150 parameters of timm's, whose output
is the same for the same weights.

Deviations, and decisions where the paper and its network differ
    * The paper concatenates the block outputs that no block uses. Its released network, which this file follows, adds to
      them a state that blocks use by an identity only, and in normal cells the previous cell's output.
    * An input that no block uses is concatenated too; in reduction cells it is halved first.
    * ReLU ends every cell and the stem instead of starting whatever uses them, which is the same for NASNet-A.
    * Strided layers pad both sides alike. Operations have one ReLU before and one batch normalization after them, but for
      the separable convolutions, which are applied twice; 1x1 convolutions follow poolings that change the channels.
    * There is no auxiliary classifier. Paths are dropped in proportion to the depth of their cell, but not to the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from ConfigSpace import Categorical, ConfigurationSpace
from timm.layers import ClassifierHead, DropPath
from timm.models import checkpoint_seq
from torch import Tensor, nn
from torch.nn import functional

from naxcli import Space, Variant

NUM_BLOCKS = 5
OPERATIONS = (
    "identity",
    "conv_1x1",
    "conv_3x3",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dilated_3x3",
    "separable_3x3",
    "separable_5x5",
    "separable_7x7",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
)
STATES = ("current", "previous", *(f"block_{number}" for number in range(1, NUM_BLOCKS + 1)))
CURRENT, PREVIOUS = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDesign:
    """One block of a cell: two states by their index in `STATES`, what is done to each, and how they are combined."""

    inputs: tuple[int, int]
    operations: tuple[str, str]
    concatenates: bool


def cell_design(config: Mapping[str, str | int | float | bool], kind: str) -> tuple[BlockDesign, ...]:
    """Return the blocks of the normal or the reduction cell."""
    return tuple(
        BlockDesign(
            inputs=(
                STATES.index(str(config[f"{kind}_{number}_input_1"])),
                STATES.index(str(config[f"{kind}_{number}_input_2"])),
            ),
            operations=(
                str(config[f"{kind}_{number}_operation_1"]),
                str(config[f"{kind}_{number}_operation_2"]),
            ),
            concatenates=config[f"{kind}_{number}_combination"] == "concat",
        )
        for number in range(1, NUM_BLOCKS + 1)
    )


def normalization(channels: int) -> nn.BatchNorm2d:
    """Return batch normalization with the constant of the released network."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def projection(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    """Return a 1 x 1 convolution and its normalization."""
    return [nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), normalization(out_channels)]


def separable(in_channels: int, out_channels: int, size: int, stride: int) -> list[nn.Module]:
    """Return ReLU, a depthwise k x k and a pointwise convolution, and their normalization."""
    return [
        nn.ReLU(),
        nn.Conv2d(in_channels, in_channels, size, stride, padding=size // 2, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        normalization(out_channels),
    ]


def operation(name: str, in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    """Return the layers of one of the thirteen operations: (batch, in, n, n) -> (batch, out, n / stride, n / stride)."""
    kind, _, sizes = name.rpartition("_")
    size = int(sizes[-1]) if sizes[-1].isdigit() else 1
    if name == "identity":
        is_plain = stride == 1 and in_channels == out_channels
        return [] if is_plain else [nn.ReLU(), *projection(in_channels, out_channels, stride)]
    if kind == "separable":
        return separable(in_channels, out_channels, size, stride) + separable(out_channels, out_channels, size, 1)
    if kind in ("avg_pool", "max_pool"):
        pool: nn.Module = nn.MaxPool2d(size, stride, padding=size // 2)
        if kind == "avg_pool":
            pool = nn.AvgPool2d(size, stride, padding=size // 2, count_include_pad=False)
        return [pool] if in_channels == out_channels else [pool, *projection(in_channels, out_channels)]
    if kind in ("conv_1x3", "conv_1x7"):
        size, half = int(sizes[0]), int(sizes[0]) // 2
        row = nn.Conv2d(in_channels, out_channels, (1, size), (1, stride), padding=(0, half), bias=False)
        column = nn.Conv2d(out_channels, out_channels, (size, 1), (stride, 1), padding=(half, 0), bias=False)
        return [nn.ReLU(), row, column, normalization(out_channels)]
    dilation = 2 if kind == "dilated" else 1
    conv = nn.Conv2d(
        in_channels, out_channels, size, stride, padding=dilation * (size // 2), dilation=dilation, bias=False
    )
    return [nn.ReLU(), conv, normalization(out_channels)]


class FactorizedReduction(nn.Module):
    """Two strided 1 x 1 convolutions, one of them a pixel further, side by side: (n, n) -> (ceil(n / 2), ceil(n / 2))."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, bias=False)
        self.norm = normalization(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2]
        out: Tensor = self.norm(torch.cat([self.conv1(x[:, :, ::2, ::2]), self.conv2(shifted)], dim=1))
        return out


class Block(nn.Module):
    """Two operations on two states of a cell, combined.

    Args:
        design: what is done, to which states.
        channels: of each state there is.
        out_channels: of each operation.
        is_reduction: whether the cell halves its inputs.
        drop_path_scale: share of the network's stochastic depth rate that its operations get, 0 to 1.
    """

    def __init__(
        self,
        design: BlockDesign,
        channels: Sequence[int],
        out_channels: int,
        *,
        is_reduction: bool,
        drop_path_scale: float,
    ) -> None:
        super().__init__()
        self.first, self.second = design.inputs
        self.concatenates = design.concatenates
        self.out_channels = 2 * out_channels if design.concatenates else out_channels
        halves = []
        for state, name in zip(design.inputs, design.operations, strict=True):
            layers = operation(name, channels[state], out_channels, 2 if is_reduction and state <= PREVIOUS else 1)
            if name != "identity":
                drop_path = DropPath()
                drop_path.rate_scale = drop_path_scale
                layers.append(drop_path)
            halves.append(nn.Sequential(*layers))
        self.left, self.right = halves

    def forward(self, states: list[Tensor]) -> Tensor:
        left, right = self.left(states[self.first]), self.right(states[self.second])
        return torch.cat([left, right], dim=1) if self.concatenates else left + right


class Cell(nn.Module):
    """Five blocks on the outputs of the two cells before: (current, previous) -> (its own output, current).

    Args:
        design: of the blocks.
        filters: of each operation.
        current_channels: of the output of the cell before.
        previous_channels: of the output of the one before that; None in the first cell, where both are the stem's.
        is_reduction: whether the map is halved.
        previous_is_finer: whether the previous output is twice as large as the current one.
        passes_previous: whether the next cell gets the previous output, too, instead of this cell's input.
        drop_path_scale: as of `Block`.
    """

    def __init__(
        self,
        design: Sequence[BlockDesign],
        filters: int,
        *,
        current_channels: int,
        previous_channels: int | None,
        is_reduction: bool,
        previous_is_finer: bool,
        passes_previous: bool,
        drop_path_scale: float,
    ) -> None:
        super().__init__()
        self.passes_previous, self.is_reduction = passes_previous, is_reduction
        self.current = nn.Sequential(*projection(current_channels, filters))
        channels = [filters, filters]
        if previous_channels is None:
            self.previous: nn.Module = nn.Identity()
            channels[PREVIOUS] = current_channels
        elif previous_is_finer:
            self.previous = FactorizedReduction(previous_channels, filters)
        else:
            self.previous = nn.Sequential(*projection(previous_channels, filters))
        self.blocks = nn.ModuleList()
        for block_design in design:
            block = Block(block_design, channels, filters, is_reduction=is_reduction, drop_path_scale=drop_path_scale)
            channels.append(block.out_channels)
            self.blocks.append(block)
        self.outputs = output_states(design, is_reduction=is_reduction)
        self.fits = nn.ModuleList()
        for state in self.outputs:
            fit: nn.Module = nn.Identity()
            if state <= PREVIOUS and is_reduction:
                fit = FactorizedReduction(channels[state], filters)
            elif state <= PREVIOUS and channels[state] != filters:
                fit = nn.Sequential(*projection(channels[state], filters))
            self.fits.append(fit)
        self.out_channels = sum(filters if state <= PREVIOUS else channels[state] for state in self.outputs)
        self.act = nn.ReLU()

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        states = [self.current(inputs[0]), self.previous(inputs[1])]
        for block in self.blocks:
            states.append(block(states))
        outputs: list[Tensor] = []
        for index, fit in enumerate(self.fits):
            outputs.append(fit(states[self.outputs[index]]))
        # Each state (batch, channels, n, n) -> (batch, sum of their channels, n, n)
        out = self.act(torch.cat(outputs, dim=1))
        return out, inputs[1] if self.passes_previous else inputs[0]


def output_states(design: Sequence[BlockDesign], *, is_reduction: bool) -> list[int]:
    """Return the states that a cell concatenates: what blocks use by identities only, if at all (see the top of the file)."""
    transformed = {
        state
        for block in design
        for state, name in zip(block.inputs, block.operations, strict=True)
        if name != "identity"
    }
    used = {state for block in design for state in block.inputs}
    kept = [state for state in (CURRENT, PREVIOUS) if state not in used or (state == PREVIOUS and not is_reduction)]
    return kept + [state for state in range(PREVIOUS + 1, PREVIOUS + 1 + NUM_BLOCKS) if state not in transformed]


class Stem(nn.Module):
    """A 3 x 3 convolution whose output is both inputs of the first cell; with a stride it pads nothing, as in the released network."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = channels
        self.conv = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1 if stride == 1 else 0, bias=False)
        self.norm = normalization(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.act(self.norm(self.conv(x)))
        return x, x


class Stage(nn.Sequential):
    """Cells, or stages, in sequence, which can trade time for memory: `grad_checkpointing` keeps their inputs only."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(*parts)
        self.grad_checkpointing = False

    def forward(self, states: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if self.grad_checkpointing and self.training and not torch.jit.is_scripting():
            states = checkpoint_seq(self, states)
        else:
            for part in self:
                states = part(states)
        return states


class Network(nn.Module):
    """Stem, stages of cells, and timm's classifier head; with timm's methods for features and classifiers.

    Args:
        stem: (batch, in_channels, n, n) -> twice (batch, stem channels, n / stride, n / stride).
        stages: of cells.
        feature_info: for timm's feature extraction, of the stages.
        num_classes: of the classifier, 0 for none.
    """

    def __init__(
        self, stem: Stem, stages: list[Stage], *, feature_info: list[dict[str, str | int]], num_classes: int
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = stem
        self.stages = Stage(*stages)
        self.feature_info = feature_info
        self.num_features = self.head_hidden_size = int(feature_info[-1]["num_chs"])
        self.head = ClassifierHead(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, (batch, num_features, n / reduction, n / reduction)."""
        features: Tensor = self.stages(self.stem(x))[0]
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
        states = self.stem(x)
        intermediates = []
        for index, stage in enumerate(self.stages):
            if stop_early and index > max(taken):
                break
            states = stage(states)
            if index in taken:
                intermediates.append(states[0])
        return intermediates if intermediates_only else (states[0], intermediates)

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
        num_stages = max(taken) + 1
        if prune_head or num_stages < len(self.stages):
            self.stages = self.stages[:num_stages]
            self.feature_info = self.feature_info[:num_stages]
            self.num_features = self.head_hidden_size = int(self.feature_info[-1]["num_chs"])
            self.head = ClassifierHead(self.num_features, 0, pool_type="")
            self.num_classes = 0
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
        """Trade time for memory: keep only the cells' inputs for the backward pass and compute the rest again."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str | list[tuple[str, None]]]:
        """Return which parameters lie at one depth, for timm's learning rates by layer: stages (coarse) or cells."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else [(r"^stages\.(\d+)\.(\d+)", None)]}

    def set_drop_path_rate(self, rate: float) -> None:
        """Set stochastic depth: each operation is skipped with probability `rate` times its `rate_scale`."""
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = rate * getattr(module, "rate_scale", 1.0)


def stacked_cells(
    config: Mapping[str, str | int | float | bool],
    stages: Sequence[Sequence[tuple[str, int]]],
    *,
    stem: Stem,
    num_classes: int,
    passes_previous: bool = False,
) -> Network:
    """Return a network of stages of cells.

    Args:
        config: a configuration of this space.
        stages: kind and filters of each cell, by stage.
        stem: what the cells start from.
        num_classes: of the classifier.
        passes_previous: as of `Cell`, of reduction cells that follow normal ones.
    """
    designs = {kind: cell_design(config, kind) for kind in ("normal", "reduction")}
    current_channels, previous_channels = stem.out_channels, None
    num_before, previous_is_finer, reduction = 0, False, stem.stride
    network_stages, features = [], []
    for index, stage in enumerate(stages):
        cells = []
        for kind, filters in stage:
            is_reduction = kind == "reduction"
            cell = Cell(
                designs[kind],
                filters,
                current_channels=current_channels,
                previous_channels=previous_channels,
                is_reduction=is_reduction,
                previous_is_finer=previous_is_finer,
                passes_previous=passes_previous and is_reduction and num_before > 1,
                drop_path_scale=num_before / (sum(map(len, stages)) - 1),
            )
            if not cell.passes_previous:
                previous_channels = current_channels
            current_channels = cell.out_channels
            cells.append(cell)
            num_before, previous_is_finer, reduction = num_before + 1, is_reduction, reduction * (1 + is_reduction)
        features.append({"module": f"stages.{index}", "num_chs": current_channels, "reduction": reduction})
        network_stages.append(Stage(*cells))
    return Network(stem, network_stages, feature_info=features, num_classes=num_classes)


def scaled(channels: float, width: float) -> int:
    """Return channels times width, rounded, at least 4."""
    return max(4, round(channels * width))


def small_images(
    config: Mapping[str, str | int | float | bool],
    *,
    repeats: int,
    filters: int,
    num_classes: int,
    in_channels: int,
    width: float,
) -> Network:
    """Return the network of N = `repeats` and F = `filters` for small images, which are halved twice."""
    first = scaled(filters, width)
    stages = [[("normal", first)] * repeats]
    stages += [[("reduction", factor * first), *[("normal", factor * first)] * repeats] for factor in (2, 4)]
    stem = Stem(in_channels, 3 * first, 1)
    return stacked_cells(config, stages, stem=stem, num_classes=num_classes)


def large_images(
    config: Mapping[str, str | int | float | bool],
    *,
    repeats: int,
    filters: int,
    stem_channels: int,
    num_classes: int,
    in_channels: int,
    width: float,
    passes_previous: bool = False,
) -> Network:
    """Return the network of N = `repeats` and F = `filters` for ImageNet: its strided stem and two more reductions come first."""
    quarter = scaled(filters / 4, width)
    stages = [[("reduction", quarter)], [("reduction", 2 * quarter), *[("normal", 4 * quarter)] * repeats]]
    stages += [[("reduction", factor * quarter), *[("normal", factor * quarter)] * repeats] for factor in (8, 16)]
    stem = Stem(in_channels, scaled(stem_channels, width), 2)
    return stacked_cells(config, stages, stem=stem, num_classes=num_classes, passes_previous=passes_previous)


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> Network:
    """Return the proxy of the paper's search: (batch, in_channels, n, n) -> (batch, num_classes)."""
    return small_images(config, repeats=2, filters=32, num_classes=num_classes, in_channels=in_channels, width=width)


def cifar_6_768(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return the paper's smaller network for CIFAR, N = 6 and F = 32."""
    return small_images(config, repeats=6, filters=32, num_classes=num_classes, in_channels=in_channels, width=width)


def cifar_7_2304(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return the paper's larger network for CIFAR, N = 7 and F = 96."""
    return small_images(config, repeats=7, filters=96, num_classes=num_classes, in_channels=in_channels, width=width)


def imagenet_4_1056(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return the paper's network for mobile devices, N = 4 and F = 44."""
    return large_images(
        config,
        repeats=4,
        filters=44,
        stem_channels=32,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
    )


def imagenet_6_4032(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> Network:
    """Return the paper's large network, N = 6 and F = 168."""
    return large_images(
        config,
        repeats=6,
        filters=168,
        stem_channels=96,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        passes_previous=True,
    )


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return the choices of both cells; defaults are NASNet-A's."""
    space = ConfigurationSpace(name="nasnet", seed=seed)
    for name, chosen in NASNET_A.items():
        number, what = int(name.split("_")[1]), name.split("_")[2]
        choices = {"input": STATES[: number + 1], "operation": OPERATIONS, "combination": ("add", "concat")}[what]
        space.add(Categorical(name, choices, default=chosen))
    return space


def deletable_cells(network: nn.Module) -> list[str]:
    """Return the names of the cells whose output has the shape of their current input: deleting one leaves that input."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, Cell) and not module.is_reduction and module.current[0].in_channels == module.out_channels
    ]


def canonical(config: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """Return the configuration with the halves of each block in one order."""
    result = dict(config)
    for kind in ("normal", "reduction"):
        for number in range(1, NUM_BLOCKS + 1):
            halves = [
                (str(config[f"{kind}_{number}_input_{half}"]), str(config[f"{kind}_{number}_operation_{half}"]))
                for half in (1, 2)
            ]
            halves.sort(key=lambda half: (STATES.index(half[0]), OPERATIONS.index(half[1])))
            for half, (state, name) in enumerate(halves, start=1):
                result[f"{kind}_{number}_input_{half}"] = state
                result[f"{kind}_{number}_operation_{half}"] = name
    return result


def cell_config(kind: str, *blocks: tuple[str, str, str, str]) -> dict[str, str | int | float | bool]:
    """Return the choices of a cell whose blocks add: input and operation, and again, of each block."""
    config: dict[str, str | int | float | bool] = {}
    for number, block in enumerate(blocks, start=1):
        for name, value in zip(("input_1", "operation_1", "input_2", "operation_2"), block, strict=True):
            config[f"{kind}_{number}_{name}"] = value
        config[f"{kind}_{number}_combination"] = "add"
    return config


NASNET_A = cell_config(
    "normal",
    ("current", "separable_5x5", "previous", "separable_3x3"),
    ("previous", "separable_3x3", "previous", "separable_5x5"),
    ("current", "avg_pool_3x3", "previous", "identity"),
    ("previous", "avg_pool_3x3", "previous", "avg_pool_3x3"),
    ("current", "identity", "current", "separable_3x3"),
) | cell_config(
    "reduction",
    ("current", "separable_5x5", "previous", "separable_7x7"),
    ("current", "max_pool_3x3", "previous", "separable_7x7"),
    ("current", "avg_pool_3x3", "previous", "separable_5x5"),
    ("block_1", "avg_pool_3x3", "block_2", "identity"),
    ("current", "max_pool_3x3", "block_1", "separable_3x3"),
)

SPACE = Space(
    name="nasnet",
    configspace=configspace,
    build=build,
    groups={
        "normal_cell": [name for name in NASNET_A if name.startswith("normal")],
        "reduction_cell": [name for name in NASNET_A if name.startswith("reduction")],
        "inputs": [name for name in NASNET_A if "_input_" in name],
        "operations": [name for name in NASNET_A if "_operation_" in name],
        "combinations": [name for name in NASNET_A if name.endswith("_combination")],
    },
    reference={"nasnet_a": NASNET_A},
    variants={
        "cifar_6_768": Variant(build=cifar_6_768, image_size=32, test_crop=1.0),
        "cifar_7_2304": Variant(build=cifar_7_2304, image_size=32, test_crop=1.0),
        "imagenet_4_1056": Variant(build=imagenet_4_1056, image_size=224, test_crop=0.875),
        "imagenet_6_4032": Variant(build=imagenet_6_4032, image_size=331, test_crop=0.911),
    },
    canonical=canonical,
    blocks=deletable_cells,
    paper="Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018, arXiv:1707.07012",
)
