"""Random erasing has timm's semantics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from naxcli.data.erasing import draw_boxes, erase, erased
from naxcli.settings.recipe import Recipe


def by_us(recipe: Recipe, images: Tensor, seed: int = 0) -> Tensor:
    return erased(images.clone(), recipe, np.random.default_rng(seed))


@pytest.mark.parametrize(("count", "probability"), [(1, 1.0), (1, 0.25), (3, 1.0)])
def test_boxes_are_drawn_as_timm_draws_them(count: int, probability: float) -> None:
    """Compared are the shares of rows, of columns and of all pixels that are erased in each image."""
    images = torch.ones(1500, 1, 24, 24)
    recipe = Recipe(erase_prob=probability, erase_mode="const", erase_count=count)
    timms = RandomErasing(probability, mode="const", max_count=count, device="cpu")
    ours, theirs = (outcome[:, 0] == 0 for outcome in (by_us(recipe, images), timms(images.clone())))
    for measured in (
        lambda erased: erased.any(2).float().mean(1),
        lambda erased: erased.any(1).float().mean(1),
        lambda erased: erased.float().mean((1, 2)),
        lambda erased: erased[:, 12].float().mean(1),
    ):
        assert stats.ks_2samp(measured(ours).numpy(), measured(theirs).numpy()).pvalue > 1e-4
    assert (ours.any((1, 2)).float().mean().item()) == pytest.approx(probability, abs=0.04)


def test_boxes_lie_inside_and_are_none_where_an_image_is_not_erased() -> None:
    boxes = draw_boxes(Recipe(erase_prob=0.5, erase_count=4), 500, 8, np.random.default_rng(0))
    assert boxes.shape == (500, 4, 4) and boxes.min() == 0 and boxes.max() <= 8
    assert (boxes[..., 1] >= boxes[..., 0]).all() and (boxes[..., 3] >= boxes[..., 2]).all()
    assert 0.4 < (boxes.reshape(500, -1) == 0).all(axis=1).mean() < 0.6


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_a_box_holds_what_the_mode_says_and_the_rest_is_untouched(mode: str) -> None:
    images = torch.full((64, 3, 16, 16), 7.0).contiguous(memory_format=torch.channels_last)
    boxes = np.tile([2, 10, 4, 16], (64, 1, 1))
    boxes[0] = 0
    outcome = erase(images.clone(memory_format=torch.preserve_format), boxes, mode, torch.Generator().manual_seed(0))
    assert outcome.is_contiguous(memory_format=torch.channels_last)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[2:10, 4:16] = True
    assert torch.equal(outcome[0], images[0])
    assert (outcome[:, :, ~inside] == 7).all() and (outcome[1:, :, inside] != 7).all()
    pixels = outcome[1:, :, inside]  # (63, 3, 96)
    num_values = {"pixel": 63 * 3 * 96, "rand": 63 * 3, "const": 1}[mode]
    assert 0.99 * num_values <= len(torch.unique(pixels)) <= num_values
    if mode != "const":
        assert stats.kstest(pixels[..., 0].ravel().numpy(), "norm").pvalue > 1e-4


def test_the_same_numbers_erase_the_same_and_others_do_not() -> None:
    images = torch.ones(16, 3, 12, 12)
    recipe = Recipe(erase_prob=0.8)
    assert torch.equal(by_us(recipe, images), by_us(recipe, images))
    assert not torch.equal(by_us(recipe, images), by_us(recipe, images, seed=1))
    assert torch.equal(by_us(Recipe(), images), images)
