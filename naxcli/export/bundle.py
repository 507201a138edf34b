"""Bundle: the network to export, its weights, counts and outputs; and the comparison that every format must pass."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from naxcli.errors import ExitCode, NaxcliError
from naxcli.export.inference import inference_form
from naxcli.export.request import ExportRequest, Written
from naxcli.measure.counts import count_macs, has_branches, num_params, single_branch_form
from naxcli.measure.timing import UnstableError, measure_speed
from naxcli.search_space.networks import build_network

NUM_CHECK_IMAGES = 3  # not 2, the batch that programs are traced with: a batch frozen there must show


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Everything an exporter needs.

    Args:
        request: What the user asked for.
        network: Network in evaluation mode, float32, on the CPU, with the request's weights; folded where the request wants that.
        num_params: Number of parameters of the network.
        macs: Multiply-adds of one forward pass of one image.
        images: Random images of shape (NUM_CHECK_IMAGES, channels, height, width).
        outputs: Outputs of the network for these images, before folding.
        inference_counts: Parameters and multiply-adds of the form for inference, where that has fewer branches than the network.
        speed: Measured speed of the network in the format's runtime; None where it was not asked for or could not be measured.
        why_no_speed: Why the speed could not be measured.
    """

    request: ExportRequest
    network: nn.Module
    num_params: int
    macs: int
    images: Tensor
    outputs: Tensor
    inference_counts: tuple[int, int] | None = None
    speed: Mapping[str, Any] | None = None
    why_no_speed: str = ""

    def with_speed(self, forward: Callable[[Tensor], Any], *, runtime: str) -> Bundle:
        """Return the bundle with the measured speed of a form of the network, or as it is where that is not asked for."""
        if not self.request.bench:
            return self
        try:
            return dataclasses.replace(self, speed=measure_speed(forward, self.request.input_shape, runtime=runtime))
        except UnstableError as error:
            return dataclasses.replace(self, why_no_speed=str(error))

    def written(self, max_difference: float) -> Written:
        """Return what there is to say of a finished export of this network."""
        return Written(
            num_params=self.num_params,
            macs=self.macs,
            max_difference=max_difference,
            speed=self.speed,
            why_no_speed=self.why_no_speed,
        )


def make_bundle(request: ExportRequest) -> Bundle:
    """Return the network of a request with its weights loaded, counted, and run once on random images.

    Raises:
        NaxcliError: If the weights are missing, not plain tensors, or of another network, or give no finite output; or if
            the network cannot be folded where the request wants that.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(
            request.space,
            request.config,
            variant=request.variant,
            num_classes=request.num_classes,
            in_channels=request.in_channels,
            image_size=request.image_size,
            width=request.width,
        )
        images = torch.randn(NUM_CHECK_IMAGES, *request.input_shape)
    if request.weights is not None:
        load_into(network, read_weights(request.weights), source=request.weights)
    network.eval().float().requires_grad_(False)
    with torch.no_grad():
        outputs = network(images)
    if not torch.isfinite(outputs).all():
        raise NaxcliError(
            "the network's output is not finite",
            why="its weights hold NaN or infinity, or let the activations overflow",
            exit_code=ExitCode.FAILED,
        )
    inference_counts = None
    if request.fold:
        network = inference_form(network)
    elif has_branches(network):
        single = single_branch_form(network)
        inference_counts = num_params(single), count_macs(single, request.input_shape)
    return Bundle(
        request=request,
        network=network,
        num_params=num_params(network),
        macs=count_macs(network, request.input_shape),
        images=images,
        outputs=outputs,
        inference_counts=inference_counts,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a safetensors file or a checkpoint; nothing but tensors and plain data is unpickled.

    Of a training checkpoint those weights are taken that were validated: after the decay where that is apart, or averaged.

    Raises:
        NaxcliError: If there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise NaxcliError(f"there are no weights at {path}", hint="name a safetensors file or a checkpoint")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise NaxcliError(f"{path} is not a safetensors file, or is damaged", why=str(error)) from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise NaxcliError(
            f"{path} is refused: it is not a checkpoint of plain tensors, or is damaged",
            why=str(error).split("\n", maxsplit=1)[0],
            hint="export its tensors to safetensors with the program that made it",
        ) from error
    for key in ("evaluated", "average", "network", "model", "state_dict"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping) or not all(isinstance(tensor, Tensor) for tensor in checkpoint.values()):
        raise NaxcliError(
            f"{path} holds no weights", why="expected named tensors, or a checkpoint with such under 'model'"
        )
    return {str(name): tensor for name, tensor in checkpoint.items()}


def load_into(network: nn.Module, weights: Mapping[str, Tensor], *, source: Path, new_classifier: bool = False) -> str:
    """Load weights into a network, and return the name of the layer that keeps its own, if any.

    Args:
        network: Network to load into.
        weights: Weights by name.
        source: File that the weights come from, for errors.
        new_classifier: Whether a last linear layer for another number of classes keeps its own weights.

    Raises:
        NaxcliError: If names or shapes are those of another network.
    """
    expected = network.state_dict()
    kept = _other_classifier(network, weights) if new_classifier else ""
    if kept:
        weights = {name: expected[name] if name.startswith(f"{kept}.") else tensor for name, tensor in weights.items()}
    differences = [f"{name} is missing" for name in expected if name not in weights]
    differences += [f"{name} is not in this network" for name in weights if name not in expected]
    differences += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if differences:
        others = f" and {len(differences) - 3} other differences" if len(differences) > 3 else ""
        raise NaxcliError(
            f"the weights in {source} belong to another network",
            why="; ".join(differences[:3]) + others,
            hint="name the configuration, variant, width and classes that they were trained with, or train --from-scratch",
        )
    network.load_state_dict(weights)
    return kept


def _other_classifier(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Return the name of the last linear layer where the weights have another number of classes for it, else an empty name."""
    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        return ""
    name, module = linear[-1]
    loaded = weights.get(f"{name}.weight")
    if loaded is None or loaded.ndim != 2 or loaded.shape[1] != module.in_features:
        return ""
    return name if loaded.shape[0] != module.out_features else ""


def portable_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict as tensors that own their memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}


def checked_difference(actual: Tensor, expected: Tensor, *, what: str, tolerance: float) -> float:
    """Return the largest difference, as a share of the largest expected output where that is above 1.

    Raises:
        NaxcliError: If the shapes differ, or the difference is above the tolerance.
    """
    if actual.shape != expected.shape:
        raise NaxcliError(
            f"{what} was not exported: loaded back, its output is {tuple(actual.shape)}, not {tuple(expected.shape)}",
            exit_code=ExitCode.FAILED,
        )
    difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    # Written so that NaN fails too.
    if not difference <= tolerance:
        raise NaxcliError(
            f"{what} was not exported: loaded back, its output differs by {difference:.2g}",
            why=f"at most {tolerance:g} is accepted on random images in float32",
            exit_code=ExitCode.FAILED,
        )
    return difference
