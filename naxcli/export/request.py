"""ExportRequest and Exported: what is to be exported, and what came of it. Imports no torch."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, config_id
from naxcli.search_space.contract import Space
from naxcli.search_space.networks import REDUCED, variant_names

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """One export.

    Args:
        space: Space that the configuration belongs to.
        config: Configuration of the network.
        format: Format, one of `naxcli.export.FORMATS`.
        out: Folder to make, or a file with the format's suffix (`best.onnx`), which names the network too.
        variant: `reduced` or one of the space's full-size networks.
        width: Factor on the channels.
        num_classes: Classes of the classifier.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        weights: Safetensors file or training checkpoint; None exports the network untrained (seed 0).
        provenance: Where the configuration comes from (run, trial, cost, seeds, versions), for headers and model cards.
        mean: Mean per channel that the training subtracted from images in [0, 1]; None is ImageNet's.
        std: Standard deviation per channel that the training divided by; None is ImageNet's.
        opset: Version of ONNX's operators; None takes the oldest that the exporter writes.
        fold: Whether batch normalizations become part of convolutions, and branches one, in a `torch` program or ONNX graph.
        bench: Whether latency and throughput are measured on this machine's CPU and recorded in an export with a network.
        overwrite: Whether files of an earlier export may be replaced; other files of the folder stay.
        name: Name of the network, a Python identifier; where empty, made of space, variant and configuration.

    Raises:
        NaxcliError: If the name is no identifier, the variant unknown, or a number out of range.
    """

    space: Space
    config: Config
    format: str
    out: Path
    variant: str = REDUCED
    width: float = 1.0
    num_classes: int
    in_channels: int
    image_size: int
    weights: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    opset: int | None = None
    fold: bool = False
    bench: bool = False
    overwrite: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.variant not in variant_names(self.space):
            raise NaxcliError(
                f"space {self.space.name!r} has no variant {self.variant!r}",
                hint=f"one of {', '.join(variant_names(self.space))}",
            )
        if self.name and (not self.name.isidentifier() or keyword.iskeyword(self.name)):
            raise NaxcliError(
                f"{self.name!r} cannot name a network",
                why="it must be made of letters, digits and _, as names in Python",
            )
        if self.fold and self.format not in ("onnx", "torch"):
            raise NaxcliError(
                f"--format {self.format} cannot fold normalizations",
                why="its network can be trained on, for which it needs them",
                hint="fold with --format onnx or torch",
            )
        for what in ("width", "num_classes", "in_channels", "image_size"):
            if not getattr(self, what) > 0:
                raise NaxcliError(f"{what} is {getattr(self, what)}, but must be above zero")

    @property
    def network_name(self) -> str:
        """The given name, or space, variant and the configuration's identity, such as `nexception_t_3f2a91`."""
        if self.name:
            return self.name
        text = f"{self.space.name}_{self.variant}_{config_id(self.config)[:6]}".lower()
        return re.sub(r"^(?=\d)", "net_", re.sub(r"\W", "_", text))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (self.in_channels, self.image_size, self.image_size)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel that images in [0, 1] are normalized by."""
        if self.mean is not None and self.std is not None:
            return self.mean, self.std
        if self.in_channels == 3:
            return IMAGENET_MEAN, IMAGENET_STD
        return (0.5,) * self.in_channels, (0.5,) * self.in_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a format's `write` found out about the network and the files it wrote; see `Exported`."""

    num_params: int | None = None
    macs: int | None = None
    max_difference: float | None = None
    speed: Mapping[str, Any] | None = None
    why_no_speed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished export.

    Args:
        files: Files written, in order of importance.
        name: Name of the network.
        num_params: Number of parameters of the network.
        macs: Multiply-adds of one forward pass of one image.
        max_difference: Largest difference of the loaded export's outputs from the original's on random images, as a share of the
            largest output where that is above 1; None for a format without a network.
        is_trained: Whether the request named weights.
        speed: What `naxcli.measure.timing.measure_speed` found; None where it was not asked for or could not be measured.
        why_no_speed: Why it could not be measured.
    """

    files: tuple[Path, ...]
    name: str
    num_params: int | None = None
    macs: int | None = None
    max_difference: float | None = None
    is_trained: bool = False
    speed: Mapping[str, Any] | None = None
    why_no_speed: str = ""
