"""Nuclear norms, and what a classifier sees."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from naxcli.data.dataset import load_dataset
from naxcli.errors import NaxcliError
from naxcli.settings.recipe import Recipe
from naxcli.studies.features import final_features, nuclear_norm


def test_a_nuclear_norm_is_the_sum_of_singular_values_and_its_share_has_no_scale() -> None:
    features = torch.diag(torch.tensor([3.0, 4.0]))
    assert nuclear_norm(features) == pytest.approx((7.0, 7 / (5 * math.sqrt(2))))
    assert nuclear_norm(9 * features)[1] == pytest.approx(nuclear_norm(features)[1])
    assert nuclear_norm(torch.eye(6, 3)) == pytest.approx((3.0, 1.0))
    assert nuclear_norm(torch.zeros(3, 2)) == (0.0, 0.0)


def test_final_features_are_what_the_last_linear_layer_sees_of_every_validation_image() -> None:
    dataset = load_dataset("digits", root="", split_seed=0, validation_fraction=0.2)
    dataset = dataclasses.replace(
        dataset, validation_images=dataset.validation_images[:20], validation_labels=dataset.validation_labels[:20]
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    features, accuracy = final_features(network, dataset, Recipe(batch_size=8, precision="float32"))
    assert features.shape == (20, 6) and 0 <= accuracy <= 1
    # Each of three batches went through the classifier in its order.
    predicted = network[3](features).argmax(1)
    assert float((predicted == dataset.validation_labels).float().mean()) == pytest.approx(accuracy)
    with pytest.raises(NaxcliError, match="no linear layer"):
        final_features(nn.Conv2d(1, 10, 8), dataset, Recipe())
