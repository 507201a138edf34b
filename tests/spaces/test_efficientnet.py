"""Compound scaling: the paper's networks, the band of cost, and the family of a configuration."""

from __future__ import annotations

import dataclasses

import pytest

from naxcli.commands.network_sizes import network_sizes
from naxcli.commands.select import Selection
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import load_space
from naxcli.search_space.enumeration import enumerate_configurations
from naxcli.search_space.networks import usual_image_size
from naxcli.search_space.sizes import measure_config
from naxcli.settings.limits import Limits

SPACE = load_space("efficientnet")
PAPER = dict(SPACE.reference["efficientnet"])
B1 = {"alpha": 1.1, "beta": 1.0, "recipe.resolution": 43}


@pytest.mark.parametrize(
    ("config", "variant", "image_size", "num_params", "multiply_adds"),
    [
        (PAPER, "phi_0", 224, 5_288_548, 0.386e9),
        (B1, "phi_1", 240, 7_794_184, 0.688e9),
        (PAPER, "phi_1", 260, 9_109_994, 1.00e9),  # B2, which was published for 260 pixels
    ],
)
def test_the_family_has_the_published_sizes(
    config: dict[str, float], variant: str, image_size: int, num_params: int, multiply_adds: float
) -> None:
    measured = measure_config(SPACE, config, num_classes=1000, in_channels=3, image_size=image_size, variant=variant)
    assert measured["num_params"] == num_params
    assert measured["flops"] == pytest.approx(multiply_adds, rel=0.01)


def test_members_of_a_family_see_images_as_large_as_its_own_gamma_says() -> None:
    finer = PAPER | {"recipe.resolution": 50}  # gamma = 1.25
    sizes = {
        name: (usual_image_size(SPACE, name, PAPER), usual_image_size(SPACE, name, finer)) for name in SPACE.variants
    }
    assert sizes["phi_0"] == (224, 224) and sizes["phi_1"] == (258, 280) and sizes["phi_2"] == (296, 350)
    assert network_sizes(Selection(space=SPACE, config=finer), variant="phi_2").image_size == 350
    assert network_sizes(Selection(space=SPACE, config=finer)).image_size == 50  # the reduced network
    assert network_sizes(dataclasses.replace(Selection(space=SPACE, config=finer), image_size=44)).image_size == 44


def test_the_band_of_cost_keeps_32_combinations_and_the_papers_among_them() -> None:
    table = enumerate_configurations(SPACE.configuration_space())
    assert table is not None and len(table) == 245
    shape = NetworkShape(num_classes=10, in_channels=3, image_size=32)
    allows = Feasibility(SPACE, Limits(), width=0.1, shape=shape)
    kept = [table.config(row) for row in range(len(table)) if allows(table.config(row))]
    assert len(kept) == 32 and PAPER in kept
    names = table.names
    assert {name: len({config[name] for config in kept}) for name in names} == {"alpha": 7, "beta": 5, names[2]: 7}


def test_counted_the_papers_coefficients_cost_more_than_by_its_rule() -> None:
    """Depths are rounded up, most so in the stages of one block."""
    baseline = measure_config(SPACE, PAPER, num_classes=10, in_channels=3, image_size=224, variant="phi_0")["flops"]
    scaled = measure_config(SPACE, PAPER, num_classes=10, in_channels=3, image_size=258, variant="phi_1")["flops"]
    assert 1.9 < 1.2 * 1.1**2 * 1.15**2 < 1.93
    assert scaled / baseline == pytest.approx(2.58, abs=0.005)
