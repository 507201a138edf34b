"""Variants: what a space says of its full-size networks, and where that shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import Categorical, ConfigurationSpace
from torch import nn

from naxcli import Space, Variant
from naxcli.commands.train_settings import TrainCommand, plan_training
from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest
from naxcli.export.bundle import make_bundle
from naxcli.export.python import pretrained_settings
from naxcli.search_space.networks import build_network, usual_image_size


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("depth", [1, 2]))
    return space


def build(config: Mapping[str, Any], *, num_classes: int, in_channels: int, image_size: int, width: float = 1.0) -> Any:
    return full_size(config, num_classes=num_classes, in_channels=in_channels, width=width)


def full_size(config: Mapping[str, Any], *, num_classes: int, in_channels: int, width: float = 1.0) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


def sized(config: Mapping[str, Any], **sizes: Any) -> nn.Module:
    return full_size(config, **sizes)


sized.image_size = 160  # type: ignore[attr-defined]

REFERENCE = {"depth": 2}


def space_with(**variants: Any) -> Space:
    return Space(
        name="tiny", configspace=configspace, build=build, reference={"published": REFERENCE}, variants=variants
    )


def test_a_variant_and_a_plain_function_build_the_same_network() -> None:
    space = space_with(
        plain=full_size,
        sized=sized,
        described=Variant(build=full_size, image_size=96),
        asked=Variant(build=full_size, image_size=lambda config: 100 * int(config["depth"])),
    )
    for name in space.variants:
        network = build_network(space, REFERENCE, variant=name, num_classes=5, in_channels=3, image_size=8)
        assert network[-1].out_features == 5
    assert [usual_image_size(space, name, REFERENCE) for name in space.variants] == [224, 160, 96, 200]
    assert space.variant("plain") == Variant(build=full_size)


def test_a_variant_that_is_none_or_names_no_reference_is_refused() -> None:
    with pytest.raises(NaxcliError, match="variant 'L' of space 'tiny' is neither a Variant nor a function"):
        space_with(L="large")
    with pytest.raises(NaxcliError, match="names no reference: 'unpublished'"):
        space_with(L=Variant(build=full_size, reference="unpublished"))
    assert space_with(L=Variant(build=full_size, reference="published")).variant("L").reference == "published"


def test_an_export_crops_test_images_as_its_variant_says() -> None:
    space = space_with(L=Variant(build=full_size, test_crop=0.875))
    sizes = {"num_classes": 5, "in_channels": 3, "image_size": 8}
    crops = []
    for variant in ("reduced", "L"):
        request = ExportRequest(
            space=space, config=REFERENCE, format="weights", out=Path("x"), variant=variant, **sizes
        )
        crops.append(pretrained_settings(request, make_bundle(request).network)["crop_pct"])
    assert crops == [1.0, 0.875]


SPACE_FILE = """
from ConfigSpace import Categorical, ConfigurationSpace
from torch import nn
from naxcli import Space, Variant

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("depth", [1, 2]))
    return space

def large(config, *, num_classes, in_channels, width=1.0):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))

def build(config, *, num_classes, in_channels, image_size, width=1.0):
    return large(config, num_classes=num_classes, in_channels=in_channels)

SPACE = Space(name="tiny", configspace=configspace, build=build, variants={"L": Variant(build=large, image_size=96, test_crop=0.9)})
"""


def test_a_final_training_takes_image_size_and_test_crop_from_its_variant(tmp_path: Path) -> None:
    file = tmp_path / "space.py"
    file.write_text(SPACE_FILE)
    flags = {"data": "digits"}
    plans = [
        plan_training(TrainCommand(config=f"{file}:default", variant=variant, flags=flags, out=str(tmp_path / "out")))
        for variant in ("reduced", "L")
    ]
    assert [(plan.image_size, plan.test_crop) for plan in plans] == [(8, 1.0), (96, 0.9)]
