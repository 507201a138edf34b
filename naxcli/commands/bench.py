"""Bench: images per second, memory and share of the roofline, for inference and for a training step.

The protocol is the paper's: batches of 256 images, mixed precision, channels last, mean ± standard deviation of 30 repetitions
(Shavit et al., ICPRAM 2023). A training step is that of `naxcli train`: forward, loss, backward, LAMB, on images that lie on the
device already. Every time is taken after warm-up and synchronised with the device.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naxcli.commands.network_sizes import network_sizes
from naxcli.commands.select import PROGRAM_SUFFIXES, select
from naxcli.errors import NaxcliError
from naxcli.export.read_program import Program, open_program
from naxcli.measure.counts import FLOPS_PER_MAC, count_macs, num_params
from naxcli.measure.devices import choose_device, device_name, synchronise
from naxcli.measure.memory import PeakMemory
from naxcli.measure.roofline import (
    TRAINING_FACTOR,
    Ceilings,
    least_seconds,
    list_operations,
    measure_ceilings,
)
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, load_space, shipped_spaces
from naxcli.search_space.networks import build_network
from naxcli.settings.recipe import PRECISIONS, Recipe
from naxcli.training.depthwise import speed_up_depthwise
from naxcli.training.kernels.switch import switch_off, switch_on
from naxcli.training.loop import set_drop_path
from naxcli.training.optimizer import build_optimizer
from naxcli.training.step import (
    EagerStep,
    autocast_dtype,
    choose_step,
    computed_precision,
    holds_update,
    set_float32_precision,
)

SCHEMA = "naxcli/bench/1"
GPU_BATCH, GPU_REPETITIONS = 256, 30  # the paper's
CPU_BATCH, CPU_REPETITIONS = 8, 5
TIMM_PREFIX = "timm:"
_SHORTEST_REPETITION = 0.05  # seconds; steps that are shorter are repeated within it
_NUM_WARMUP = {"cuda": 10, "cpu": 1}
_LEARNING_RATE = 1e-6  # leaves the weights about where they are: random targets teach nothing
_MANY_STEPS = 10**6  # a bench decides on CUDA graphs as a long training does


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """What a user asked for; None is left to the selection and the device.

    Args:
        configs: `SPACE:REFERENCE`, a configuration file, an export, `timm:NAME`; none of these and no run means the
            published networks of the shipped spaces.
        trusted: whether the user vouches for the torch programs among them.
        phases: any of `inference` and `training`.
    """

    run: str | None = None
    trial: str = "best"
    configs: Sequence[str] = ()
    space: str | None = None
    variants: Sequence[str] = ()
    width: float | None = None
    image_size: int | None = None
    num_classes: int | None = None
    batch_size: int | None = None
    repetitions: int | None = None
    device: str = "auto"
    precision: str = "auto"
    phases: Sequence[str] = ("inference", "training")
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network to measure: its name for people, the (channels, height, width) of its images, and how to build it or its program.

    `config` is its configuration, whose recipe a training step keeps; empty where it has none.
    """

    name: str
    input_shape: tuple[int, int, int]
    build: Callable[[], nn.Module] | None = None
    num_classes: int = 0
    program: Program | None = None
    config: Config = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How networks are measured; `recipe` holds precision and memory format."""

    device: torch.device
    recipe: Recipe
    batch_size: int
    repetitions: int
    ceilings: Ceilings


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One phase of one network.

    Args:
        images_per_second: mean over the repetitions; `images_per_second_std` their standard deviation.
        peak_memory_bytes: of the device's allocator on CUDA, of the process on a CPU.
        roofline_share: bound over measured time; None where the network's operations cannot be listed.
        flops_per_second: arithmetic of convolutions and matrix products in FLOP/s, two for each multiply-add; None where
            the network's size is not known.
        num_parts: that the batch was cut into for lack of memory.
    """

    images_per_second: float
    images_per_second_std: float
    peak_memory_bytes: int | None
    roofline_share: float | None
    flops_per_second: float | None
    num_parts: int = 1


def bench(
    command: BenchCommand, *, on_network: Callable[[dict[str, Any]], None], notice: Callable[[str], None]
) -> dict[str, Any]:
    """Return the measurements of all networks as plain data.

    Args:
        command: what to measure.
        on_network: called with each network's entry as soon as it is measured.
        notice: called with what the user should know before numbers are read.

    Raises:
        NaxcliError: if a network, device or precision does not exist.
    """
    subjects = find_subjects(command)
    device = choose_device(command.device)
    if command.precision not in PRECISIONS:
        raise NaxcliError(f"there is no precision {command.precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
    is_cpu = device.type == "cpu"
    batch_size = command.batch_size or (CPU_BATCH if is_cpu else GPU_BATCH)
    repetitions = command.repetitions or (CPU_REPETITIONS if is_cpu else GPU_REPETITIONS)
    if is_cpu and (command.batch_size is None or command.repetitions is None):
        notice(
            f"on a CPU: batches of {batch_size} images and {repetitions} repetitions instead of the paper's {GPU_BATCH} and "
            f"{GPU_REPETITIONS}; --batch and --repetitions change them"
        )
    recipe = Recipe(precision=command.precision)
    dtype = autocast_dtype(recipe, device) or torch.float32
    torch.backends.cudnn.benchmark = True
    set_float32_precision(recipe)
    protocol = Protocol(
        device=device,
        recipe=recipe,
        batch_size=batch_size,
        repetitions=repetitions,
        ceilings=measure_ceilings(device, dtype),
    )
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "device": device_name(device),
        "torch": str(torch.__version__),
        "precision": computed_precision(recipe, device),
        "channels_last": recipe.channels_last,
        "batch_size": batch_size,
        "repetitions": repetitions,
        "ceilings": dataclasses.asdict(protocol.ceilings),
        "networks": [],
    }
    for subject in subjects:
        entry = measure_subject(subject, protocol, command.phases)
        result["networks"].append(entry)
        on_network(entry)
    return result


