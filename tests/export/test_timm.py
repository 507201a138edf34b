"""What timm asks of its own networks, asked of the exported Python file of every variant of every space that ships."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from naxcli.export import ExportRequest
from naxcli.export.bundle import make_bundle, portable_state
from naxcli.export.python import pretrained_settings, render
from naxcli.search_space.contract import load_space, shipped_spaces
from naxcli.search_space.networks import REDUCED, variant_names
from tests.command_line import load_alone

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")


# Spaces of networks so deep that TorchScript and the like take long.
DEEP = {"efficientnet", "mobileone", "mobileone_swiftformer", "nasnet"}


def subjects() -> Iterator[Any]:
    """Yield every space that ships networks of its own, variant and reference.

    All are slow but the last reference of each space, in its reduced variant and in one of full size.
    """
    for space in shipped_spaces():
        build = load_space(space).build
        if build is None or Path(build.__code__.co_filename).stem != space:
            continue
        references = list(load_space(space).reference)
        variants = variant_names(load_space(space))
        full_size = [variant for variant in variants if variant != REDUCED]
        for variant in variants:
            for reference in references:
                is_quick = reference == references[-1] and variant in (REDUCED, *full_size[:1])
                is_slow = space in DEEP or not is_quick
                marks = [pytest.mark.slow] if is_slow else []
                yield pytest.param((space, variant, reference), id=f"{space}-{variant}-{reference}", marks=marks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A network that timm knows by this name, with the images that it was exported for."""

    name: str
    image_size: int
    has_pairs: bool  # whether its stages give two maps, as NASNet's, which the hooks of timm refuse

    def create(self, **arguments: Any) -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(self.name, **arguments).eval()

    def images(self, batch_size: int = 1, in_chans: int = 3) -> Tensor:
        return torch.randn(batch_size, in_chans, self.image_size, self.image_size)


@pytest.fixture(scope="module", params=subjects())
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    space_name, variant, reference = request.param
    space = load_space(space_name)
    name = f"asked_{space_name}_{variant}_{reference}".lower()
    folder = tmp_path_factory.mktemp("timm")
    wanted = ExportRequest(
        space=space,
        config=dict(space.reference[reference]),
        format="python",
        out=folder,
        variant=variant,
        width=0.05,
        num_classes=11,
        in_channels=3,
        image_size=32 if variant == REDUCED else 64,
        name=name,
    )
    bundle = make_bundle(wanted)
    weights = folder / f"{name}.safetensors"
    weights.write_bytes(safetensors.torch.save(portable_state(bundle.network)))
    path = folder / f"{name}.py"
    path.write_text(render(dataclasses.replace(wanted, weights=weights), bundle))
    load_alone(path)
    return Subject(name=name, image_size=wanted.image_size, has_pairs=space_name == "nasnet")


def test_every_convolution_that_reads_the_images_is_one_for_timm_to_adapt() -> None:
    space = load_space("mobileone_swiftformer")
    network = space.build(space.reference["mobileone_s0"], num_classes=5, in_channels=3, image_size=32, width=0.05)
    wanted = ExportRequest(
        space=space,
        config=dict(space.reference["mobileone_s0"]),
        format="python",
        out=Path(),
        variant=REDUCED,
        width=0.05,
        num_classes=5,
        in_channels=3,
        image_size=32,
        name="branches",
    )
    first = pretrained_settings(wanted, network.eval())["first_conv"]
    assert sorted(first) == ["stem.conv_kxk.0.conv", "stem.conv_scale.conv"]


def traced(network: nn.Module) -> nn.Module:
    """Return what torchvision's feature extraction makes of a network, up to its output."""
    arguments = {
        "leaf_modules": timm.models.get_notrace_modules(),
        "autowrap_functions": timm.models.get_notrace_functions(),
        "param_shapes_constant": True,
    }
    training_nodes, evaluation_nodes = get_graph_node_names(network, tracer_kwargs=arguments)
    return create_feature_extractor(
        network,
        train_return_nodes=[training_nodes[-1]],
        eval_return_nodes=[evaluation_nodes[-1]],
        tracer_kwargs=arguments,
    )


