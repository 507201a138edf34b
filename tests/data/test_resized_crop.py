"""Random-resized crops of a batch are those that timm takes with Pillow of single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as pillow

from naxcli.data.resized_crop import Crops, draw_crops, resized_crops
from naxcli.settings.recipe import Recipe
from tests.data.test_augment import NEEDS_CUDA, sample_images

RECIPE = Recipe(resized_crop_scale=0.08)


def drawn(recipe: Recipe, num_images: int, image_size: int, seed: int = 0) -> Crops:
    return draw_crops(recipe, num_images, image_size, np.random.default_rng(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_pixel_for_pixel_those_of_pillow(channels: int) -> None:
    images, crops = sample_images(60, channels), drawn(RECIPE, 60, 32)
    assert 15 < crops.is_cubic.sum() < 45
    ours = resized_crops(torch.from_numpy(images), crops).numpy()
    assert ours.dtype == np.uint8 and ours.shape == images.shape
    differences = []
    for index, image in enumerate(images):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        how = InterpolationMode.BICUBIC if crops.is_cubic[index] else InterpolationMode.BILINEAR
        box = [int(side[index]) for side in (crops.tops, crops.lefts, crops.heights, crops.widths)]
        expected = np.asarray(pillow.resized_crop(picture, *box, [32, 32], how))
        expected = expected[None] if channels == 1 else expected.transpose(2, 0, 1)
        differences.append(np.abs(ours[index].astype(int) - expected))
    assert np.max(differences) <= 1 and np.mean(differences) < 1e-3  # sums that round at a half


@pytest.mark.parametrize("size", [32, 224])
def test_crops_are_drawn_as_timm_draws_them(size: int) -> None:
    crops = drawn(RECIPE, 2000, size)
    timms = RandomResizedCropAndInterpolation(size, interpolation="random")
    picture = Image.new("L", (size, size))
    theirs = np.array([timms.get_params(picture, timms.scale, timms.ratio) for _ in range(2000)])
    ours = np.stack([crops.tops, crops.lefts, crops.heights, crops.widths], axis=1)
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= size).all()
    for number in range(4):
        assert stats.ks_2samp(ours[:, number], theirs[:, number]).pvalue > 1e-4
    for values in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2]):
        assert stats.ks_2samp(values(ours), values(theirs)).pvalue > 1e-4


def test_a_crop_of_everything_is_the_image_itself() -> None:
    images = torch.from_numpy(sample_images(8))
    whole = drawn(Recipe(resized_crop_scale=1.0, resized_crop_ratio=1.0), 8, 32)
    assert torch.equal(resized_crops(images, whole), images)


def test_images_of_a_few_pixels_are_cropped_too() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2).repeat(50, 1, 1, 1)
    crops = drawn(RECIPE, 50, 2)
    assert min(crops.heights.min(), crops.widths.min()) == 1
    assert len(torch.unique(resized_crops(images, crops), dim=0)) > 3


@pytest.mark.gpu
@NEEDS_CUDA
def test_crops_on_cuda_are_those_of_a_cpu() -> None:
    images, crops = torch.from_numpy(sample_images(64)), drawn(RECIPE, 64, 32)
    difference = (resized_crops(images.cuda(), crops).cpu().int() - resized_crops(images, crops).int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3