def find_subjects(command: BenchCommand) -> list[Subject]:
    """Return the networks that a command names.

    Raises:
        NaxcliError: if one does not exist.
    """
    if command.run is None and not command.configs:
        return [subject for name in shipped_spaces() for subject in _published(load_space(name), command)]
    named: list[str | None] = [*command.configs] or [None]
    return [_find(config, command, variant) for config in named for variant in command.variants or (None,)]


def _published(space: Space, command: BenchCommand) -> Iterator[Subject]:
    """Yield the published variants of a space, and without a choice of variants the networks that it compares them with."""
    for name in space.variants:
        if (reference := space.variant(name).reference) and (not command.variants or name in command.variants):
            yield _find(f"{space.name}:{reference}", command, name)
    if not command.variants:
        for name, image_size in space.baselines.items():
            yield _timm_subject(name, dataclasses.replace(command, image_size=command.image_size or image_size))


def _find(config: str | None, command: BenchCommand, variant: str | None) -> Subject:
    if config is not None and config.startswith(TIMM_PREFIX):
        return _timm_subject(config.removeprefix(TIMM_PREFIX), command)
    if config is not None and config.endswith(PROGRAM_SUFFIXES) and Path(config).is_file():
        return _program_subject(Path(config), command, variant)
    selection = select(run=command.run, trial=command.trial, config=config, space=command.space)
    sizes = network_sizes(
        selection,
        variant=variant,
        width=command.width,
        num_classes=command.num_classes,
        image_size=command.image_size,
    )

    def build() -> nn.Module:
        return build_network(selection.space, selection.config, **dataclasses.asdict(sizes))

    label = config or f"{selection.provenance.get('run')} trial {selection.trial_id}"
    label = f"{label} {sizes.variant}" if selection.code is None else selection.code.name
    return Subject(
        name=label + ("" if sizes.width == 1 else f", width {sizes.width:g}"),
        build=build,
        num_classes=sizes.num_classes,
        input_shape=(sizes.in_channels, sizes.image_size, sizes.image_size),
        config=selection.config,
    )


def _timm_subject(name: str, command: BenchCommand) -> Subject:
    import timm

    if not timm.is_model(name):
        raise NaxcliError(f"timm {timm.__version__} has no network {name!r}")
    num_classes = command.num_classes or 1000
    # Without weights: throughput does not depend on them, and nothing is downloaded.
    own_size = timm.get_pretrained_cfg(name)
    shape = own_size.input_size if own_size is not None else (3, 224, 224)
    size = command.image_size or shape[-1]
    return Subject(
        name=f"{TIMM_PREFIX}{name}",
        build=lambda: timm.create_model(name, pretrained=False, num_classes=num_classes),
        input_shape=(shape[0], size, size),
        num_classes=num_classes,
    )


def _program_subject(path: Path, command: BenchCommand, variant: str | None) -> Subject:
    for name, value in {"variant": variant, "width": command.width, "classes": command.num_classes}.items():
        if value is not None:
            raise NaxcliError(f"{path} is a finished program, whose {name} cannot be chosen")
    program = open_program(path, device=choose_device(command.device), is_trusted=command.trusted)
    size = program.input_shape[-1]
    if command.image_size not in (None, size):
        raise NaxcliError(f"{path} takes images of {size} pixels only", hint="leave out --image-size")
    return Subject(name=path.name, input_shape=program.input_shape, program=program)


def _measure_program(subject: Subject, program: Program, protocol: Protocol, phases: Sequence[str]) -> dict[str, Any]:
    """Return the size of a finished program, where its file tells it, and its speed."""
    if "inference" not in phases:
        raise NaxcliError(f"{subject.name} cannot be trained", why="it is a finished program", hint="--phase inference")
    if program.batch_size not in (None, protocol.batch_size):
        raise NaxcliError(
            f"{subject.name} takes batches of {program.batch_size} only", hint=f"--batch {program.batch_size}"
        )
    memory = PeakMemory(protocol.device)
    images = torch.randn(protocol.batch_size, *subject.input_shape, device=protocol.device)
    with torch.inference_mode():
        seconds = _time(lambda: program.forward(images), protocol)
    return {
        "name": subject.name,
        "image_size": subject.input_shape[-1],
        "num_params": program.num_params,
        "flops": program.macs,
        "runtime": program.runtime,
        "precision": "float32",
        "inference": _speed(seconds, protocol, memory.read(), macs=program.macs, bound=None),
    }


