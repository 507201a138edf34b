from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment, mixup
from torch import Tensor

from naxcli.data import randaugment
from naxcli.data.augment import (
    MIXING,
    Mixing,
    Normalisation,
    TrainingBatches,
    crop_and_flip,
    draw_mixing,
    mix_images,
    mix_targets,
    random_stream,
)
from naxcli.data.dataset import Dataset
from naxcli.data.randaugment import OPERATIONS, argument_of, draw_layers
from naxcli.settings.recipe import RandAugmentSettings, Recipe

FILL = (129, 124, 112)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PAPER = RandAugmentSettings.parse("rand-m7-mstd0.5-inc1")
TIMM_NAMES = dict(zip(OPERATIONS, auto_augment._RAND_INCREASING_TRANSFORMS, strict=True))
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
WHOLE_NUMBERS = ("posterize", "solarize", "solarize_add")


def sample_images(count: int = 40, channels: int = 3, size: int = 32) -> np.ndarray:
    """Return smooth, noisy, dark, two-level and constant images, so that every branch of an operation is met."""
    generator = np.random.default_rng(0)
    slope = np.linspace(0, 255, size)
    images = generator.integers(0, 256, (count, channels, size, size)).astype(float)
    images[::5] = (slope[:, None] * generator.random((len(images[::5]), channels, 1, 1)) + slope * 0.3) % 256
    images[1::5] *= 0.2
    images[2::5] = np.where(images[2::5] > 250, 200, 40)
    images[3] = 77
    return images.astype(np.uint8)


def by_timm(images: np.ndarray, name: str, arguments: np.ndarray, *, is_cubic: bool) -> np.ndarray:
    """Return what timm's own function of that name makes of each image."""
    function = auto_augment.NAME_TO_OP[TIMM_NAMES[name]]
    has_argument = auto_augment.LEVEL_TO_ARG[TIMM_NAMES[name]] is not None
    resample = Image.Resampling.BICUBIC if is_cubic else Image.Resampling.BILINEAR
    outcome = []
    for image, argument in zip(images, arguments, strict=True):
        is_grey = len(image) == 1
        picture = Image.fromarray(image[0] if is_grey else image.transpose(1, 2, 0))
        value = int(argument) if name in WHOLE_NUMBERS else float(argument)
        fill = FILL[0] if is_grey else FILL
        changed = function(picture, *([value] if has_argument else []), fillcolor=fill, resample=resample)
        outcome.append(np.asarray(changed).reshape(*image.shape[1:], len(image)).transpose(2, 0, 1))
    return np.stack(outcome)


def by_us(images: np.ndarray, name: str, arguments: np.ndarray, *, is_cubic: bool) -> np.ndarray:
    layer = randaugment.Layer(
        operation=np.full(len(images), OPERATIONS.index(name)),
        argument=arguments,
        is_cubic=np.full(len(images), is_cubic),
    )
    return randaugment.apply_layers(torch.from_numpy(images.copy()), [layer], FILL[: images.shape[1]]).numpy()


def arguments_for(name: str, count: int) -> np.ndarray:
    generator = np.random.default_rng(1)
    sign = np.where(generator.random(count) > 0.5, -1.0, 1.0)
    return argument_of(name, generator.uniform(0.3, 0.99, count), sign, is_increasing=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in GEOMETRIC])
