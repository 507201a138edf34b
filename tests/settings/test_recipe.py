from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from naxcli.errors import NaxcliError
from naxcli.settings.recipe import RandAugmentSettings, Recipe

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adam"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("schedule", "linear"),
        ("loss", "mse"),
        ("mixup_prob", 1.5),
        ("drop_path", 1.0),
        ("crop_padding", -1),
        ("resized_crop_scale", 1.1),
        ("resized_crop_scale", -0.1),
        ("resized_crop_ratio", 0.0),
        ("resized_crop_ratio", 1.5),
        ("erase_prob", 1.5),
        ("erase_mode", "grey"),
        ("erase_count", 0),
        ("min_learning_rate", 1.0),
        ("randaugment", "rand-x3"),
        ("randaugment", "augmix-m3"),
        ("precision", "float16"),
        ("ema_decay", 1.0),
    ],
)
def test_an_impossible_setting_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(NaxcliError, match=f"recipe.{field}"):
        Recipe(**{field: value})


def test_the_defaults_are_the_papers_table_2() -> None:
    recipe = Recipe()
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("lamb", 2e-3, 0.02)
    assert (recipe.batch_size, recipe.schedule, recipe.warmup_epochs, recipe.min_learning_rate) == (
        256,
        "cosine",
        5,
        1e-6,
    )
    assert (recipe.loss, recipe.bce_target_threshold, recipe.label_smoothing) == ("bce", 0.2, 0.0)
    assert (recipe.randaugment, recipe.mixup, recipe.cutmix) == ("rand-m7-mstd0.5-inc1", 0.1, 1.0)
    assert (recipe.drop_path, recipe.channels_last) == (0.05, True)


def test_the_learning_rate_warms_up_then_falls_along_a_cosine() -> None:
    recipe = Recipe(learning_rate=1.0, min_learning_rate=0.1, warmup_epochs=5)
    assert recipe.learning_rate_at(0, 300) == pytest.approx(0.1)
    assert recipe.learning_rate_at(2.5, 300) == pytest.approx(0.55)
    assert recipe.learning_rate_at(5, 300) == pytest.approx(1.0)
    assert recipe.learning_rate_at((300 + 5) / 2, 300) == pytest.approx(0.55)
    assert recipe.learning_rate_at(300, 300) == pytest.approx(0.1)
    assert recipe.learning_rate_at(400, 300) == pytest.approx(0.1)


def test_warm_up_and_cool_down_are_those_of_the_authors_script() -> None:
    recipe = Recipe(
        learning_rate=1.0, min_learning_rate=0.1, warmup_epochs=5, warmup_learning_rate=0.4, cooldown_epochs=10
    )
    assert [recipe.learning_rate_at(epoch, 310) for epoch in (0, 2.5, 5)] == pytest.approx([0.4, 0.7, 1.0])
    assert recipe.learning_rate_at((300 + 5) / 2, 310) == pytest.approx(0.55)
    assert [recipe.learning_rate_at(epoch, 310) for epoch in (300, 305, 310)] == pytest.approx([0.1] * 3)
    level = Recipe(learning_rate=1.0, warmup_learning_rate=1.0)
    assert [level.learning_rate_at(epoch, 300) for epoch in (0, 2, 5)] == [1.0] * 3


def test_a_short_training_shortens_the_warm_up_to_a_fifth() -> None:
    recipe = Recipe(learning_rate=1.0)
    assert recipe.warmup_length(300) == 5
    assert recipe.warmup_length(10) == pytest.approx(2)
    assert recipe.learning_rate_at(2, 10) == pytest.approx(1.0)


def test_a_constant_schedule_stays_after_the_warm_up() -> None:
    recipe = Recipe(learning_rate=0.5, schedule="constant")
    assert [recipe.learning_rate_at(epoch, 50) for epoch in (5, 20, 50)] == [0.5, 0.5, 0.5]


def test_without_warm_up_the_schedule_starts_at_the_top() -> None:
    assert Recipe(warmup_epochs=0).learning_rate_at(0, 10) == pytest.approx(2e-3)


@pytest.mark.parametrize(
    "description",
    ["rand-m7-mstd0.5-inc1", "rand-m9-n3-mstd0.5", "rand-inc1-m5", "rand-m4-p0.8-mmax6", "rand-m9-mstd101"],
)
def test_randaugment_descriptions_mean_what_timm_reads_in_them(description: str) -> None:
    from timm.data.auto_augment import rand_augment_transform

    reference = rand_augment_transform(description, {})
    operation = reference.ops[0]
    settings = RandAugmentSettings.parse(description)
    assert settings.num_layers == reference.num_layers
    assert settings.magnitude == operation.magnitude
    assert settings.magnitude_std == operation.magnitude_std
    assert settings.magnitude_max == (operation.magnitude_max or 10)
    assert settings.probability == operation.prob
    assert settings.is_increasing == any("Increasing" in op.name for op in reference.ops)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_experiments_have_legal_recipes(path: Path) -> None:
    settings = tomllib.loads(path.read_text())
    recipe = Recipe(**settings["recipe"])
    assert set(settings["recipe"]) <= {field.name for field in dataclasses.fields(recipe)}


def test_recipe_and_data_descriptions_are_read_without_torch() -> None:
    code = (
        "import sys; from naxcli.settings.recipe import Recipe; from naxcli.data.sources import describe_dataset;"
        "Recipe(); describe_dataset('cifar100', 'nowhere'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_warmup_stable_decay_decays_over_the_end_of_a_training() -> None:
    recipe = Recipe(schedule="warmup_stable_decay", decay_fraction=0.2, warmup_epochs=1.0)
    rates = [recipe.learning_rate_at(epoch, 27, end=9) for epoch in (0.5, 1, 7.2, 7.65, 9, 20)]
    low, high = recipe.min_learning_rate, recipe.learning_rate
    assert rates == pytest.approx([(low + high) / 2, high, high, low + (high - low) / 2, low, low], rel=1e-3)
    assert recipe.learning_rate_at(8.99, 27) == high
