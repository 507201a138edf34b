"""The NEXcepTion search space together with its training: each configuration says how it is trained, too.

The networks are those of `nexception`; what is added are hyperparameters named `recipe.<setting>`, which take the place of that
setting of the run's recipe for the configuration's own trials. Ranges lie around the paper's values, which are the defaults.

Hyperparameters of the recipe
    recipe.learning_rate, recipe.weight_decay   of LAMB, on a logarithmic scale
    recipe.loss                  bce: one binary problem per class, as the paper; cross_entropy
    recipe.bce_target_threshold  only with bce: above it mixed targets count as 1; 0 keeps them soft
    recipe.label_smoothing       only with cross_entropy
    recipe.randaugment           none, the paper's magnitude of 7, or 9
    recipe.mixup, recipe.cutmix  alphas of their Beta distributions; 0 does without
    recipe.drop_path             rate of stochastic depth
"""

import dataclasses

from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from naxcli import load_space

NEXCEPTION = load_space("nexception")

PAPER: dict[str, str | int | float | bool] = {
    "recipe.learning_rate": 2e-3,
    "recipe.weight_decay": 0.02,
    "recipe.loss": "bce",
    "recipe.bce_target_threshold": 0.2,
    "recipe.randaugment": "rand-m7-mstd0.5-inc1",
    "recipe.mixup": 0.1,
    "recipe.cutmix": 1.0,
    "recipe.drop_path": 0.05,
}
OPTIMIZATION = (
    "recipe.learning_rate",
    "recipe.weight_decay",
    "recipe.loss",
    "recipe.bce_target_threshold",
    "recipe.label_smoothing",
)
REGULARIZATION = ("recipe.randaugment", "recipe.mixup", "recipe.cutmix", "recipe.drop_path")


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return the networks of nexception, each with the choices of its training; defaults are Xception's and the paper's recipe."""
    space = NEXCEPTION.configspace(seed)
    loss = Categorical("recipe.loss", ["bce", "cross_entropy"], default="bce")
    threshold = Categorical("recipe.bce_target_threshold", [0.0, 0.2], default=0.2, ordered=True)
    smoothing = Categorical("recipe.label_smoothing", [0.0, 0.1], default=0.1, ordered=True)
    space.add(
        Float("recipe.learning_rate", (5e-4, 8e-3), log=True, default=2e-3),
        Float("recipe.weight_decay", (2e-3, 0.2), log=True, default=0.02),
        loss,
        threshold,
        smoothing,
        EqualsCondition(threshold, loss, "bce"),
        EqualsCondition(smoothing, loss, "cross_entropy"),
        Categorical(
            "recipe.randaugment",
            ["", "rand-m7-mstd0.5-inc1", "rand-m9-mstd0.5-inc1"],
            default="rand-m7-mstd0.5-inc1",
            ordered=True,
        ),
        Categorical("recipe.mixup", [0.0, 0.1, 0.2, 0.8], default=0.1, ordered=True),
        Categorical("recipe.cutmix", [0.0, 1.0], default=1.0, ordered=True),
        Categorical("recipe.drop_path", [0.0, 0.05, 0.1, 0.2], default=0.05, ordered=True),
    )
    return space


SPACE = dataclasses.replace(
    NEXCEPTION,
    name="nexception_recipe",
    configspace=configspace,
    groups={**NEXCEPTION.groups, "optimization": OPTIMIZATION, "regularization": REGULARIZATION},
    reference={name: {**config, **PAPER} for name, config in NEXCEPTION.reference.items()},
    # Published networks are measured as those of nexception.
    variants={name: dataclasses.replace(NEXCEPTION.variant(name), reference="") for name in NEXCEPTION.variants},
    baselines={},
)
