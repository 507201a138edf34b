"""The format `python`: one readable file that needs torch and timm only, registers the network with timm, and its weights.

The network code is the space's own, cut out with `slice_source`; around it stands `python_template`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from timm.models import is_model
from torch import Tensor, nn

from naxcli import __version__
from naxcli.errors import ExitCode, NaxcliError
from naxcli.export import python_template
from naxcli.export.bundle import Bundle, checked_difference, portable_state
from naxcli.export.provenance import network_facts, network_title
from naxcli.export.request import ExportRequest, Written
from naxcli.export.source_slice import SourceSlice, slice_source
from naxcli.measure.timing import torch_runtime
from naxcli.search_space.contract import Variant
from naxcli.search_space.networks import REDUCED
from naxcli.settings.recipe import FULL_TRAINING_EPOCHS, IMAGENET_RECIPE, Recipe, without_choices

TOLERANCE = 1e-5
_TIME_LIMIT_SECONDS = 600
_LINE_LENGTH = 120

# Runs in a process of its own, in which naxcli cannot be imported.
_LOAD_BACK = """\
import sys
sys.modules["naxcli"] = None
import importlib, timm, torch
from safetensors.torch import load_file, save_file
folder, name, images_file, outputs_file = sys.argv[1:]
sys.path.insert(0, folder)
images = load_file(images_file)["images"]
with torch.no_grad():
    module = importlib.import_module(name)
    network = module.load_weights()
    created = timm.create_model(name)
    created.load_state_dict(network.state_dict())
    save_file({"load_weights": network(images), "create_model": created.eval()(images)}, outputs_file)
"""


def check(request: ExportRequest) -> None:
    """Raise NaxcliError if the space's network code does not stand alone, or the name is taken."""
    _refuse_taken_names(request.network_name, _slice(request))


def write(request: ExportRequest, bundle: Bundle, folder: Path) -> Written:
    """Write NAME.py and NAME.safetensors, run them in a process without naxcli, and return the largest difference.

    Raises:
        NaxcliError: If the file does not run without naxcli, or its output differs.
    """
    name = request.network_name
    code = folder / f"{name}.py"
    code.write_text(render(request, bundle), encoding="utf-8")
    # safetensors' own writer reports a full disk as an error of its own; this one reports it as every other file does.
    (folder / f"{name}.safetensors").write_bytes(safetensors.torch.save(portable_state(bundle.network)))
    difference = _load_back(name, bundle, folder)
    bundle = bundle.with_speed(bundle.network, runtime=torch_runtime())
    code.write_text(render(request, bundle), encoding="utf-8")  # another header
    return bundle.written(difference)


def render(request: ExportRequest, bundle: Bundle) -> str:
    """Return the text of the exported file.

    Raises:
        NaxcliError: If the space's network code does not stand alone.
    """
    name, is_reduced = request.network_name, request.variant == REDUCED
    source = _slice(request)
    parameters: dict[str, int | float] = {"num_classes": request.num_classes, "in_channels": request.in_channels}
    if is_reduced:
        parameters["image_size"] = request.image_size
    parameters["width"] = float(request.width)
    build_arguments = ["_create_for_timm", f'"{name}"', "pretrained"]
    if feature_info := getattr(bundle.network, "feature_info", ()):
        indices = tuple(range(len(feature_info)))
        # timm looks for the maps' modules at the top of a network, or, flattened, inside of its sequences, but not at both.
        is_nested = any("." in str(info["module"]) for info in feature_info)
        flattened = '"flatten_sequential": True, ' if is_nested else ""
        build_arguments.append(f'feature_cfg={{"out_indices": {indices}, {flattened}**(feature_cfg or {{}})}}')
    else:
        build_arguments.append("feature_cfg=feature_cfg")
    pretrained = _literals(pretrained_settings(request, bundle.network))
    if request.weights is not None:
        pretrained = {"file": f'str(Path(__file__).with_name("{name}.safetensors"))', **pretrained}
    return python_template.FILE.substitute(
        header=_header(request, bundle, source),
        imports=_imports(source),
        definitions=source.definitions,
        config=_entries(_literals(without_choices(request.config)), indent=4),
        recipe_choices=_recipe_choices(request),
        parameters="*, " + ", ".join(f"{key}: {type(value).__name__} = {value!r}" for key, value in parameters.items()),
        builder=_builder_name(request),
        arguments=", ".join(f"{key}={key}" for key in parameters),
        name=name,
        num_classes=request.num_classes,
        in_channels=request.in_channels,
        pretrained_cfg=_entries(pretrained, indent=12),
        image_size_parameter=f"\n    img_size: int = {request.image_size}," if is_reduced else "",
        image_size_argument=", image_size=img_size" if is_reduced else "",
        build_arguments=",\n        ".join([*build_arguments, "**kwargs,"]),
    )


