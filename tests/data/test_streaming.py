"""Images that no memory holds: read when asked for, through timm's loader, for the same training."""

from __future__ import annotations

import dataclasses
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from naxcli.commands.search_data import prepare_data
from naxcli.data import memory_fit, streamed_images
from naxcli.data.augment import TrainingBatches
from naxcli.data.dataset import Dataset, load_dataset
from naxcli.data.image_sources import HfListing
from naxcli.data.sources import load_split
from naxcli.data.streamed_images import StreamedImages
from naxcli.data.streaming import StreamedBatches, make_batches
from naxcli.errors import NaxcliError
from naxcli.records.trial import Status
from naxcli.search_space.contract import load_space
from naxcli.settings.experiment import Experiment
from naxcli.settings.recipe import Recipe
from naxcli.training.validation import evaluate_network
from naxcli.workers.evaluate import evaluate
from naxcli.workers.task import DataRequest, TrialTask
from tests.training.test_loop import NEEDS_CUDA, RECIPE, same_weights, train_small, without_seconds

CPU = torch.device("cpu")
PLAIN = Recipe(batch_size=16, randaugment="", crop_padding=0, horizontal_flip=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 40 training images each, of several sizes and modes."""
    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for class_index, class_name in enumerate(("cat", "dog")):
        for part, count in (("train", 40), ("test", 4)):
            (root / part / class_name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 100, (20 + index % 7, 24, 4), dtype=np.uint8) + 100 * class_index
                image = Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(("RGB", "L", "RGBA")[index % 3])
                image.save(root / part / class_name / f"{index:02}.png")
    return root


def load(name: str, *, is_streaming: bool, image_size: int | None = None, **arguments: object) -> Dataset:
    return load_dataset(
        name,
        root="",
        split_seed=0,
        validation_fraction=0.25,
        image_size=image_size,
        is_streaming=is_streaming,
        **arguments,
    )


def both(name: str, **arguments: object) -> tuple[Dataset, Dataset]:
    return load(name, is_streaming=False, **arguments), load(name, is_streaming=True, **arguments)


def streamed(dataset: Dataset, recipe: Recipe = RECIPE, *, seed: int = 0, num_processes: int = 0) -> StreamedBatches:
    return StreamedBatches(dataset, recipe, seed=seed, device=CPU, num_processes=num_processes)


def same_batch(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


# What is read


@pytest.mark.parametrize("test_crop", [1.0, 0.8])
def test_images_read_when_asked_for_are_those_read_at_once(folder: Path, test_crop: float) -> None:
    in_memory, streamed_data = both(f"folder:{folder}", image_size=16, with_test=True, test_crop=test_crop)
    for part in ("train", "validation", "test"):
        expected, found = getattr(in_memory, f"{part}_images"), getattr(streamed_data, f"{part}_images")
        assert isinstance(found, StreamedImages) and found.shape == tuple(expected.shape)
        assert np.array_equal(found.read(slice(None)), expected.numpy())
        assert torch.equal(getattr(in_memory, f"{part}_labels"), getattr(streamed_data, f"{part}_labels"))
    assert (streamed_data.mean, streamed_data.std) == (
        in_memory.mean,
        in_memory.std,
    )  # the sample is all of so few images
    assert not streamed_data.is_in_memory and streamed_data.in_memory_bytes == 0


@pytest.mark.parametrize("image_size", [None, 12])
def test_images_of_a_single_file_are_read_lazily_too(image_size: int | None) -> None:
    in_memory, streamed_data = both("digits", image_size=image_size)
    assert isinstance(streamed_data.validation_images, StreamedImages)
    assert np.array_equal(streamed_data.validation_images.read(slice(5)), in_memory.validation_images[:5].numpy())
    assert streamed_data.in_channels == 1


def test_confirmation_streams_training_and_validation_images_together(folder: Path) -> None:
    in_memory, streamed_data = (
        dataset.with_test_as_validation() for dataset in both(f"folder:{folder}", image_size=8, with_test=True)
    )
    assert isinstance(streamed_data.train_images, StreamedImages)
    assert np.array_equal(streamed_data.train_images.read(slice(None)), in_memory.train_images.numpy())
    assert len(streamed_data.validation_labels) == 8


def test_statistics_of_many_images_are_those_of_an_even_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_images, "_SAMPLE_BYTES", 8 * 8 * 100)
    images = load("digits", is_streaming=True).train_images
    assert isinstance(images, StreamedImages)
    sample = images.sample()
    assert len(sample) == 100
    assert np.array_equal(sample[[0, -1]], images.read(np.array([0, len(images) - 1])))


def test_a_folders_hash_tells_another_file_and_another_size(tmp_path: Path) -> None:
    for class_name in ("a", "b"):
        (tmp_path / class_name).mkdir()
        for index in range(5):
            Image.new("L", (8, 8), index).save(tmp_path / class_name / f"{index}.png")

    def content_hash() -> str:
        return load_split(f"folder:{tmp_path}", "", split="train", is_streaming=True).content_hash()

    first = content_hash()
    assert content_hash() == first
    Image.effect_noise((8, 8), 50).save(tmp_path / "a" / "0.png")
    second = content_hash()
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "9.png")
    assert len({first, second, content_hash()}) == 3


# Batches


@pytest.mark.parametrize("erase_prob", [0.0, 0.5])
def test_without_augmentation_of_single_images_streamed_batches_are_those_in_memory(
    erase_prob: float, folder: Path
) -> None:
    in_memory, streamed_data = both(f"folder:{folder}", image_size=16)
    recipe = dataclasses.replace(PLAIN, label_smoothing=0.1, erase_prob=erase_prob)
    ours, expected = (
        make_batches(streamed_data, recipe, seed=3, device=CPU),
        make_batches(in_memory, recipe, seed=3, device=CPU),
    )
    assert isinstance(ours, StreamedBatches) and isinstance(expected, TrainingBatches)
    assert (ours.batch_size, ours.steps_per_epoch) == (expected.batch_size, expected.steps_per_epoch) == (16, 3)
    for step in range(7):  # over two ends of epochs
        assert same_batch(ours.batch(step), expected.batch(step))


def test_any_step_can_be_asked_for_first_of_any_number_of_processes(folder: Path) -> None:
    dataset = load(f"folder:{folder}", is_streaming=True, image_size=16)
    recipe = Recipe(batch_size=16)
    batches = streamed(dataset, recipe)
    straight = [batches.batch(step) for step in range(5)]
    other = streamed(dataset, recipe, num_processes=2)
    for step in (3, 4, 1, 1):
        assert same_batch(other.batch(step), straight[step])
    other.close()
    assert not same_batch(straight[0], streamed(dataset, recipe, seed=1).batch(0))


def test_making_batches_leaves_the_random_numbers_of_the_training_alone(folder: Path) -> None:
    batches = streamed(load(f"folder:{folder}", is_streaming=True, image_size=16), Recipe(batch_size=16))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    batches.batch(0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


@pytest.mark.parametrize(
    "only",
    [
        {"crop_padding": 4},
        {"resized_crop_scale": 0.3},
        {"horizontal_flip": 0.5},
        {"randaugment": "rand-m7-mstd0.5-inc1"},
    ],
    ids=str,
)
def test_streamed_images_are_augmented_as_much_as_ones_in_memory(only: dict[str, object]) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (512, 3, 8, 8), dtype=np.uint8)
    images = coarse.repeat(4, axis=2).repeat(4, axis=3)
    labels = np.arange(512) % 2
    listing = streamed_images.ArrayListing(images=images, labels=labels, class_names=("a", "b"))
    streamed_data = StreamedImages(listing=listing, indices=np.arange(512), channels=3, image_size=32, resized=32)
    recipe = dataclasses.replace(PLAIN, batch_size=512, mixup=0, cutmix=0, **only)  # type: ignore[arg-type]
    changes = []
    for train_images in (torch.from_numpy(images), streamed_data):
        dataset = Dataset(
            name="test",
            train_images=train_images,
            train_labels=torch.from_numpy(labels),
            validation_images=train_images,
            validation_labels=torch.from_numpy(labels),
            num_classes=2,
            in_channels=3,
            image_size=32,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            class_names=("a", "b"),
            content_hash="",
            is_official=True,
        )
        plain = make_batches(dataset, dataclasses.replace(PLAIN, batch_size=512, mixup=0, cutmix=0), seed=0, device=CPU)
        shown = make_batches(dataset, recipe, seed=0, device=CPU).batch(0)[0]
        change = (shown - plain.batch(0)[0]).abs().mean((1, 2, 3))
        changes.append(((change > 0).float().mean().item(), change.mean().item()))
    assert changes[0][0] == pytest.approx(changes[1][0], abs=0.08)
    assert changes[0][1] == pytest.approx(changes[1][1], rel=0.15)


def test_a_random_resized_crop_of_a_streamed_image_is_taken_from_all_of_it(tmp_path: Path) -> None:
    """Not from its middle square, which here has no red, nor from an image that was made small before."""
    pixels = np.zeros((40, 120, 3), dtype=np.uint8)
    pixels[:, :30] = pixels[:, 90:] = (255, 0, 0)
    pixels[:, 58:62, 1] = 255  # a stripe
    for class_name in ("a", "b"):
        (tmp_path / class_name).mkdir()
        for number in range(12):
            Image.fromarray(pixels).save(tmp_path / class_name / f"{number}.png")
    dataset = load(f"folder:{tmp_path}", is_streaming=True, image_size=20)
    recipe = dataclasses.replace(PLAIN, mixup=0, cutmix=0, label_smoothing=0.0)

    def shown(**settings: float) -> np.ndarray:
        batches = streamed(dataset, dataclasses.replace(recipe, **settings))
        images = torch.cat([batches.batch(step)[0] for step in range(6)])
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (dataset.mean, dataset.std))
        return (images * std + mean).numpy()

    square, crops = shown(), shown(resized_crop_scale=0.08)
    assert square.shape[1:] == crops.shape[1:] == (3, 20, 20)
    assert square[:, 0].max() < 0.01 and 0.2 < (crops[:, 0] > 0.9).mean() < 0.7
    widest = [max((image[1] > 0.5).any(axis=0).sum() for image in images) for images in (square, crops)]
    assert widest[0] == 2 < widest[1]  # the stripe in a small crop


# Trainings


@pytest.fixture(scope="module")
def streamed_digits() -> Dataset:
    dataset = load("digits", is_streaming=True)
    assert isinstance(dataset.train_images, StreamedImages) and isinstance(dataset.validation_images, StreamedImages)
    few, fewer = np.arange(200), np.arange(40)
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images.subset(few),
        train_labels=dataset.train_labels[:200],
        validation_images=dataset.validation_images.subset(fewer),
        validation_labels=dataset.validation_labels[:40],
    )


def test_a_streamed_training_continues_bit_for_bit(streamed_digits: Dataset, tmp_path: Path) -> None:
    straight, expected = train_small(streamed_digits, epochs=2)
    path = tmp_path / "a.pt"
    train_small(streamed_digits, epochs=0.5, schedule_epochs=2, checkpoint_to=path)
    network, outcome = train_small(streamed_digits, epochs=2, checkpoint_from=path)
    assert expected.status is Status.SUCCESS
    assert same_weights(straight, network)
    assert without_seconds(outcome) == without_seconds(expected)


def test_without_augmentation_a_streamed_training_is_the_one_in_memory(streamed_digits: Dataset) -> None:
    assert isinstance(streamed_digits.train_images, StreamedImages) and isinstance(
        streamed_digits.validation_images, StreamedImages
    )
    in_memory = dataclasses.replace(
        streamed_digits,
        train_images=torch.from_numpy(streamed_digits.train_images.read(slice(None))),
        validation_images=torch.from_numpy(streamed_digits.validation_images.read(slice(None))),
    )
    (one, first), (other, second) = (train_small(dataset, PLAIN) for dataset in (in_memory, streamed_digits))
    assert same_weights(one, other)
    assert without_seconds(first) == without_seconds(second)
    assert evaluate_network(one, in_memory, PLAIN) == evaluate_network(one, streamed_digits, PLAIN)


def test_a_training_in_memory_is_not_continued_with_streamed_images(streamed_digits: Dataset, tmp_path: Path) -> None:
    assert isinstance(streamed_digits.train_images, StreamedImages)
    images = torch.from_numpy(streamed_digits.train_images.read(slice(None)))
    train_small(dataclasses.replace(streamed_digits, train_images=images), epochs=0.5, checkpoint_to=tmp_path / "a.pt")
    with pytest.raises(NaxcliError, match=r"data was digits .*streamed"):
        train_small(streamed_digits, epochs=0.5, checkpoint_from=tmp_path / "a.pt")


def test_a_trial_streams_where_its_request_says_so(tmp_path: Path) -> None:
    space = load_space("nexception")
    task = TrialTask(
        trial_id=0,
        space="nexception",
        config=space.reference["nexception"],
        fidelity=0.05,
        seed=0,
        width=0.02,
        recipe=Recipe(batch_size=64),
        data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2, is_streaming=True),
    )
    result = evaluate(TrialTask.from_dict(task.to_dict()))
    assert (result.status, result.error) == (Status.SUCCESS, None)


@pytest.mark.gpu
@NEEDS_CUDA
def test_streamed_batches_on_cuda_are_those_of_a_cpu(folder: Path) -> None:
    dataset, recipe = load(f"folder:{folder}", is_streaming=True, image_size=16), Recipe(batch_size=16)
    on_cuda = StreamedBatches(dataset, recipe, seed=0, device=torch.device("cuda"), num_processes=2)
    expected = streamed(dataset, recipe)
    for step in range(4):
        for ours, other in zip(on_cuda.batch(step), expected.batch(step), strict=True):
            assert ours.device.type == "cuda"
            assert torch.allclose(ours.cpu(), other, atol=1e-5)
    on_cuda.close()


# Unreadable images


@pytest.fixture
def broken_folder(tmp_path: Path) -> Path:
    for class_index, class_name in enumerate(("a", "b")):
        (tmp_path / class_name).mkdir()
        for index in range(10):
            level = 100 * class_index + index
            Image.new("RGB", (8, 8), (level, level, level)).save(tmp_path / class_name / f"{index}.png")
    return tmp_path


def broken(folder: Path, **arguments: object) -> Dataset:
    """Return the folder's data set, of which one training image broke after its listing and sample."""
    dataset = load(f"folder:{folder}", is_streaming=True, image_size=8, **arguments)
    assert isinstance(dataset.train_images, StreamedImages)
    file = Path(dataset.train_images.listing.item_name(int(dataset.train_images.indices[0])))
    file.write_bytes(file.read_bytes()[:40])
    return dataset


@pytest.mark.parametrize("num_processes", [0, 1])
def test_an_unreadable_image_is_refused_by_name(num_processes: int, broken_folder: Path) -> None:
    dataset = broken(broken_folder)
    batches = streamed(dataset, dataclasses.replace(PLAIN, batch_size=12), num_processes=num_processes)
    with pytest.raises(NaxcliError, match="an image cannot be read") as caught:
        batches.batch(0)
    assert ".png: " in caught.value.why
    assert "Traceback" not in str(caught.value)
    assert "skip_corrupt" in caught.value.hint


def test_an_unreadable_image_is_named_and_another_of_its_class_shown(
    broken_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = broken(broken_folder, skip_corrupt=True)
    assert isinstance(dataset.train_images, StreamedImages)
    with caplog.at_level(logging.WARNING):
        dataset.train_images.read(slice(None))
        shown = dataset.train_images.read(slice(None))
    assert ((shown[:, 0, 0, 0] >= 100) == dataset.train_labels.numpy()).all()
    assert len(caplog.records) == 1 and ".png: " in caplog.text


def test_a_class_without_a_readable_image_is_refused(broken_folder: Path) -> None:
    dataset = load(f"folder:{broken_folder}", is_streaming=True, image_size=8, skip_corrupt=True)
    for file in (broken_folder / "a").iterdir():
        file.write_text("no image")
    assert isinstance(dataset.train_images, StreamedImages)
    with pytest.raises(NaxcliError, match="no image of a class can be read"):
        dataset.train_images.read(slice(None))


def test_a_search_refuses_corrupt_images_or_leaves_them_out_as_it_is_set(broken_folder: Path) -> None:
    (broken_folder / "a" / "text.png").write_text("no image")
    space, name = load_space("nexception"), f"folder:{broken_folder}"
    with pytest.raises(NaxcliError, match="1 unreadable image of 17") as caught:
        prepare_data(Experiment(space="nexception", data=name), space)
    assert "text.png" in caught.value.why and "skip_corrupt=true" in caught.value.hint
    request, description, _ = prepare_data(Experiment(space="nexception", data=name, skip_corrupt=True), space)
    assert request is not None and request.skip_corrupt
    assert description is not None and description["num_images"] == 16 and "text.png" in description["notices"][0]


# Hugging Face data sets


def test_rows_of_a_hugging_face_data_set_are_read_one_by_one() -> None:
    rows = [{"img": Image.new("L", (10, 12), 10 * index)} for index in range(6)]
    listing = HfListing(
        name="hf:x",
        dataset=rows,
        rows=np.array([5, 1, 3]),
        image_column="img",
        labels=np.array([1, 0, 1]),
        class_names=("a", "b"),
    )
    images = StreamedImages(listing=listing, indices=np.arange(3), channels=3, image_size=8, resized=8)
    assert images.read(slice(None))[:, 0, 0, 0].tolist() == [50, 10, 30]
    assert listing.item_name(0) == "image 5"
    assert listing.content_hash() != dataclasses.replace(listing, rows=np.array([5, 1, 2])).content_hash()


# What fits


@pytest.mark.parametrize(
    ("kept", "available", "expected"),
    [
        ("auto", 10**6, False),
        ("auto", 10**4, True),
        ("auto", None, False),
        ("always", 0, False),
        ("never", 10**9, True),
    ],
)
def test_images_stay_in_memory_where_they_fit(
    kept: str, available: int | None, expected: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_fit, "available_memory_bytes", lambda: available)
    found = memory_fit.needs_streaming(f"folder:{folder}", "", image_size=16, in_memory=kept, num_processes=3)
    assert found is expected


def test_what_a_source_needs_grows_with_its_images_size_and_readers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 80 * 3 * 16**2 * 3  # images, channels, size, copies while reading
    for available, expected in ((2 * needed, False), (2 * needed - 1, True)):
        monkeypatch.setattr(memory_fit, "available_memory_bytes", lambda available=available: available)
        assert (
            memory_fit.needs_streaming(f"folder:{folder}", "", image_size=16, in_memory="auto", num_processes=2)
            is expected
        )


def test_sources_of_a_single_file_need_memory_only_where_they_are_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_fit, "available_memory_bytes", lambda: 10**6)
    found = [
        memory_fit.needs_streaming("cifar100", "", image_size=size, in_memory="auto", num_processes=1)
        for size in (None, 32, 224)
    ]
    assert found == [False, False, True]


def test_the_memory_left_is_the_machines_or_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = memory_fit.available_memory_bytes()
    assert alone is not None and alone > 10**7
    for name, text in (("max", "1000000"), ("current", "700000"), ("stat", "anon 1\ninactive_file 200000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory_fit, "_CGROUP", tmp_path)
    assert memory_fit.available_memory_bytes() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_fit.available_memory_bytes() == pytest.approx(alone, rel=0.5)


def test_a_search_decides_once_says_so_and_keeps_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("nexception")
    experiment = Experiment(space="nexception", data=f"folder:{folder}", image_size=16, workers=1)
    monkeypatch.setattr(memory_fit, "available_memory_bytes", lambda: 10)
    request, description, _ = prepare_data(experiment, space)
    assert request is not None and description is not None
    assert request.is_streaming and description["is_streaming"]
    assert "does not fit into memory" in description["notices"][0]
    monkeypatch.setattr(memory_fit, "available_memory_bytes", lambda: 10**12)
    request, again, _ = prepare_data(experiment, space, recorded=description)
    assert request is not None and again is not None
    assert request.is_streaming and again["content_hash"] == description["content_hash"]
    del description["is_streaming"]
    request, _, _ = prepare_data(experiment, space, recorded={**description, "is_lazy": True})  # of earlier versions
    assert request is not None and request.is_streaming
    request, _, _ = prepare_data(experiment, space)
    assert request is not None and not request.is_streaming


def test_an_unknown_choice_of_memory_or_streaming_is_refused() -> None:
    with pytest.raises(NaxcliError, match="data_in_memory is sometimes"):
        Experiment(space="nexception", data_in_memory="sometimes")
