from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from naxcli.data import sources
from naxcli.data.dataset import Dataset, channel_statistics, load_dataset
from naxcli.data.sources import describe_dataset, known_names, load_split
from naxcli.data.splits import stratified_split
from naxcli.errors import ExitCode, NaxcliError
from naxcli.workers.evaluate import load_data
from naxcli.workers.task import DataRequest
from tests.command_line import naxcli


def load(name: str, root: Path, **arguments: object) -> Dataset:
    return load_dataset(name, **{"root": root, "split_seed": 0, "validation_fraction": 0.2, **arguments})


def test_digits_load_offline_with_a_fixed_stratified_split(tmp_path: Path) -> None:
    dataset = load("digits", tmp_path, with_test=True)
    assert dataset.train_images.shape == (1151, 1, 8, 8)
    assert len(dataset.validation_labels) == 287
    assert dataset.test_labels is not None and len(dataset.test_labels) == 359
    assert dataset.train_images.dtype == torch.uint8 and dataset.train_images.max() == 255
    for labels in (dataset.train_labels, dataset.validation_labels, dataset.test_labels):
        shares = labels.bincount(minlength=10) / len(labels)
        assert shares == pytest.approx(torch.full((10,), 0.1), abs=0.01)


def test_a_limit_per_class_thins_the_training_images_and_nothing_else(tmp_path: Path) -> None:
    whole = load("digits", tmp_path, with_test=True)
    limited = load("digits", tmp_path, with_test=True, images_per_class=20)
    assert limited.train_labels.bincount().tolist() == [20] * 10
    assert torch.equal(limited.validation_images, whole.validation_images)
    assert torch.equal(limited.test_images, whole.test_images)
    known = {image.numpy().tobytes() for image in whole.train_images}
    assert all(image.numpy().tobytes() in known for image in limited.train_images)
    again = load("digits", tmp_path, images_per_class=20)
    assert torch.equal(again.train_images, limited.train_images)
    assert torch.equal(load("digits", tmp_path, images_per_class=10**6).train_images, whole.train_images)