def assert_maps_are_those_of(info: Any, maps: list[Tensor], image_size: int) -> None:
    sides = [math.ceil(image_size / reduction) for reduction in info.reduction()]
    assert len(sides) >= 3
    expected = [(1, channels, side, side) for channels, side in zip(info.channels(), sides, strict=True)]
    assert [tuple(one.shape) for one in maps] == expected
    assert all(one.isfinite().all() for one in maps)


def test_the_forward_pass_is_finite_and_checkpointing_does_not_change_it(subject: Subject) -> None:
    network, images = subject.create(), subject.images()
    logits = network(images)
    assert logits.shape == (1, 11) and logits.isfinite().all()
    network.set_grad_checkpointing()
    assert torch.equal(network(images), logits)


@pytest.mark.parametrize("is_traced", [False, True])
def test_every_parameter_gets_a_gradient(is_traced: bool, subject: Subject) -> None:
    network = subject.create(num_classes=42).train()
    runnable = traced(network) if is_traced else network
    outputs = runnable(subject.images(2))
    logits = torch.cat(list(outputs.values())) if is_traced else outputs
    assert logits.shape == (2, 42)
    logits.mean().backward()
    assert [name for name, parameter in runnable.named_parameters() if parameter.grad is None] == []
    assert sum(p.numel() for p in runnable.parameters()) == sum(p.numel() for p in network.parameters())


def test_the_configuration_names_layers_and_sizes_that_are_there(subject: Subject) -> None:
    network, images = subject.create(), subject.images()
    settings, state = network.default_cfg, network.state_dict()
    assert settings["input_size"] == tuple(images.shape[1:])
    assert not settings["fixed_input_size"]
    first = settings["first_conv"] if isinstance(settings["first_conv"], tuple) else (settings["first_conv"],)
    assert {f"{name}.weight" for name in (*first, settings["classifier"])} <= set(state)
    maps = network.forward_features(images)
    assert maps.shape == (1, network.num_features, *settings["pool_size"])
    assert network.forward_head(maps, pre_logits=True).shape == (1, network.head_hidden_size)
    assert torch.equal(network.forward_head(maps), network(images))


def test_classifier_and_pooling_can_be_left_out_later_and_from_the_start(subject: Subject) -> None:
    images, network = subject.images(), subject.create()
    maps_shape = network.forward_features(images).shape
    network.reset_classifier(0)
    assert network.num_classes == 0
    assert network(images).shape == (1, network.head_hidden_size)
    assert subject.create(num_classes=0)(images).shape == (1, network.head_hidden_size)
    network.reset_classifier(0, "")
    assert network(images).shape == maps_shape
    assert subject.create(num_classes=0, global_pool="")(images).shape == maps_shape
    network.reset_classifier(3, "avg")
    assert network(images).shape == (1, 3)
    assert network.get_classifier().out_features == 3


@pytest.mark.parametrize("num_classes", [0, 5])
def test_the_weights_fit_other_channels_and_classes(num_classes: int, subject: Subject) -> None:
    network = subject.create(pretrained=True, in_chans=1, num_classes=num_classes)
    outputs = network(subject.images(in_chans=1))
    assert outputs.shape == (1, num_classes or network.num_features)
    whole, kept = subject.create(pretrained=True).state_dict(), network.state_dict()
    assert all(torch.equal(kept[name], whole[name]) for name in kept if name.startswith("stages."))


@pytest.mark.parametrize("wrapper", ["list", "dict", "hook", "fx", "getter"])
def test_every_feature_wrapper_gives_the_maps_that_it_announces(wrapper: str, subject: Subject) -> None:
    if wrapper == "hook" and subject.has_pairs:
        pytest.skip("timm's hooks take one map")
    network = subject.create(pretrained=True, features_only=True, feature_cls=wrapper)
    maps = network(subject.images())
    assert_maps_are_those_of(
        network.feature_info, list(maps.values()) if wrapper == "dict" else maps, subject.image_size
    )


