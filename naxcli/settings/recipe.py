"""Recipe: how a network is trained, every part a named setting; the defaults are the paper's. Imports no torch.

Source: Shavit et al., From Xception to NEXcepTion, ICPRAM 2023, appendix Table 2.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from naxcli.errors import NaxcliError

OPTIMIZERS = ("lamb", "adamw", "sgd")
SCHEDULES = ("cosine", "warmup_stable_decay", "constant")
LOSSES = ("bce", "cross_entropy")
ERASE_MODES = ("pixel", "rand", "const")
PRECISIONS = ("auto", "float32", "tf32", "bfloat16")
FULL_TRAINING_EPOCHS = 300
"""Length of a final training in the paper."""
IMAGENET_RECIPE = {
    "augmentation_repeats": 3,
    "warmup_learning_rate": 1e-4,
    "cooldown_epochs": 10,
    "resized_crop_scale": 0.08,
}
"""Settings of the commands and of the script that the authors released for ImageNet, where they are not the defaults here."""
CHOICE_PREFIX = "recipe."
"""Beginning of the names of hyperparameters that choose a setting of the recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of training, as in appendix Table 2 of the paper unless stated otherwise.

    Args:
        optimizer: Optimizer: `lamb`, `adamw` or `sgd` (with Nesterov momentum).
        learning_rate: Highest learning rate, reached after the warm-up.
        weight_decay: Weight decay of parameters with two or more dimensions; biases and normalization layers have none.
        momentum: Momentum of `sgd`; the other optimizers ignore it.
        max_grad_norm: Norm that the gradient of all parameters together is clipped to; 0 does not clip.
        batch_size: Images per optimizer step.
        schedule: Learning-rate schedule after the warm-up. `cosine` decays from `learning_rate` to `min_learning_rate`.
            `warmup_stable_decay` stays at `learning_rate` and decays over the last `decay_fraction` of a training, as
            one minus the root of the progress (Hägele et al., 2024); a longer training continues from before the decay.
            `constant` stays.
        decay_fraction: Share of a training over which `warmup_stable_decay` decays the learning rate.
        warmup_epochs: Epochs of linear growth of the learning rate.
        warmup_learning_rate: Learning rate at which the warm-up starts, where it is above `min_learning_rate`. (1e-4 in the
            script that the authors released, `--warmup-lr` of timm.)
        warmup_max_fraction: Largest share of the schedule that is warm-up, to which a short training shortens
            `warmup_epochs`. (Not of the paper, whose 300 epochs never meet it.)
        min_learning_rate: Learning rate at which the decay ends.
        cooldown_epochs: Epochs at the end of the schedule, part of its length, for which `cosine` stays at `min_learning_rate`.
            (10 in the script that the authors released, `--cooldown-epochs` of timm: its 300 epochs are 310 in all.)
        loss: Loss: `bce` (one binary problem per class) or `cross_entropy`.
        bce_target_threshold: Mixed targets above it count as 1 in `bce`, the others as 0; 0 keeps them soft.
        label_smoothing: Share of the target that is spread evenly over all classes.
        randaugment: RandAugment in timm's notation; empty does without.
        crop_padding: Pixels of black border from which a random crop of the original size is taken; 0 does not crop.
        resized_crop_scale: Smallest share of an image's area that a random crop covers which is resized to the image's size, in the
            place of `crop_padding`; 0 does without. (0.08 for ImageNet in the script that the authors released.)
        resized_crop_ratio: Smallest aspect ratio of such a crop; the largest is its inverse.
        horizontal_flip: Probability of mirroring an image.
        resolution: Side in pixels that augmented images are resized to for the network, as those are that it is measured on; 0 keeps
            the data's. Of the reduced network; a full-size one keeps its own. (Not of the paper.)
        mixup: Alpha of mixup's Beta distribution; 0 does without mixup.
        cutmix: Alpha of CutMix's Beta distribution; 0 does without CutMix.
        mixup_prob: Probability that a batch is mixed at all.
        switch_prob: Probability of CutMix where both are on.
        erase_prob: Probability that random erasing replaces boxes of an image, after mixing; 0 does without.
        erase_mode: What is in an erased box: a normal random number for each `pixel`, for each channel (`rand`), or 0 (`const`).
        erase_count: Largest number of boxes of an image, from 1 on; the more, the smaller.
        drop_path: Rate of stochastic depth.
        augmentation_repeats: Number of times that an image occurs in one epoch, each time augmented anew; the length of
            the epoch stays. The paper's ImageNet training uses 3.
        precision: Precision of the computation: `float32` in full, `tf32` (float32 whose matrix products and
            convolutions CUDA devices round to 10 bits; float32 elsewhere), `bfloat16` (autocast), or `auto`: bfloat16 on
            CUDA devices that compute in it, float32 elsewhere.
        channels_last: Whether tensors lie in memory with channels last.
        ema_decay: Decay of the exponential moving average of the weights that is then evaluated; 0 keeps none.

    Raises:
        NaxcliError: If a field has an impossible value; the field is named.
    """

    optimizer: str = "lamb"
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    momentum: float = 0.9
    max_grad_norm: float = 1.0
    batch_size: int = 256
    schedule: str = "cosine"
    decay_fraction: float = 0.2
    warmup_epochs: float = 5.0
    warmup_max_fraction: float = 0.2
    warmup_learning_rate: float = 0.0
    min_learning_rate: float = 1e-6
    cooldown_epochs: float = 0.0
    loss: str = "bce"
    bce_target_threshold: float = 0.2
    label_smoothing: float = 0.0
    randaugment: str = "rand-m7-mstd0.5-inc1"
    crop_padding: int = 4
    resized_crop_scale: float = 0.0
    resized_crop_ratio: float = 0.75
    horizontal_flip: float = 0.5
    resolution: int = 0
    mixup: float = 0.1
    cutmix: float = 1.0
    mixup_prob: float = 1.0
    switch_prob: float = 0.5
    erase_prob: float = 0.0
    erase_mode: str = "pixel"
    erase_count: int = 1
    drop_path: float = 0.05
    augmentation_repeats: int = 1
    precision: str = "auto"
    channels_last: bool = True
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if field.type in ("int", "float") and not (is_number and math.isfinite(value)):
                raise _refusal(field.name, value, "a finite number")
            if field.type == "int" and not isinstance(value, int):
                raise _refusal(field.name, value, "a whole number")
            if field.type == "str" and not isinstance(value, str):
                raise _refusal(field.name, value, "text")
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("loss", LOSSES),
            ("erase_mode", ERASE_MODES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                raise _refusal(name, getattr(self, name), f"one of {', '.join(choices)}")
        for name in ("learning_rate", "batch_size", "augmentation_repeats", "erase_count"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in (
            "weight_decay",
            "max_grad_norm",
            "warmup_epochs",
            "warmup_learning_rate",
            "min_learning_rate",
            "cooldown_epochs",
            "crop_padding",
            "resolution",
            "mixup",
            "cutmix",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in (
            "resized_crop_scale",
            "horizontal_flip",
            "mixup_prob",
            "switch_prob",
            "erase_prob",
            "warmup_max_fraction",
            "decay_fraction",
        ):
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in ("momentum", "bce_target_threshold", "label_smoothing", "drop_path", "ema_decay"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self._require("resized_crop_ratio", 0 < self.resized_crop_ratio <= 1, "above 0 and at most 1")
        for name in ("min_learning_rate", "warmup_learning_rate"):
            self._require(name, getattr(self, name) <= self.learning_rate, "at most learning_rate")
        self.randaugment_settings()

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise _refusal(name, getattr(self, name), rule)

    def with_choices(self, config: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a configuration: this one, but for what the configuration chooses itself as `recipe.<setting>`.

        A choice that is inactive, and so absent, stays as it is here.
        """
        return dataclasses.replace(self, **_choices(config))

    def randaugment_settings(self) -> RandAugmentSettings | None:
        """Return the parsed description of RandAugment, None where it is off."""
        return RandAugmentSettings.parse(self.randaugment) if self.randaugment else None

    def warmup_length(self, schedule_epochs: float) -> float:
        """Return the epochs of warm-up: `warmup_epochs`, at most `warmup_max_fraction` of the schedule."""
        return min(self.warmup_epochs, self.warmup_max_fraction * schedule_epochs)

    def learning_rate_at(self, epoch: float, schedule_epochs: float, *, end: float | None = None) -> float:
        """Return the learning rate of a step.

        Args:
            epoch: Epochs done before the step, a fraction between epochs.
            schedule_epochs: Length of the whole schedule; beyond it the learning rate stays.
            end: Epochs at which this training ends, and the decay of `warmup_stable_decay` with it; None is
                `schedule_epochs`.
        """
        warmup = self.warmup_length(schedule_epochs)
        span = self.learning_rate - self.min_learning_rate
        start = max(0.0, self.warmup_learning_rate - self.min_learning_rate) / span if span else 1.0
        warm = start + (1 - start) * epoch / warmup if epoch < warmup else 1.0
        if self.schedule == "warmup_stable_decay":
            end = schedule_epochs if end is None else end
            decay = self.decay_fraction * end
            progress = min(1.0, max(0.0, (epoch - (end - decay)) / decay)) if decay else 0.0
            return self.min_learning_rate + span * min(warm, 1 - math.sqrt(progress))
        if epoch < warmup or self.schedule == "constant":
            return self.min_learning_rate + span * warm
        decay = schedule_epochs - warmup - self.cooldown_epochs
        progress = min(1.0, (epoch - warmup) / decay) if decay > 0 else 1.0
        return self.min_learning_rate + span * 0.5 * (1 + math.cos(math.pi * progress))