def measure_subject(subject: Subject, protocol: Protocol, phases: Sequence[str]) -> dict[str, Any]:
    """Return the size of a network, and its speed in each phase or None where it does not fit into memory."""
    if subject.program is not None:
        return _measure_program(subject, subject.program, protocol, phases)
    assert subject.build is not None
    torch.manual_seed(0)
    network = subject.build()
    macs = count_macs(network, subject.input_shape)
    entry: dict[str, Any] = {
        "name": subject.name,
        "image_size": subject.input_shape[-1],
        "num_params": num_params(network),
        "flops": macs,
    }
    network = network.to(protocol.device).to(memory_format=torch.channels_last)
    images = torch.randn(protocol.batch_size, *subject.input_shape, device=protocol.device)
    images = images.contiguous(memory_format=torch.channels_last)
    measures = {"inference": _inference, "training": _training}
    for phase in phases:
        memory = PeakMemory(protocol.device)
        try:
            seconds, num_parts = measures[phase](network, images, subject, protocol)
        except torch.OutOfMemoryError:
            entry[phase] = None
            continue
        peak = memory.read()
        bound = _bound(network.train(phase == "training"), images, protocol)
        factor = TRAINING_FACTOR if phase == "training" else 1
        bound = None if bound is None else factor * bound
        entry[phase] = _speed(seconds, protocol, peak, macs=factor * macs, bound=bound, num_parts=num_parts)
    del network, images
    gc.collect()
    if protocol.device.type == "cuda":
        torch.cuda.empty_cache()
    return entry


def _speed(
    seconds: Sequence[float],
    protocol: Protocol,
    peak_memory_bytes: int | None,
    *,
    macs: int | None,
    bound: float | None,
    num_parts: int = 1,
) -> dict[str, Any]:
    """Return the speed of steps that took these seconds as plain data; `macs` are the multiply-adds of one image in a step."""
    rates = [protocol.batch_size / one for one in seconds]
    mean = statistics.mean(rates)
    return dataclasses.asdict(
        Speed(
            images_per_second=mean,
            images_per_second_std=statistics.stdev(rates) if len(rates) > 1 else 0.0,
            peak_memory_bytes=peak_memory_bytes,
            flops_per_second=None if macs is None else FLOPS_PER_MAC * macs * mean,
            roofline_share=None if bound is None else bound / statistics.mean(seconds),
            num_parts=num_parts,
        )
    )


def _inference(network: nn.Module, images: Tensor, subject: Subject, protocol: Protocol) -> tuple[list[float], int]:
    network.eval()
    device, dtype = protocol.device, autocast_dtype(protocol.recipe, protocol.device)

    def step() -> None:
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            network(images)

    with torch.inference_mode():
        return _time(step, protocol), 1


def _training(network: nn.Module, images: Tensor, subject: Subject, protocol: Protocol) -> tuple[list[float], int]:
    network.train()
    device = protocol.device
    recipe = dataclasses.replace(
        protocol.recipe.with_choices(subject.config),
        learning_rate=_LEARNING_RATE,
        min_learning_rate=_LEARNING_RATE,
    )
    set_drop_path(network, recipe.drop_path)
    if device.type == "cpu":
        speed_up_depthwise(network)
    targets = torch.rand(len(images), subject.num_classes, device=device).pow(20)  # most of them near 0, as mixed ones
    has_kernels = switch_on(network, device)
    optimizer = build_optimizer(network, recipe, has_kernels=has_kernels)
    eager = EagerStep(network, recipe, device)
    gradient_step = choose_step(eager, images, targets, num_steps=_MANY_STEPS, optimizer=optimizer)

    def step() -> None:
        gradient_step(images, targets)
        if not holds_update(gradient_step):
            optimizer.step()

    seconds = _time(step, protocol)
    if has_kernels:
        switch_off(network)
    return seconds, eager.grad_accum_steps


def _time(step: Callable[[], None], protocol: Protocol) -> list[float]:
    """Return the seconds of one step in each repetition, after warm-up."""
    device = protocol.device
    started = 0.0
    for _ in range(_NUM_WARMUP[device.type]):
        step()
    synchronise(device)
    started = time.perf_counter()
    step()
    synchronise(device)
    num_steps = max(1, math.ceil(_SHORTEST_REPETITION / (time.perf_counter() - started)))
    seconds = []
    for _ in range(protocol.repetitions):
        started = time.perf_counter()
        for _ in range(num_steps):
            step()
        synchronise(device)
        seconds.append((time.perf_counter() - started) / num_steps)
    return seconds


def _bound(network: nn.Module, images: Tensor, protocol: Protocol) -> float | None:
    """Return the roofline's bound of a forward pass in seconds, None for a network that needs values to run."""
    dtype = autocast_dtype(protocol.recipe, protocol.device) or torch.float32
    try:
        operations = list_operations(network, tuple(images.shape), bytes_per_value=dtype.itemsize)
    except RuntimeError:
        return None
    return least_seconds(operations, protocol.ceilings)