def test_intermediate_maps_are_those_of_the_forward_pass(subject: Subject) -> None:
    network, images = subject.create(), subject.images()
    info = timm.models.FeatureInfo(network.feature_info, len(network.feature_info))
    last, maps = network.forward_intermediates(images, output_fmt="NCHW")
    assert_maps_are_those_of(info, maps, subject.image_size)
    assert torch.equal(last, network.forward_features(images))
    # Some of timm's networks have one more convolution before the classifier.
    if info.channels()[-1] == network.num_features:
        assert torch.equal(maps[-1], last)
    wrapped = subject.create(features_only=True, feature_cls="list" if subject.has_pairs else "hook")
    assert all(torch.equal(one, other) for one, other in zip(maps, wrapped(images), strict=True))
    for indices, expected in {2: maps[-2:], (0, -1): [maps[0], maps[-1]], (1,): maps[1:2]}.items():
        chosen = network.forward_intermediates(images, indices=indices, intermediates_only=True, stop_early=True)
        assert all(torch.equal(one, other) for one, other in zip(chosen, expected, strict=True))
    with pytest.raises((IndexError, AssertionError)):  # timm's own networks assert it
        network.forward_intermediates(images, indices=[len(maps)])
    with pytest.raises((ValueError, AssertionError), match="NCHW"):
        network.forward_intermediates(images, output_fmt="NLC")


@pytest.mark.parametrize("last", [0, 1, -1])
def test_a_pruned_network_ends_with_the_last_map_that_is_wanted(last: int, subject: Subject) -> None:
    network, images = subject.create(), subject.images()
    maps = network.forward_intermediates(images, intermediates_only=True)
    (index,) = network.prune_intermediate_layers([last])
    assert index == last % len(maps)
    assert torch.equal(network(images), maps[index])  # without a classifier
    assert torch.equal(network.forward_intermediates(images, indices=[index], intermediates_only=True)[0], maps[index])
    assert (network.num_features, network.num_classes) == (maps[index].shape[1], 0)
    network.reset_classifier(3, "avg")
    assert network(images).shape == (1, 3)


def test_torchscript_and_traced_networks_give_the_same_output(subject: Subject) -> None:
    images = subject.images()
    with timm.layers.set_scriptable(True), torch.inference_mode():
        network = subject.create()
        expected = network(images)
        torch.testing.assert_close(torch.jit.script(network)(images), expected)
        (output,) = traced(network)(images).values()
        assert torch.equal(output, expected)
        (output,) = torch.jit.script(traced(network))(images).values()
        torch.testing.assert_close(output, expected)
        wrapped = subject.create(features_only=True, feature_cfg={"feature_cls": "fx"})
        assert [one.shape for one in torch.jit.script(wrapped)(images)] == [one.shape for one in wrapped(images)]


def test_torch_exports_the_network(subject: Subject) -> None:
    network, images = subject.create(), subject.images(2)
    program = torch.export.export(network, (images,))
    torch.testing.assert_close(program.module()(images), network(images))


def test_timms_optimizers_decay_matrices_only_and_know_the_depth_of_each_layer(subject: Subject) -> None:
    network = subject.create()
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.5)
    scale = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            scale[parameter] = group["lr_scale"]
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)
    assert len(scale) == len(list(network.parameters()))
    assert all(scale[parameter] == 1 for parameter in network.get_classifier().parameters())
    in_order = [
        name
        for name in (info["module"] for info in network.feature_info)
        if list(network.get_submodule(name).parameters())
    ]
    largest = [max(scale[parameter] for parameter in network.get_submodule(name).parameters()) for name in in_order]
    assert largest == sorted(largest)
    assert len(set(scale.values())) > len(in_order) + 2  # block by block, not only stage by stage
    coarse = timm.models.group_parameters(network, network.group_matcher(coarse=True))
    assert len(in_order) <= len(coarse) <= len(set(scale.values()))  # of a network without stages its blocks
