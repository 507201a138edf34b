"""Bundle: the network to export, its weights, counts and outputs; and the comparison that every format must pass."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from naxcli.errors import ExitCode, NaxcliError
from naxcli.export.request import ExportRequest
from naxcli.measure import count_flops, num_params
from naxcli.networks import build_network

NUM_CHECK_IMAGES = 3  # not 2, the batch that programs are traced with: a batch frozen there must show


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Everything an exporter needs.

    Args:
        request: what the user asked for.
        network: in evaluation mode, float32, on the CPU, with the request's weights.
        num_params: of the network.
        flops: multiply-adds of one image forward.
        images: random, (NUM_CHECK_IMAGES, channels, height, width).
        outputs: of the network for these images.
    """

    request: ExportRequest
    network: nn.Module
    num_params: int
    flops: int
    images: Tensor
    outputs: Tensor


def make_bundle(request: ExportRequest) -> Bundle:
    """Return the network of a request with its weights loaded, counted, and run once on random images.

    Raises:
        NaxcliError: if the weights are missing, not plain tensors, or of another network, or give no finite output.
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
    return Bundle(
        request=request,
        network=network,
        num_params=num_params(network),
        flops=count_flops(network, request.input_shape),
        images=images,
        outputs=outputs,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a safetensors file or a checkpoint; nothing but tensors and plain data is unpickled.

    Of a training checkpoint the averaged weights are taken where the training kept them.

    Raises:
        NaxcliError: if there is no such file, or it holds anything else.
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
    for key in ("average", "network", "model", "state_dict"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping) or not all(isinstance(tensor, Tensor) for tensor in checkpoint.values()):
        raise NaxcliError(
            f"{path} holds no weights", why="expected named tensors, or a checkpoint with such under 'model'"
        )
    return {str(name): tensor for name, tensor in checkpoint.items()}


def load_into(network: nn.Module, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Load weights into a network.

    Raises:
        NaxcliError: if names or shapes are those of another network.
    """
    expected = network.state_dict()
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
            hint="name the configuration, variant, width and classes that they were trained with",
        )
    network.load_state_dict(weights)


def portable_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict as tensors that own their memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}


def checked_difference(actual: Tensor, expected: Tensor, *, what: str, tolerance: float) -> float:
    """Return the largest difference, as a share of the largest expected output where that is above 1.

    Raises:
        NaxcliError: if the shapes differ, or the difference is above the tolerance.
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
