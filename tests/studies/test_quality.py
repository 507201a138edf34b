"""How good a network is, and its batch statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from naxcli.data.dataset import Dataset, load_dataset
from naxcli.settings.recipe import Recipe
from naxcli.studies.quality import QualityMeasure, recompute_batch_norm
from naxcli.studies.weights import get_weights, set_weights

RECIPE = Recipe(batch_size=64, loss="cross_entropy", precision="float32")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = load_dataset("digits", root="", split_seed=0, validation_fraction=0.2)
    return whole.with_fewer_images(128, seed=0)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(10))
    return nn.Sequential(*layers).eval()


def test_batch_statistics_are_those_of_the_weights_on_the_training_images(digits: Dataset) -> None:
    found = network()
    recompute_batch_norm(found, digits, RECIPE)
    images = digits.train_images.float() / 255
    images = (images - digits.mean[0]) / digits.std[0]
    with torch.no_grad():
        activations = found[0](images)
    assert torch.allclose(found[1].running_mean, activations.mean(dim=(0, 2, 3)), atol=1e-5)
    assert found[1].momentum == 0.1 and not found[1].training
    random_state = torch.get_rng_state()
    recompute_batch_norm(found, digits, RECIPE)
    assert torch.equal(torch.get_rng_state(), random_state)  # dropout is off


def test_a_scaled_network_is_itself_again_once_its_statistics_are_computed_anew(digits: Dataset) -> None:
    """Batch normalization undoes a factor on the weights before it, with statistics that know of it."""
    found = network()
    kept, anew = (QualityMeasure(digits, RECIPE, recomputes_batch_norm=choice) for choice in (False, True))
    before = anew(found)
    assert kept(found) == before
    with torch.no_grad():
        found[0].weight.mul_(3)
        found[0].bias.mul_(3)
    assert kept(found)["train_loss"] != pytest.approx(before["train_loss"], rel=1e-2)
    assert anew(found)["train_loss"] == pytest.approx(before["train_loss"], rel=1e-3)


def test_a_loss_that_is_not_finite_is_none(digits: Dataset) -> None:
    found = network()
    QualityMeasure(digits, RECIPE, recomputes_batch_norm=False)(found)
    set_weights(found, get_weights(found) * float("nan"))
    quality = QualityMeasure(digits, RECIPE, recomputes_batch_norm=False)(found)
    assert quality["train_loss"] is None and quality["val_accuracy"] is not None


def test_fewer_images_are_a_draw_of_their_seed(digits: Dataset) -> None:
    again = digits.with_fewer_images(50, seed=1)
    assert len(again.train_images) == len(again.train_labels) == len(again.validation_labels) == 50
    assert torch.equal(again.train_images, digits.with_fewer_images(50, seed=1).train_images)
    assert not torch.equal(again.train_images, digits.with_fewer_images(50, seed=2).train_images)
    assert torch.equal(digits.with_fewer_images(10**6, seed=1).train_labels, digits.train_labels)
