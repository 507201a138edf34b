"""The catalogue of the spaces that ship: every size in its table is that of the network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from naxcli.search_space.contract import load_space, shipped_spaces
from naxcli.search_space.sizes import measure_config

CATALOGUE = Path(__file__).parent.parent.parent / "docs" / "space-catalogue.md"
ROW = re.compile(r"\| (\w+) \| (\w+) \| (\w+) \| (\d+) \| (\d+) \| ([\d,]+) \| ([\d,]+) \|")
ROWS = [match.groups() for match in map(ROW.fullmatch, CATALOGUE.read_text().splitlines()) if match]


@pytest.mark.parametrize("row", ROWS, ids=["-".join(row[:3]) for row in ROWS])
def test_the_networks_have_the_sizes_of_the_table(row: tuple[str, ...]) -> None:
    name, reference, variant, num_classes, image_size, num_params, multiply_adds = row
    space = load_space(name)
    measured = measure_config(
        space,
        space.reference[reference],
        variant=variant,
        num_classes=int(num_classes),
        in_channels=3,
        image_size=int(image_size),
    )
    assert {name: f"{count:,}" for name, count in measured.items()} == {
        "num_params": num_params,
        "flops": multiply_adds,
    }


def test_every_space_of_networks_of_its_own_is_in_the_table() -> None:
    of_others = {"nexception_recipe"}  # the networks of nexception
    assert {row[0] for row in ROWS} == set(shipped_spaces()) - of_others


def test_every_space_has_a_section() -> None:
    headings = [line.partition(":")[0] for line in CATALOGUE.read_text().splitlines() if line.startswith("## ")]
    assert set(shipped_spaces()) <= set(re.findall(r"\w+", " ".join(headings)))