def test_every_operation_on_levels_is_timms_to_the_pixel(name: str, channels: int) -> None:
    images = sample_images(channels=channels)
    arguments = arguments_for(name, len(images))
    ours, theirs = (function(images, name, arguments, is_cubic=False) for function in (by_us, by_timm))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("is_cubic", [False, True], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_every_geometric_operation_is_timms_but_for_roundings(name: str, is_cubic: bool) -> None:
    images = sample_images()
    arguments = arguments_for(name, len(images))
    ours, theirs = (function(images, name, arguments, is_cubic=is_cubic).astype(int) for function in (by_us, by_timm))
    # Pillow computes positions in double precision and truncates: a value on the edge may fall to the level below.
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 1e-3
    assert (ours != images).mean() > 0.3


@pytest.mark.parametrize("is_increasing", [False, True])
@pytest.mark.parametrize("index", range(len(OPERATIONS)), ids=OPERATIONS)
def test_levels_become_timms_arguments(index: int, is_increasing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    names = auto_augment._RAND_INCREASING_TRANSFORMS if is_increasing else auto_augment._RAND_TRANSFORMS
    function = auto_augment.LEVEL_TO_ARG[names[index]]
    if function is None:
        return
    for sign, draw in ((1.0, 0.0), (-1.0, 1.0)):
        monkeypatch.setattr(random, "random", lambda draw=draw: draw)
        for level in (0.0, 3.3, 7.0, 7.4999, 7.5, 9.99, 10.0):
            expected = function(level, {})[0]
            ours = argument_of(OPERATIONS[index], np.array([level / 10]), np.array([sign]), is_increasing)[0]
            assert ours == pytest.approx(expected)


def test_operations_and_magnitudes_are_drawn_as_timm_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    num_images = 4000
    layers = draw_layers(PAPER, num_images, np.random.default_rng(0))
    ours = {
        name: np.concatenate([layer.argument[layer.operation == i] for layer in layers])
        for i, name in enumerate(OPERATIONS)
    }

    reference = auto_augment.rand_augment_transform("rand-m7-mstd0.5-inc1", {})
    theirs: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    for name, operation in zip(OPERATIONS, reference.ops, strict=True):
        record = theirs[name].append
        operation.aug_fn = lambda image, *values, record=record, **_: record(values[0] if values else 0.0) or image
    random.seed(0)
    np.random.seed(0)
    picture = Image.new("RGB", (32, 32))
    for _ in range(num_images):
        reference(picture)

    expected = num_images * 2 * 0.5 / len(OPERATIONS)
    for name in OPERATIONS:
        assert len(ours[name]) == pytest.approx(expected, rel=0.25)
        assert len(theirs[name]) == pytest.approx(expected, rel=0.25)
        if np.ptp(ours[name]):
            assert stats.ks_2samp(ours[name], theirs[name]).pvalue > 1e-3, name
    cubic = np.concatenate([layer.is_cubic for layer in layers])
    assert cubic.mean() == pytest.approx(0.5, abs=0.03)


def test_an_infinite_spread_draws_magnitudes_uniformly() -> None:
    settings = RandAugmentSettings.parse("rand-m8-mstd101-p1-n1")
    (layer,) = draw_layers(settings, 20_000, np.random.default_rng(0))
    degrees = np.abs(layer.argument[layer.operation == OPERATIONS.index("rotate")])
    assert stats.kstest(degrees, stats.uniform(0, 24).cdf).pvalue > 1e-3


def test_images_without_an_operation_stay_and_others_change_once() -> None:
    images = torch.from_numpy(sample_images(len(OPERATIONS) + 1))
    operation = np.arange(-1, len(OPERATIONS))
    arguments = np.array([0.0, *(arguments_for(name, 1)[0] for name in OPERATIONS)])
    layer = randaugment.Layer(operation=operation, argument=arguments, is_cubic=np.zeros(len(operation), dtype=bool))
    changed = randaugment.apply_layers(images.clone(), [layer], FILL)
    assert torch.equal(changed[0], images[0])
    for index, name in enumerate(OPERATIONS, start=1):
        alone = by_us(images[index : index + 1].numpy(), name, arguments[index : index + 1], is_cubic=False)
        assert np.array_equal(changed[index].numpy(), alone[0])


# Crop and flip


def test_crops_are_windows_of_the_bordered_image_and_half_are_mirrored() -> None:
    image = np.arange(1, 1 + 6 * 6, dtype=np.uint8).reshape(1, 6, 6)
    images = torch.from_numpy(np.repeat(image[None], 3000, axis=0))
    bordered = np.pad(image[0], 2)
    windows = {}
    for top in range(5):
        for left in range(5):
            window = bordered[top : top + 6, left : left + 6]
            windows[window.tobytes()] = (top, left, False)
            windows[np.ascontiguousarray(window[:, ::-1]).tobytes()] = (top, left, True)
    found = [windows[crop.tobytes()] for crop in crop_and_flip(images, 2, 0.5, np.random.default_rng(0)).numpy()[:, 0]]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 50
    assert stats.chisquare(counts).pvalue > 1e-3


def test_without_border_and_mirror_images_stay() -> None:
    images = torch.from_numpy(sample_images(5))
    assert torch.equal(crop_and_flip(images, 0, 0.0, np.random.default_rng(0)), images)
    assert torch.equal(crop_and_flip(images, 0, 1.0, np.random.default_rng(0)), images.flip(3))


# Mixing


@pytest.mark.parametrize(
    "mixing", [Mixing(weight=0.3), Mixing(weight=1 - 12 / 64, box=(2, 5, 1, 5)), Mixing(weight=1.0)]
)
def test_mixing_is_timms_given_the_same_draw(mixing: Mixing, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 1, 0])
    reference = mixup.Mixup(mixup_alpha=0.1, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=4)
    monkeypatch.setattr(reference, "_params_per_batch", lambda: (mixing.weight, mixing.box is not None))
    monkeypatch.setattr(mixup, "cutmix_bbox_and_lam", lambda *_, **__: (mixing.box, mixing.weight))
    expected_images, expected_targets = reference(images.clone(), labels)
    assert torch.allclose(mix_images(images.clone(), mixing), expected_images, atol=1e-6)
    assert torch.allclose(mix_targets(labels, mixing, 4, 0.1), expected_targets, atol=1e-6)


def test_mixing_is_drawn_as_timm_draws_it() -> None:
    generator, recipe = np.random.default_rng(0), Recipe()
    ours = [draw_mixing(recipe, 32, generator) for _ in range(3000)]
    np.random.seed(0)
    reference = mixup.Mixup(mixup_alpha=0.1, cutmix_alpha=1.0)
    theirs = []
    for _ in range(3000):
        weight, is_cutmix = reference._params_per_batch()
        if is_cutmix:
            _, weight = mixup.cutmix_bbox_and_lam((256, 3, 32, 32), weight)
        theirs.append((weight, is_cutmix))
    assert np.mean([mixing.box is not None for mixing in ours]) == pytest.approx(0.5, abs=0.03)
    for is_cutmix in (False, True):
        weights = [mixing.weight for mixing in ours if (mixing.box is not None) == is_cutmix]
        expected = [weight for weight, is_box in theirs if is_box == is_cutmix]
        assert stats.ks_2samp(weights, expected).pvalue > 1e-3


def test_the_weight_of_a_box_is_the_share_that_stays() -> None:
    generator = np.random.default_rng(0)
    recipe = Recipe(mixup=0.0)
    for _ in range(200):
        mixing = draw_mixing(recipe, 32, generator)
        assert mixing.box is not None
        top, bottom, left, right = mixing.box
        assert 0 <= top <= bottom <= 32 and 0 <= left <= right <= 32
        assert mixing.weight == pytest.approx(1 - (bottom - top) * (right - left) / 1024)


@pytest.mark.parametrize("off", [{"mixup": 0.0, "cutmix": 0.0}, {"mixup_prob": 0.0}])
def test_mixing_can_be_turned_off(off: dict[str, float]) -> None:
    assert draw_mixing(replace(Recipe(), **off), 32, np.random.default_rng(0)) == Mixing(weight=1.0)


# Batches


def make_dataset(num_images: int = 50, size: int = 8) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
        return images, torch.arange(count) % 5

    images, labels = draw(num_images)
    return Dataset(
        name="test",
        train_images=images,
        train_labels=labels,
        validation_images=images[:5],
        validation_labels=labels[:5],
        num_classes=5,
        in_channels=3,
        image_size=size,
        mean=(0.5, 0.4, 0.6),
        std=(0.2, 0.3, 0.25),
        class_names=tuple("abcde"),
        content_hash="0",
        is_official=True,
    )


PLAIN = Recipe(randaugment="", crop_padding=0, horizontal_flip=0, mixup=0, cutmix=0, batch_size=8)
LARGE_IMAGES = Recipe(batch_size=8, resized_crop_scale=0.08, erase_prob=0.5)
CPU = torch.device("cpu")


def test_normalised_images_have_the_data_sets_statistics_taken_out() -> None:
    dataset = make_dataset()
    normalised = Normalisation(dataset, CPU)(dataset.train_images, channels_last=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (dataset.mean, dataset.std))
    assert torch.allclose(normalised, (dataset.train_images / 255 - mean) / std, atol=1e-5)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


def test_a_resolution_of_the_recipe_resizes_what_the_network_sees_and_mixes_at_that_size() -> None:
    dataset = make_dataset()
    grey = torch.full_like(dataset.train_images, 128)
    resized = Normalisation(dataset, CPU, 20)(grey, channels_last=True)
    assert resized.shape == (*grey.shape[:2], 20, 20)
    assert torch.allclose(resized[:, :, :1, :1].expand_as(resized), resized)
    assert torch.allclose(resized[..., 0, 0], Normalisation(dataset, CPU)(grey, channels_last=True)[..., 0, 0])
    recipe = replace(PLAIN, resolution=20, cutmix=1.0)
    batches = TrainingBatches(dataset, recipe, seed=0, device=CPU)
    for step in range(batches.steps_per_epoch):
        images, targets = batches.batch(step)
        position = random_stream(0, MIXING, 0, step)
        mixing = draw_mixing(recipe, 20, position)
        assert images.shape == (8, 3, 20, 20) and mixing.box is not None and max(mixing.box) <= 20
        assert torch.allclose(
            targets.max(dim=1).values.min(), torch.tensor(max(mixing.weight, 1 - mixing.weight)), atol=1e-6
        )


def test_an_epoch_shows_every_image_once_but_for_the_last_partial_batch() -> None:
    dataset = make_dataset(50)
    batches = TrainingBatches(dataset, PLAIN, seed=0, device=CPU)
    plain = Normalisation(dataset, CPU)(dataset.train_images, channels_last=False)
    known = {bytes(image.numpy()): index for index, image in enumerate(plain)}
    assert batches.steps_per_epoch == 6
    orders = []
    for epoch in range(2):
        order = []
        for step in range(6):
            images, targets = batches.batch(6 * epoch + step)
            indices = [known[bytes(image.contiguous().numpy())] for image in images]
            assert targets.argmax(1).tolist() == [index % 5 for index in indices]
            order += indices
        assert len(set(order)) == 48
        orders.append(order)
    assert orders[0] != orders[1]


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    batches = TrainingBatches(make_dataset(5), PLAIN, seed=0, device=CPU)
    assert (batches.steps_per_epoch, len(batches.batch(0)[0])) == (1, 5)


def test_repeated_augmentation_shows_fewer_images_more_often() -> None:
    batches = TrainingBatches(make_dataset(48), replace(PLAIN, augmentation_repeats=3), seed=0, device=CPU)
    images = torch.cat([batches.batch(step)[0] for step in range(batches.steps_per_epoch)])
    assert len(images) == 48
    assert len(torch.unique(images.flatten(1), dim=0)) == 16


@pytest.mark.parametrize("recipe", [Recipe(batch_size=8), LARGE_IMAGES], ids=["small images", "large images"])
def test_any_step_can_be_asked_for_first(recipe: Recipe) -> None:
    one, other = (TrainingBatches(make_dataset(), recipe, seed=3, device=CPU) for _ in range(2))
    straight = [one.batch(step) for step in range(9)]
    for step in (8, 3, 3, 0):
        for ours, expected in zip(other.batch(step), straight[step], strict=True):
            assert torch.equal(ours, expected)


def test_a_random_resized_crop_takes_the_place_of_the_one_with_a_border() -> None:
    dataset = make_dataset()
    for only, is_black_border_seen in ((LARGE_IMAGES, False), (replace(LARGE_IMAGES, resized_crop_scale=0.0), True)):
        white = replace(dataset, train_images=torch.full_like(dataset.train_images, 255))
        recipe = replace(only, erase_prob=0, randaugment="", mixup=0, cutmix=0)
        levels = torch.unique(TrainingBatches(white, recipe, seed=0, device=CPU).batch(0)[0][:, 0])
        assert (len(levels) > 1) == is_black_border_seen


def test_another_seed_gives_other_batches() -> None:
    first, second = (TrainingBatches(make_dataset(), Recipe(batch_size=8), seed=seed, device=CPU) for seed in (0, 1))
    assert not torch.equal(first.batch(0)[0], second.batch(0)[0])


def test_the_data_set_itself_is_never_changed() -> None:
    dataset = make_dataset()
    before = dataset.train_images.clone()
    batches = TrainingBatches(dataset, Recipe(batch_size=16), seed=0, device=CPU)
    for step in range(6):
        batches.batch(step)
    assert torch.equal(dataset.train_images, before)


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_does_on_cuda_what_it_does_on_a_cpu(name: str) -> None:
    images = torch.from_numpy(sample_images())
    arguments = arguments_for(name, len(images))
    layer = randaugment.Layer(
        operation=np.full(len(images), OPERATIONS.index(name)),
        argument=arguments,
        is_cubic=np.arange(len(images)) % 2 == 0,
    )
    on_cpu = randaugment.apply_layers(images.clone(), [layer], FILL)
    on_cuda = randaugment.apply_layers(images.cuda(), [layer], FILL).cpu()
    difference = (on_cuda.int() - on_cpu.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3


@pytest.mark.gpu
@NEEDS_CUDA
def test_making_batches_never_waits_for_the_device() -> None:
    device = torch.device("cuda")
    recipe = Recipe(batch_size=64, resized_crop_scale=0.08, erase_prob=0.5, erase_count=2)
    batches = TrainingBatches(make_dataset(256, 32).to(device), recipe, seed=0, device=device)
    batches.batch(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 12):
            batches.batch(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
