"""Build the network of a configuration, reduced or at full size, by one call for measuring, training and exporting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space
from naxcli.settings.recipe import without_choices

if TYPE_CHECKING:
    from torch import nn

REDUCED = "reduced"


def variant_names(space: Space) -> tuple[str, ...]:
    """Return the names that `--variant` accepts for this space."""
    return (REDUCED, *space.variants)


def usual_image_size(space: Space, variant: str, config: Config) -> int | None:
    """Return the input size in pixels that a configuration's variant was made for, None for the reduced network.

    That one takes the size of its data, where the configuration does not choose its resolution.
    """
    return None if variant == REDUCED else space.variant(variant).image_size_for(config)


def build_network(
    space: Space,
    config: Config,
    *,
    variant: str = REDUCED,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> nn.Module:
    """Return the network of a configuration: (batch, in_channels, n, n) -> (batch, num_classes).

    Args:
        space: Space of networks.
        config: Configuration of the space; what it chooses of the recipe is kept from the builder.
        variant: `reduced`, or the name of one of the space's full-size networks.
        num_classes: Classes of the classifier.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels, which only the builder of the reduced network is told.
        width: Factor on the channels.

    Raises:
        NaxcliError: If the space makes no networks, has no such variant, or refuses the arguments.
    """
    from torch import nn

    if space.build is None:
        raise NaxcliError(
            f"space {space.name!r} makes no networks", why="it has evaluate=, which returns a cost without a network"
        )
    if variant not in variant_names(space):
        raise NaxcliError(
            f"space {space.name!r} has no variant {variant!r}", hint=f"one of {', '.join(variant_names(space))}"
        )
    choices = without_choices(config)
    try:
        if variant == REDUCED:
            network = space.build(
                choices, num_classes=num_classes, in_channels=in_channels, image_size=image_size, width=width
            )
        else:
            full_size = space.variant(variant).build
            network = full_size(choices, num_classes=num_classes, in_channels=in_channels, width=width)
    except ValueError as error:  # how builders refuse their arguments, such as an image that is too small
        raise NaxcliError(f"space {space.name!r} does not build this network", why=str(error)) from error
    if not isinstance(network, nn.Module):
        raise NaxcliError(
            f"space {space.name!r} built a {type(network).__name__}", hint="build must return a torch.nn.Module"
        )
    return network