def test_the_three_parts_of_digits_are_all_images_once(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    dataset = load("digits", tmp_path, with_test=True)
    assert dataset.test_images is not None
    parts = torch.cat([dataset.train_images, dataset.validation_images, dataset.test_images]).flatten(1)
    everything = torch.from_numpy(np.rint(load_digits().data * (255 / 16)).astype(np.uint8))
    assert sorted(map(bytes, parts.numpy())) == sorted(map(bytes, everything.numpy()))


def test_a_search_does_not_load_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(
        "naxcli.data.dataset.load_split",
        lambda *a, split, **k: loaded.append(split) or load_split(*a, split=split, **k),
    )
    dataset = load("digits", tmp_path)
    assert loaded == ["train"]
    assert dataset.test_images is None
    with pytest.raises(NaxcliError, match="test split of digits was not loaded"):
        dataset.with_test_as_validation()


def test_confirmation_trains_on_everything_but_the_test_part(tmp_path: Path) -> None:
    dataset = load("digits", tmp_path, with_test=True).with_test_as_validation()
    assert len(dataset.train_labels) == 1438
    assert dataset.validation_images is dataset.test_images


@pytest.mark.parametrize(("images_per_class", "num_training"), [(None, 1438), (5, 50)])
def test_confirmation_trains_on_no_more_images_than_a_limited_search(
    tmp_path: Path, images_per_class: int | None, num_training: int
) -> None:
    request = DataRequest(
        name="digits", root=str(tmp_path), split_seed=0, validation_fraction=0.2, images_per_class=images_per_class
    )
    searched = load_data(request)
    confirmed = load_data(dataclasses.replace(request, on_test=True))
    assert len(confirmed.train_labels) == num_training
    assert confirmed.validation_images is confirmed.test_images
    if images_per_class is not None:
        assert torch.equal(confirmed.train_images, searched.train_images)


def test_another_split_seed_gives_another_split_of_the_same_content(tmp_path: Path) -> None:
    one, again, other = load("digits", tmp_path), load("digits", tmp_path), load("digits", tmp_path, split_seed=1)
    assert torch.equal(one.train_images, again.train_images)
    assert not torch.equal(one.validation_images, other.validation_images)
    assert one.content_hash == other.content_hash
    assert (one.mean, one.std) == (other.mean, other.std)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=6),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32),
)
def test_a_split_leaves_every_class_on_both_sides(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rest, chosen = stratified_split(labels, fraction, seed)
    assert sorted([*rest, *chosen]) == list(range(len(labels)))
    assert set(labels[rest]) == set(labels[chosen]) == set(labels)
    assert np.array_equal(chosen, stratified_split(labels, fraction, seed)[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_a_split_into_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(NaxcliError, match="validation fraction"):
        stratified_split(np.repeat([0, 1], 5), fraction, 0)


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(NaxcliError, match="class 1 has only one image"):
        stratified_split(np.array([0, 0, 1]), 0.5, 0)


def test_channel_statistics_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    images[:, 2] = 7
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(images.mean((0, 2, 3)) / 255)
    assert std[:2] == pytest.approx(images.std((0, 2, 3))[:2] / 255)
    assert std[2] > 0  # a constant channel is not divided by 0


def test_images_can_be_resized(tmp_path: Path) -> None:
    assert load("digits", tmp_path, image_size=16).train_images.shape[1:] == (1, 16, 16)
    assert describe_dataset("digits", tmp_path, image_size=16).image_size == 16


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for call in (lambda: load("mnist", tmp_path), lambda: describe_dataset("mnist", tmp_path)):
        with pytest.raises(NaxcliError, match="no data source 'mnist'") as caught:
            call()
        assert all(name in caught.value.hint for name in known_names())


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100"])
def test_descriptions_need_no_data(name: str, tmp_path: Path) -> None:
    description = describe_dataset(name, tmp_path)
    assert (description.num_classes, description.in_channels, description.image_size) == {
        "digits": (10, 1, 8),
        "cifar10": (10, 3, 32),
        "cifar100": (100, 3, 32),
    }[name]
    assert not list(tmp_path.iterdir())


# CIFAR's files


def write_cifar100(root: Path, *, num_per_class: int = 3, labels: list[int] | None = None) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    values = labels if labels is not None else [label for label in range(100) for _ in range(num_per_class)]
    generator = np.random.default_rng(0)
    for file in ("train", "test"):
        data = generator.integers(0, 256, (len(values), 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": data, "fine_labels": values, "filenames": ["x"]}, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]}, protocol=2))


def test_a_pack_in_cifars_layout_is_read_and_said_not_to_be_official(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    dataset = load("cifar100", tmp_path, with_test=True)
    assert dataset.train_images.shape == (200, 3, 32, 32)
    assert (dataset.num_classes, dataset.class_names[7]) == (100, "class 7")
    assert not dataset.is_official
    assert "does not hold the official cifar100" in dataset.notices[0]


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    write_cifar100(tmp_path, labels=[0, 0, 100, 100])
    with pytest.raises(NaxcliError, match="labels from 0 to 100"):
        load("cifar100", tmp_path)


class Payload:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


def test_an_untrusted_pickle_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps({"data": Payload()}))
    with pytest.raises(NaxcliError, match=r"train cannot be read\n.*system"):
        load("cifar100", tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"not a pickle", pickle.dumps({"data": [1]})[:-3], pickle.dumps([1])]
)
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "train").write_bytes(content)
    with pytest.raises(NaxcliError, match="cifar-100-python/train"):
        load("cifar100", tmp_path)


def test_missing_data_without_a_network_says_where_to_put_which_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR100, "download", fail)
    with pytest.raises(NaxcliError, match="could not be downloaded") as caught:
        load("cifar100", tmp_path / "data")
    assert "cifar-100-python.tar.gz" in caught.value.hint and str(tmp_path / "data") in caught.value.hint


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_torchvision_reads_the_published_files_which_are_known_by_its_sums(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the test's own with sums of the test's own, in the place of the published ones."""
    from torchvision import datasets

    published = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    files, sums = [file for file, _ in (*published.train_list, *published.test_list)], {}
    meta = published.meta
    folder = tmp_path / published.base_folder
    folder.mkdir()
    key = "labels" if name == "cifar10" else "fine_labels"
    for number, file in enumerate(files):
        pixels = np.full((20, 3072), number, dtype=np.uint8)
        pixels[:, 1024] = 77  # green of the upper left
        (folder / file).write_bytes(pickle.dumps({"data": pixels, key: [0, 1] * 10}, protocol=2))
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: ["cat", "dog"]}, protocol=2))
    for path in folder.iterdir():
        sums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "train_list", [[file, sums[file]] for file, _ in published.train_list])
    monkeypatch.setattr(published, "test_list", [[file, sums[file]] for file, _ in published.test_list])
    monkeypatch.setattr(published, "meta", {**meta, "md5": sums[meta["filename"]]})
    (folder / files[-1]).unlink()  # the test images are not needed to train
    split = sources.load_split(name, tmp_path, split="train")
    assert isinstance(split.images, np.ndarray)
    assert split.is_official and split.notices == () and split.class_names == ("cat", "dog")
    assert split.images.shape == (20 * (len(files) - 1), 3, 32, 32)
    assert split.images[:, 0, 5, 5].tolist() == [number for number in range(len(files) - 1) for _ in range(20)]
    assert (split.images[:, 1, 0, 0] == 77).all() and (split.images[:, 2, 0, 0] != 77).all()
    (folder / files[0]).write_bytes(pickle.dumps({"data": pixels, key: [1, 0] * 10}, protocol=2))
    changed = sources.load_split(name, tmp_path, split="train")
    assert not changed.is_official and changed.labels[:2].tolist() == [1, 0]
    assert sources._CIFAR[name].folder == published.base_folder


@pytest.mark.cifar
def test_the_real_mini_pack_of_cifar100_is_read(cifar_mini: Path) -> None:
    dataset = load("cifar100", cifar_mini, with_test=True)
    assert (len(dataset.train_labels), len(dataset.validation_labels)) == (2400, 600)
    assert dataset.test_labels is not None and len(dataset.test_labels) == 500
    assert dataset.mean == pytest.approx((0.507, 0.487, 0.441), abs=0.01)
    assert dataset.class_names[:2] == ("apple", "aquarium_fish")
    assert not dataset.is_official


# Image folders


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes of 10 training images each, of all sizes and modes, and 2 test images."""
    generator = np.random.default_rng(0)
    for class_index, class_name in enumerate(("cat", "dog")):
        for part, count in (("train", 10), ("test", 2)):
            folder = tmp_path / part / class_name
            folder.mkdir(parents=True)
            for index in range(count):
                size = (20 + index, 30)
                pixels = generator.integers(0, 100, (*size, 4), dtype=np.uint8) + 100 * class_index
                mode = ("RGB", "L", "RGBA", "LA", "P")[index % 5]
                Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode).save(folder / f"{index}.png")
    return tmp_path


def test_image_folders_of_any_size_and_mode_are_read(image_folder: Path) -> None:
    dataset = load(f"folder:{image_folder}", image_folder, image_size=24, with_test=True)
    assert dataset.train_images.shape == (16, 3, 24, 24)
    assert dataset.test_images is not None and dataset.test_images.shape == (4, 3, 24, 24)
    assert dataset.class_names == ("cat", "dog")
    assert describe_dataset(f"folder:{image_folder}", image_folder).num_classes == 2


def test_a_folder_without_a_test_part_holds_a_fixed_fifth_of_every_class_out(image_folder: Path) -> None:
    name = f"folder:{image_folder / 'train'}"
    train, test = (load_split(name, "", split=split) for split in ("train", "test"))
    assert (len(train.labels), len(test.labels)) == (16, 4)
    assert np.bincount(test.labels).tolist() == [2, 2]
    images = [image.tobytes() for image in (*train.images, *test.images)]
    assert len(set(images)) == 20


def test_corrupt_images_are_named_and_refused_or_skipped(image_folder: Path) -> None:
    broken = image_folder / "train" / "cat" / "broken.png"
    whole = (image_folder / "train" / "cat" / "0.png").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    (image_folder / "train" / "dog" / "text.jpg").write_text("no image")
    with pytest.raises(NaxcliError, match="2 unreadable images of 22") as caught:
        load(f"folder:{image_folder}", image_folder)
    assert "broken.png" in caught.value.why and "text.jpg" in caught.value.why
    dataset = load(f"folder:{image_folder}", image_folder, skip_corrupt=True)
    assert len(dataset.train_labels) + len(dataset.validation_labels) == 20
    assert "broken.png" in dataset.notices[0]


def test_a_class_of_which_no_image_can_be_read_is_refused(image_folder: Path) -> None:
    for file in (image_folder / "train" / "dog").iterdir():
        file.write_text("no image")
    with pytest.raises(NaxcliError, match="no readable image of dog"):
        load(f"folder:{image_folder}", image_folder, skip_corrupt=True)


def test_data_check_skips_corrupt_images_on_request(image_folder: Path) -> None:
    (image_folder / "train" / "dog" / "text.jpg").write_text("no image")
    refused = naxcli("data", "check", f"folder:{image_folder}")
    assert refused.returncode == ExitCode.USAGE and "text.jpg" in refused.stderr and "--skip-corrupt" in refused.stderr
    checked = naxcli("data", "check", f"folder:{image_folder}", "--skip-corrupt", "--image-size", "16", "--json")
    assert checked.returncode == ExitCode.DONE and "text.jpg" in checked.stderr
    described = json.loads(checked.stdout)
    assert described["num_images"] == 20 and described["image_size"] == 16


def test_a_class_folder_without_images_is_named(image_folder: Path) -> None:
    (image_folder / "train" / "empty").mkdir()
    with pytest.raises(NaxcliError, match="train/empty has no image"):
        load(f"folder:{image_folder}", image_folder)


def test_a_missing_folder_and_one_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="no image folder"):
        load(f"folder:{tmp_path / 'nowhere'}", tmp_path)
    with pytest.raises(NaxcliError, match="has 0 class folders"):
        describe_dataset(f"folder:{tmp_path}", tmp_path)


def test_a_test_class_without_training_images_is_refused(image_folder: Path) -> None:
    (image_folder / "test" / "bird").mkdir()
    with pytest.raises(NaxcliError, match=r"classes that .*train lacks\nwhy: bird"):
        load(f"folder:{image_folder}", image_folder, with_test=True)


def test_transparent_images_lie_on_white_and_deep_ones_keep_their_range(tmp_path: Path) -> None:
    for class_name in ("a", "b"):
        folder = tmp_path / class_name
        folder.mkdir()
        for index in range(5):
            Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / f"{index}.png")
    (tmp_path / "deep").mkdir()
    for index in range(5):
        Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "deep" / f"{index}.png")
    part = load_split(f"folder:{tmp_path}", "", split="train")
    assert set(part.images[part.labels == 0].ravel()) == {255}
    assert set(part.images[part.labels == 2].ravel()) == {40_000 >> 8}