@torch.no_grad()
def pretrained_settings(request: ExportRequest, network: nn.Module) -> dict[str, Any]:
    """Return timm's description of what the weights expect: input, normalization, and which layers to adapt.

    Args:
        request: What is exported.
        network: Network in evaluation mode, on the CPU.
    """
    mean, std = request.normalization
    classifiers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == request.num_classes
    ]
    channels, height, width = request.input_shape
    own_size, larger = (torch.zeros(1, channels, height + more, width + more) for more in (0, 32))
    convolutions = _first_convolutions(network, own_size)
    features: Any = getattr(network, "forward_features", None)
    map_shape = () if features is None else tuple(features(own_size).shape)
    settings = {
        "num_classes": request.num_classes,
        "input_size": request.input_shape,
        "fixed_input_size": None if _runs_on(network, larger) else True,
        "pool_size": map_shape[2:] if len(map_shape) == 4 else None,
        "crop_pct": 1.0 if request.variant == REDUCED else request.space.variant(request.variant).test_crop,
        "interpolation": "bicubic",
        "mean": mean,
        "std": std,
        # Several where the first block has branches, as MobileOne's: timm adapts them all to other channels.
        "first_conv": convolutions if len(convolutions) > 1 else next(iter(convolutions), None),
        "classifier": classifiers[-1] if classifiers else None,
        "paper_name": request.space.paper or None,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _first_convolutions(network: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Return the names of the convolutions that read the images themselves, or of the first for their channels where none does."""
    convolutions = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == images.shape[1]
    }
    found: list[str] = []

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: found.append(name) if inputs[0] is images else None

    hooks = [module.register_forward_pre_hook(remember(name)) for name, module in convolutions.items()]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found) or tuple(convolutions)[:1]


def _runs_on(network: nn.Module, images: Tensor) -> bool:
    try:
        network(images)
    except (RuntimeError, ValueError, AssertionError):  # how layers made for one size refuse another
        return False
    return True


def _slice(request: ExportRequest) -> SourceSlice:
    name = _builder_name(request)
    # A space may take its networks from another one, in whose file their code is.
    return slice_source(Path(sys.modules[_builder(request).__module__].__file__ or ""), name)


def _builder(request: ExportRequest) -> Any:
    return request.space.build if request.variant == REDUCED else request.space.variant(request.variant).build


def _builder_name(request: ExportRequest) -> str:
    if request.space.is_of_encodings:
        raise NaxcliError(
            f"the networks of space {request.space.name!r} cannot be written as Python",
            why="its builder takes an encoding of the list, which the file would not hold",
            hint="choose another --format, or write the space with configspace= and a build of the configuration",
        )
    name = getattr(_builder(request), "__name__", "")
    if not name.isidentifier():
        raise NaxcliError(
            f"the builder of variant {request.variant} of space {request.space.name!r} has no name",
            why="a lambda or partial function cannot be copied into a file",
            hint="write it with def at the top level of the space file",
        )
    return name


def _refuse_taken_names(name: str, source: SourceSlice) -> None:
    if name in source.names | python_template.NAMES | set(python_template.IMPORTS):
        raise NaxcliError(f"the name {name!r} is used in the network's code already", hint="choose another with --name")
    if is_model(name):
        raise NaxcliError(f"timm has a network named {name!r} already", hint="choose another with --name")
    if clash := sorted(source.names & python_template.NAMES):
        raise NaxcliError(
            f"the space file uses names that an exported file needs itself: {', '.join(clash)}",
            hint="rename them in the space file",
        )


def _header(request: ExportRequest, bundle: Bundle, source: SourceSlice) -> str:
    name = request.network_name
    facts = network_facts(
        request,
        num_params=bundle.num_params,
        macs=bundle.macs,
        inference_counts=bundle.inference_counts,
        speed=bundle.speed,
    )
    lines = [
        line
        for fact, text in facts.items()
        for line in textwrap.wrap(f"{fact}: {text}", _LINE_LENGTH, subsequent_indent="    ") or [""]
    ]
    methods = []
    if hasattr(bundle.network, "feature_info"):
        methods.append(f'    maps = timm.create_model("{name}", features_only=True)(images)')
    calls = {
        "forward_features": "network.forward_features(images)",
        "reset_classifier": "network.reset_classifier(10)",
        "set_grad_checkpointing": "network.set_grad_checkpointing()",
    }
    if present := [call for method, call in calls.items() if hasattr(bundle.network, method)]:
        methods.append(f"    {', '.join(present)}")
    if request.weights is not None:
        methods.append(f'    network = timm.create_model("{name}", pretrained=True, num_classes=10)  # to fine-tune')
    variant, recipe = _imagenet_training(request)
    image_size = variant.image_size_for(request.config) if request.variant == REDUCED else request.image_size
    text = python_template.HEADER.substitute(
        name=name,
        title=network_title(request),
        version=__version__,
        facts="\n".join(lines),
        choices=" and the configuration's own choices" if _recipe_choices(request) else "",
        timm_methods="".join(f"{line}\n" for line in methods),
        **python_template.training_flags(
            recipe, image_size=image_size, test_crop=variant.test_crop, epochs=FULL_TRAINING_EPOCHS
        ),
        space_docstring=f"\nFrom the file of the search space\n\n{source.docstring}\n" if source.docstring else "",
    )
    # The header is a raw string, in which nothing can be escaped.
    return text.replace('"""', "'''")


def _imagenet_training(request: ExportRequest) -> tuple[Variant, Recipe]:
    """Return the variant and the recipe of a training of the network on ImageNet."""
    if request.variant == REDUCED:
        # Whatever small images the reduced network was searched on, ImageNet's are those of any full-size network.
        assert request.space.build is not None
        variant = Variant(build=request.space.build)
    else:
        variant = request.space.variant(request.variant)
    return variant, Recipe(**{**IMAGENET_RECIPE, **variant.recipe}).with_choices(request.config)


def _recipe_choices(request: ExportRequest) -> str:
    """Return the constant that holds what the configuration chooses of the recipe, nothing where it chooses nothing."""
    network = without_choices(request.config)
    choices = {name: value for name, value in request.config.items() if name not in network}
    if not choices:
        return ""
    entries = _entries(_literals(choices), indent=4)
    return f"# How the network is trained, which its code does not need.\nRECIPE_CHOICES = {{\n{entries}\n}}\n"


def _imports(source: SourceSlice) -> str:
    lines = set(source.imports)
    lines |= {line for name, line in python_template.IMPORTS.items() if name not in source.names}

    def key(line: str) -> tuple[int, bool, str]:
        module = line.split()[1]
        root = module.split(".")[0]
        group = 0 if root == "__future__" else 1 if root in sys.stdlib_module_names else 2
        return group, line.startswith("from"), module.lower()

    ordered = sorted(lines, key=key)
    blocks = ["\n".join(line for line in ordered if key(line)[0] == group) for group in range(3)]
    return "\n\n".join(block for block in blocks if block)


def _literals(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _literal(value) for key, value in values.items()}


def _entries(values: Mapping[str, str], *, indent: int) -> str:
    """Return the entries of a dict whose values are expressions, one per line."""
    return "\n".join(f"{' ' * indent}{_literal(key)}: {value}," for key, value in values.items())


def _literal(value: Any) -> str:
    # JSON's strings are Python's, in the quotes that formatters like.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _load_back(name: str, bundle: Bundle, folder: Path) -> float:
    with tempfile.TemporaryDirectory() as exchange:
        images, outputs = Path(exchange) / "images.safetensors", Path(exchange) / "outputs.safetensors"
        images.write_bytes(safetensors.torch.save({"images": bundle.images}))
        finished = subprocess.run(
            [sys.executable, "-c", _LOAD_BACK, str(folder), name, str(images), str(outputs)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIME_LIMIT_SECONDS,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        if finished.returncode != 0:
            last_line = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise NaxcliError(
                "the network was not exported: the file does not run without naxcli",
                why=last_line,
                hint="the space file must define, or import from installed libraries, all that its network needs",
                exit_code=ExitCode.FAILED,
            )
        loaded = safetensors.torch.load_file(outputs)
    return max(
        checked_difference(output, bundle.outputs, what=f"the network ({way})", tolerance=TOLERANCE)
        for way, output in loaded.items()
    )
