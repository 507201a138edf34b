"""The contract of every space that ships: sampled, built, trained for a step, counted, exported, and none of its choices in vain."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from naxcli.export import ExportRequest
from naxcli.export.bundle import make_bundle, portable_state
from naxcli.export.python import render
from naxcli.records.trial import Config
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import Space, load_space, shipped_spaces
from naxcli.search_space.networks import build_network
from naxcli.search_space.sizes import measure_config
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.neighbours import one_exchange
from naxcli.settings.limits import Limits
from naxcli.settings.recipe import Recipe
from tests.command_line import load_alone

NUM_SAMPLES = 2
SMALL = {"num_classes": 3, "in_channels": 1, "image_size": 16}
WIDTHS = {"mobileone": 0.25}  # where at 0.06 all choices are as narrow as can be
every_space = pytest.mark.parametrize("name", shipped_spaces())
# Of 50 choices, which `test_nasnet` asks of single cells.
MANY_CHOICES = {"nasnet"}


def candidates_of(space: Space) -> Candidates:
    shape = NetworkShape(num_classes=3, in_channels=1, image_size=16)
    return Candidates(
        space=space,
        configuration_space=space.configuration_space(seed=0),
        is_feasible=Feasibility(space, Limits(), width=1.0, shape=shape),
    )


def sampled(space: Space) -> list[Config]:
    """Return configurations as a search draws them: canonical, and within the space's constraints."""
    candidates, rng = candidates_of(space), np.random.default_rng(0)
    drawn = [candidates.draw(rng) for _ in range(NUM_SAMPLES)]
    return [config for config in drawn if config is not None]


def width_of(space: Space) -> float:
    return WIDTHS.get(space.name, 0.06)


def network_of(space: Space, config: Config) -> nn.Module:
    torch.manual_seed(0)
    return build_network(space, config, **SMALL, width=width_of(space))


@every_space
def test_what_is_sampled_is_built_learns_and_has_the_counts_of_its_shapes(name: str) -> None:
    space = load_space(name)
    configs = sampled(space)
    assert len(configs) == NUM_SAMPLES
    for config in configs:
        network = network_of(space, config)
        logits = network(torch.randn(4, 1, 16, 16))
        assert logits.shape == (4, 3) and logits.isfinite().all()
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
        gradients = {key: weight.grad for key, weight in network.named_parameters()}
        assert [key for key, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()] == []
        measured = measure_config(space, config, **SMALL, width=width_of(space))
        assert measured["num_params"] == sum(weight.numel() for weight in network.parameters())
        assert measured["flops"] > 0


@every_space
def test_what_is_exported_as_python_gives_the_same_output_when_it_is_loaded_back(name: str, tmp_path: Path) -> None:
    space = load_space(name)
    request = ExportRequest(
        space=space,
        config=sampled(space)[-1],
        format="python",
        out=tmp_path,
        variant="reduced",
        name=f"contract_{name}",
        **SMALL,
        width=width_of(space),
    )
    bundle = make_bundle(request)
    weights, code = tmp_path / f"contract_{name}.safetensors", tmp_path / f"contract_{name}.py"
    weights.write_bytes(safetensors.torch.save(portable_state(bundle.network)))
    code.write_text(render(dataclasses.replace(request, weights=weights), bundle))
    load_alone(code)
    loaded = timm.create_model(f"contract_{name}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(bundle.images), bundle.outputs)


def one_choice_changed(space: Space, bases: list[Config], hyperparameter: str) -> Iterator[tuple[int, Config]]:
    """Yield numbers of configurations, and what another value of one hyperparameter makes of them that is not the same by name."""
    candidates = candidates_of(space)
    rng = np.random.default_rng(0)
    for number, base in enumerate(bases):
        if hyperparameter not in base:
            continue
        vectors = one_exchange(candidates.configuration_space, candidates.vector(base), rng)
        for changed in map(candidates.config, vectors):
            if changed.get(hyperparameter) != base[hyperparameter] and candidates.canonical(changed) != base:
                yield number, changed


def identity_of(space: Space, config: Config) -> tuple[object, ...]:
    """Return what tells a configuration's network and training from another's: its layers, and what they make of an image."""
    torch.manual_seed(0)
    network = network_of(space, config)
    shapes = [(key, tuple(tensor.shape)) for key, tensor in network.state_dict().items()]
    with torch.no_grad():
        output = network(torch.linspace(-1, 1, 2 * 16 * 16).sin().reshape(2, 1, 16, 16))
    recipe = Recipe().with_choices(config)
    return (str(network), tuple(shapes), tuple(output.flatten().tolist()), tuple(dataclasses.asdict(recipe).items()))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in MANY_CHOICES)) for name in shipped_spaces()]
)
def test_every_hyperparameter_changes_the_network_or_its_training(name: str) -> None:
    space = load_space(name)
    bases = [space.canonicalise(config) for config in (space.default_config(), *space.reference.values())]
    bases += sampled(space)
    identity = functools.cache(lambda number: identity_of(space, bases[number]))
    varied = [name for name, hyperparameter in space.configuration_space().items() if hyperparameter.size > 1]
    assert varied
    for hyperparameter in varied:
        changes = one_choice_changed(space, bases, hyperparameter)
        assert any(identity(number) != identity_of(space, changed) for number, changed in changes), hyperparameter
