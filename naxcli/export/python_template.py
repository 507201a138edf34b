"""The text of an exported Python file: header, the space's network code, and the functions that make it usable."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from naxcli.settings.recipe import Recipe

NUM_GPUS = 4
"""GPUs of the training on ImageNet in a file's header, among which the recipe's batch is shared out."""

TIMM_DEFAULTS = {
    "momentum": ("--momentum", 0.9),
    "cooldown_epochs": ("--cooldown-epochs", 0.0),
    "horizontal_flip": ("--hflip", 0.5),
    "mixup_prob": ("--mixup-prob", 1.0),
    "switch_prob": ("--mixup-switch-prob", 0.5),
}
"""Settings of the recipe with a flag of timm's train.py, which a header names only where they are not the flag's default."""

TIMM_CROP_SCALE, TIMM_CROP_RATIO = 0.08, 0.75
"""Smallest area and aspect ratio of timm's random-resized crops."""

HEADER = Template("""\
$name: $title, exported by naxcli $version.

$facts

Use
    import timm, $name
    network = timm.create_model("$name", num_classes=10)  # random weights
    network = $name.load_weights()  # the weights of $name.safetensors beside this file
$timm_methods
Train on ImageNet with the paper's recipe$choices, on $num_gpus GPUs, by timm's train.py (of its repository, not of its package)
    torchrun --nproc-per-node=$num_gpus $name.py path/to/train.py --data-dir path/to/imagenet --model $name \\
        $data_flags \\
        $optimizer_flags \\
        $loss_flags \\
        $augmentation_flags --amp --channels-last
$space_docstring""")

FILE = Template('''\
r"""$header"""

$imports

# Loaded by importlib alone, this file has no place in sys.modules, where dataclasses and timm look it up: it takes one meanwhile.
_STAND_IN = None if __name__ in sys.modules else types.ModuleType(__name__)
if _STAND_IN is not None:
    vars(_STAND_IN).update(globals())
    sys.modules[__name__] = _STAND_IN


$definitions


CONFIG = {
$config
}
$recipe_choices

def create($parameters) -> nn.Module:
    """Return the network with random weights: (batch, in_channels, n, n) -> (batch, num_classes)."""
    return $builder(CONFIG, $arguments)


def load_weights(path: str | Path | None = None) -> nn.Module:
    """Return the network in evaluation mode with the weights of a file.

    Args:
        path: safetensors, or a torch checkpoint of tensors, for $num_classes classes and $in_channels channels; None takes
            $name.safetensors beside this file.
    """
    network = create()
    timm.models.load_checkpoint(network, str(path or Path(__file__).with_name("$name.safetensors")))
    return network.eval()


default_cfgs = sys.modules[__name__].default_cfgs = timm.models.generate_default_cfgs(
    {
        "$name": {
$pretrained_cfg
        }
    }
)


def _create_for_timm(
    num_classes: int = $num_classes,
    in_chans: int = $in_channels,
    global_pool: str = "avg",
    drop_path_rate: float = 0.0,
    drop_rate: float = 0.0,$image_size_parameter
) -> nn.Module:
    """Return the network from timm's arguments."""
    if drop_rate:
        raise ValueError("this network has no dropout before its classifier: drop_rate must be 0")
    network = create(num_classes=num_classes, in_channels=in_chans$image_size_argument)
    if global_pool != "avg":
        network.reset_classifier(num_classes, global_pool)
    drop_paths = [module for module in network.modules() if isinstance(module, timm.layers.DropPath)]
    if drop_path_rate and not drop_paths:
        raise ValueError("this network has no stochastic depth: drop_path_rate must be 0")
    for module in drop_paths:
        module.drop_prob = drop_path_rate * getattr(module, "rate_scale", 1.0)
    return network


@timm.models.register_model
def $name(pretrained: bool = False, feature_cfg: dict[str, object] | None = None, **kwargs: object) -> nn.Module:
    """Return the network for `timm.create_model("$name", ...)`."""
    return timm.models.build_model_with_cfg(
        $build_arguments
    )


if _STAND_IN is not None:
    del sys.modules[__name__]

if __name__ == "__main__":
    # Runs a script, such as timm's train.py, that then knows this network.
    import runpy

    sys.argv = sys.argv[1:]
    if not sys.argv:
        sys.exit("usage: python $name.py SCRIPT ARGUMENTS...")
    runpy.run_path(sys.argv[0], run_name="__main__")
''')