def without_choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of the network, without what it chooses of the recipe."""
    return {name: value for name, value in config.items() if not name.startswith(CHOICE_PREFIX)}


def _choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the recipe that a configuration chooses, by their names in the recipe."""
    return {name.removeprefix(CHOICE_PREFIX): value for name, value in config.items() if name.startswith(CHOICE_PREFIX)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugmentSettings:
    """RandAugment (Cubuk et al., 2020) as timm describes it: `rand-m7-mstd0.5-inc1`.

    Args:
        magnitude: Mean strength of an operation, 0 to `magnitude_max` (`m`).
        magnitude_std: Standard deviation of the strength (`mstd`); infinite draws uniformly from 0 to `magnitude`.
        magnitude_max: Largest strength that is drawn (`mmax`).
        num_layers: Operations per image (`n`).
        probability: Probability with which each chosen operation is applied (`p`).
        is_increasing: Whether operations grow stronger with the magnitude (`inc`).
    """

    magnitude: float = 10.0
    magnitude_std: float = 0.0
    magnitude_max: float = 10.0
    num_layers: int = 2
    probability: float = 0.5
    is_increasing: bool = False

    @classmethod
    def parse(cls, description: str) -> RandAugmentSettings:
        """Return the settings that timm reads in a description such as `rand-m7-mstd0.5-inc1`, its sections in any order.

        Raises:
            NaxcliError: If a section is unknown. timm's other sets of operations (`t...`) are not offered.
        """
        head, *sections = description.split("-")
        if head != "rand":
            raise _refusal("randaugment", description, "like rand-m7-mstd0.5-inc1, or empty")
        found: dict[str, float] = {}
        for section in sections:
            match = re.fullmatch(r"(mstd|mmax|inc|m|n|p)(\d+(?:\.\d+)?|inf)", section)
            if match is None:
                raise _refusal("randaugment", description, "made of m, mstd, mmax, n, p, inc, each with a number")
            found[match[1]] = float(match[2])
        std = found.get("mstd", 0.0)
        settings = cls(
            magnitude=found.get("m", 10.0),
            magnitude_std=math.inf if std > 100 else std,
            magnitude_max=found.get("mmax", 0.0) or 10.0,
            num_layers=int(found.get("n", 2)),
            probability=found.get("p", 0.5),
            is_increasing=bool(found.get("inc", 0)),
        )
        if not (0 <= settings.probability <= 1 and settings.num_layers >= 1):
            raise _refusal("randaugment", description, "with p between 0 and 1 and n at least 1")
        return settings


def _refusal(name: str, value: object, rule: str) -> NaxcliError:
    return NaxcliError(
        f"recipe.{name} is {value!r}",
        why=f"it must be {rule}",
        hint=f"--set recipe.{name}=VALUE, or [recipe] in a file",
    )
