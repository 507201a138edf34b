"""Sizes of a selected network: what the user did not name comes from the selection, else from the variant. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from naxcli.commands.select import Selection
from naxcli.search_space.networks import REDUCED, usual_image_size
from naxcli.settings.recipe import Recipe

IMAGENET_CLASSES = 1000
# Of a reduced network whose data are not known: CIFAR-100's.
REDUCED_IMAGE_SIZE, REDUCED_CLASSES = 32, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSizes:
    """What a builder needs beside the configuration: the arguments of `build_network`."""

    variant: str
    width: float
    num_classes: int
    in_channels: int
    image_size: int


def network_sizes(
    selection: Selection,
    *,
    variant: str | None = None,
    width: float | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
) -> NetworkSizes:
    """Return the sizes of a selected network, where the user named none those of the selection.

    The width, classes and channels of a selection are those of its own variant; another one has the usual ones.

    Args:
        selection: What the user selected.
        variant: Variant that the user named.
        width: Factor on the channels that the user named.
        num_classes: Number of classes that the user named.
        image_size: Side of the images in pixels that the user named.
    """
    own_variant = selection.variant or REDUCED
    variant = variant or own_variant
    is_own, space = variant == own_variant, selection.space
    usual_size = usual_image_size(space, variant, selection.config) if variant in space.variants else None
    chosen_size = Recipe().with_choices(selection.config).resolution if variant == REDUCED else 0
    usual_classes = REDUCED_CLASSES if variant == REDUCED else IMAGENET_CLASSES
    return NetworkSizes(
        variant=variant,
        width=width or (selection.width if is_own else 1.0),
        num_classes=num_classes or (selection.num_classes if is_own else None) or usual_classes,
        in_channels=(selection.in_channels if is_own else None) or 3,
        image_size=image_size or usual_size or selection.image_size or chosen_size or REDUCED_IMAGE_SIZE,
    )