def training_flags(recipe: Recipe, *, image_size: int, test_crop: float, epochs: int) -> dict[str, str]:
    """Return what the header says of a training on ImageNet: the recipe as flags of timm's train.py.

    Args:
        recipe: How to train; its schedule has to be one of timm's, such as `cosine`.
        image_size: Side of training and test images in pixels.
        test_crop: Share of the side of test images that their middle square keeps.
        epochs: Length of the training, without its cool-down.
    """
    is_bce = recipe.loss == "bce"
    return {
        "num_gpus": str(NUM_GPUS),
        "data_flags": (
            f"--input-size 3 {image_size} {image_size} --num-classes 1000 --crop-pct {test_crop:g} --epochs {epochs} "
            f"-b {recipe.batch_size // NUM_GPUS}"
        ),
        "optimizer_flags": (
            f"--opt {recipe.optimizer} --lr {_scientific(recipe.learning_rate)} --weight-decay {recipe.weight_decay:g} "
            f"--sched {recipe.schedule} --warmup-epochs {recipe.warmup_epochs:g} "
            f"--warmup-lr {_scientific(max(recipe.warmup_learning_rate, recipe.min_learning_rate))} "
            f"--min-lr {_scientific(recipe.min_learning_rate)}"
        ),
        "loss_flags": (
            (f"--bce-loss --bce-target-thresh {recipe.bce_target_threshold:g} " if is_bce else "")
            + f"--smoothing {recipe.label_smoothing:g} --drop-path {recipe.drop_path:g}"
            + (f" --aa {recipe.randaugment}" if recipe.randaugment else "")
        ),
        "augmentation_flags": (
            f"--mixup {recipe.mixup} --cutmix {recipe.cutmix} --reprob {recipe.erase_prob:g} --aug-repeats {recipe.augmentation_repeats}"
            + "".join(_rarer_flags(recipe))
        ),
    }


def _rarer_flags(recipe: Recipe) -> Iterator[str]:
    """Yield the flags of what timm's train.py does not do by itself as the recipe says."""
    for name, (flag, default) in TIMM_DEFAULTS.items():
        if getattr(recipe, name) != default:
            yield f" {flag} {getattr(recipe, name):g}"
    if (scale := recipe.resized_crop_scale or 1.0) != TIMM_CROP_SCALE:
        yield f" --scale {scale:g} 1.0"
    if recipe.resized_crop_ratio != TIMM_CROP_RATIO:
        yield f" --ratio {recipe.resized_crop_ratio:g} {1 / recipe.resized_crop_ratio:g}"
    if recipe.erase_prob:
        yield f" --remode {recipe.erase_mode} --recount {recipe.erase_count}"
    if recipe.optimizer != "lamb" and recipe.max_grad_norm:  # timm's LAMB clips by itself
        yield f" --clip-grad {recipe.max_grad_norm:g}"
    if recipe.ema_decay:
        yield f" --model-ema --model-ema-decay {recipe.ema_decay:g}"


def _scientific(number: float) -> str:
    """Return a number as `1.4e-3`."""
    mantissa, exponent = f"{number:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


NAMES = frozenset(
    {"CONFIG", "RECIPE_CHOICES", "create", "load_weights", "default_cfgs", "_create_for_timm", "_STAND_IN"}
)
"""What the template itself binds."""

IMPORTS = {
    "sys": "import sys",
    "types": "import types",
    "Path": "from pathlib import Path",
    "timm": "import timm",
    "nn": "from torch import nn",
}
"""What the template itself needs."""