# Hugging Face data sets


def png(level: int) -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.new("L", (10, 12), level).save(buffer, "PNG")
    return {"bytes": buffer.getvalue()}


@pytest.fixture
def hf_folder(tmp_path: Path) -> Callable[[list[int]], Path]:
    import datasets

    def write(labels: list[int]) -> Path:
        features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["zero", "one"])})
        rows = {"img": [png(10 * index) for index in range(len(labels))], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"

    return write


def test_a_saved_hugging_face_data_set_is_read(hf_folder: Callable[[list[int]], Path]) -> None:
    folder = hf_folder([0, 1] * 10)
    name = f"hf:{folder}"
    assert describe_dataset(name, folder).num_classes == 2
    dataset = load(name, folder, image_size=16, with_test=True)
    assert dataset.train_images.shape[1:] == (3, 16, 16)
    assert dataset.class_names == ("zero", "one")
    assert dataset.test_labels is not None and len(dataset.test_labels) == 4


def test_a_damaged_hugging_face_folder_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(NaxcliError, match="could not be loaded") as error:
        load(f"hf:{tmp_path}", tmp_path)
    assert error.value.why == "KeyError('splits')"

    def fail(_: str) -> None:
        raise datasets.exceptions.DatasetGenerationError("a file ends early")

    monkeypatch.setattr(datasets, "load_from_disk", fail)
    with pytest.raises(NaxcliError, match="could not be loaded"):
        load(f"hf:{tmp_path}", tmp_path)


def test_unlabelled_hugging_face_images_are_refused(hf_folder: Callable[[list[int]], Path]) -> None:
    folder = hf_folder([0, 1, -1, 1])
    with pytest.raises(NaxcliError, match="labels from -1 to 1"):
        load(f"hf:{folder}", folder)


def test_an_unknown_hugging_face_data_set_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def fail(*reference: str) -> None:
        asked.append(reference)
        kind = datasets.exceptions.DatasetNotFoundError if "other" not in reference[0] else ConnectionError
        raise kind(f"Couldn't reach {reference[0]!r} on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    for name in ("nobody/nothing", "nobody/nothing/plain@train", "other/one"):
        with pytest.raises(NaxcliError, match=f"hf:{name} could not be loaded") as error:
            load(f"hf:{name}", tmp_path)
        assert "Couldn't reach" in error.value.why and "without a network a folder" in error.value.hint
    assert asked == [("nobody/nothing",), ("nobody", "nothing"), ("nobody/nothing", "plain"), ("other/one",)]


@pytest.fixture
def hf_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub holds them: two configurations, one of three splits, whose images are of levels 10, 20 and 30."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split, level in {"train": 10, "validation": 20, "test": 30, "extra": 40}.items():
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / "files" / split / label
            folder.mkdir(parents=True)
            for number in range(5):
                Image.new("RGB", (9, 7), (level, level, level)).save(folder / f"{number}.png")
    splits = {"small": ("train", "validation", "test"), "strange": ("extra",)}
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f'  - split: {split}\n    path: "files/{split}/**"\n' for split in of)
        for name, of in splits.items()
    )
    (tmp_path / "pets" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return tmp_path / "pets"


def test_a_hugging_face_data_set_has_a_configuration_and_splits_to_train_on(hf_configurations: Path) -> None:
    def levels(name: str, split: str) -> list[int]:
        images = load_split(f"hf:{hf_configurations}/{name}", "", split=split, image_size=8).images
        return sorted(set(np.asarray(images).ravel().tolist()))

    assert (levels("small", "train"), levels("small", "test")) == ([10], [30])
    assert (levels("small@train+validation", "train"), levels("small@train+validation", "test")) == ([10, 20], [30])
    assert (levels("small@test", "train"), levels("small@test", "test")) == ([30], [20])
    assert levels("strange@extra", "train") == levels("strange@extra", "test") == [40]  # a fifth is held out
    joined = load_dataset(
        f"hf:{hf_configurations}/small@train+validation", root="", split_seed=0, validation_fraction=0.2, with_test=True
    )
    assert joined.class_names == ("cat", "dog")
    assert (len(joined.train_labels), len(joined.validation_labels)) == (16, 4)


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [
        ("", "could not be loaded", "['small', 'strange']"),
        ("/other", "could not be loaded", "Available: ['small', 'strange']"),
        ("/small@train+vali", "has no split vali", "train, validation, test"),
        ("/strange", "has no training split", "/strange@extra"),
        ("/small@", "names no splits", "''"),
        ("/small@train+", "names no splits", "'train+'"),
        ("/small@train+train", "names no splits", "'train+train'"),
    ],
)
def test_an_unknown_configuration_or_split_is_refused_with_those_that_there_are(
    name: str, what: str, says: str, hf_configurations: Path
) -> None:
    with pytest.raises(NaxcliError, match=what) as error:
        describe_dataset(f"hf:{hf_configurations}{name}", "")
    assert says in str(error.value)
