"""The format `weights`: safetensors, config.json and a model card, laid out as the Hugging Face hub and timm expect them.

With the same network exported as `python` and imported, `timm.create_model("local-dir:FOLDER", pretrained=True)` loads the folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from naxcli.export.bundle import Bundle, checked_difference, load_into, portable_state, read_weights
from naxcli.export.config import describe, read_config
from naxcli.export.provenance import network_facts, network_title
from naxcli.export.python import pretrained_settings
from naxcli.export.request import ExportRequest, Written
from naxcli.measure.timing import torch_runtime
from naxcli.search_space.networks import build_network

TOLERANCE = 1e-5


def write(request: ExportRequest, bundle: Bundle, folder: Path) -> Written:
    """Write the folder, build the network again from what it says, and return the largest difference."""
    bundle = bundle.with_speed(bundle.network, runtime=torch_runtime())
    weights = folder / "model.safetensors"
    # timm's loader asks for the framework in the metadata, as transformers' does.
    weights.write_bytes(safetensors.torch.save(portable_state(bundle.network), metadata={"format": "pt"}))
    config = _hub_config(request, bundle)
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_model_card(request, bundle), encoding="utf-8")

    saved = read_config(folder, space=request.space)
    assert saved.variant and saved.num_classes and saved.in_channels and saved.image_size and saved.width
    network = build_network(
        request.space,
        saved.config,
        variant=saved.variant,
        num_classes=saved.num_classes,
        in_channels=saved.in_channels,
        image_size=saved.image_size,
        width=saved.width,
    )
    load_into(network, read_weights(weights), source=weights)
    with torch.no_grad():
        outputs = network.eval()(bundle.images)
    difference = checked_difference(outputs, bundle.outputs, what="the network", tolerance=TOLERANCE)
    return bundle.written(difference)


def _hub_config(request: ExportRequest, bundle: Bundle) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architecture": request.network_name,
        "num_classes": request.num_classes,
        "pretrained_cfg": pretrained_settings(request, bundle.network),
        "naxcli": describe(request, bundle),
    }
    if num_features := getattr(bundle.network, "num_features", None):
        config["num_features"] = num_features
    return config


def _model_card(request: ExportRequest, bundle: Bundle) -> str:
    name = request.network_name
    facts = network_facts(
        request,
        num_params=bundle.num_params,
        macs=bundle.macs,
        inference_counts=bundle.inference_counts,
        speed=bundle.speed,
    )
    mean, std = request.normalization
    table = "\n".join(f"| {_cell(fact)} | {_cell(text)} |" for fact, text in facts.items())
    config = "\n".join(f"| {_cell(key)} | {_cell(str(value))} |" for key, value in request.config.items())
    channels, height, width = request.input_shape
    return f"""\
---
tags:
- image-classification
- timm
- neural-architecture-search
library_name: timm
---
# {name}

{network_title(request).capitalize()}.

| | |
|---|---|
{table}

## Configuration

| hyperparameter | value |
|---|---|
{config}

## Use

Images of {channels} x {height} x {width} in [0, 1], minus the mean {mean}, divided by the standard deviation {std}, per channel.
With `{name}.py`, which `naxcli export --format python` writes for the same network:

```python
import timm, {name}

network = timm.create_model("local-dir:path/to/this/folder", pretrained=True)
```

Without it, `naxcli` builds the network again from `config.json` of this folder.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
