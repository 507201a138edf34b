"""The nexception space: its configurations, that each choice matters, and that every choice trains."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath
from timm.models import create_model
from torch import Tensor, nn

from naxcli.records.trial import ConfigValue
from naxcli.search_space.contract import load_space, to_configuration
from naxcli.search_space.prior import Prior
from naxcli.settings.prior import parse_prior

SPACE = load_space("nexception")
XCEPTION = dict(SPACE.reference["xception"])
NEXCEPTION = dict(SPACE.reference["nexception"])
CHOICES: dict[str, tuple[ConfigValue, ...]] = {
    "kernel_size": (3, 5, 7, 9),
    "stem": ("conv", "patchify"),
    "pooling": ("max", "conv", "blur"),
    "block": ("xception", "bottleneck"),
    "se": ("no", "yes"),
    "activation": ("relu", "gelu", "elu", "celu"),
    "normalization": ("batch", "layer"),
    "activation_1": ("no", "yes"),
    "activation_2": ("no", "yes"),
    "activation_3": ("no", "yes"),
    "activation_end": ("no", "yes"),
    "normalization_1": ("no", "yes"),
    "normalization_2": ("no", "yes"),
    "normalization_3": ("no", "yes"),
}
CONFIGS = st.fixed_dictionaries({name: st.sampled_from(choices) for name, choices in CHOICES.items()})


def small_network(config: dict[str, ConfigValue], *, seed: int = 0, image_size: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return SPACE.build(config, num_classes=5, in_channels=1, image_size=image_size, width=0.125)


def output_of(network: nn.Module) -> Tensor:
    """Return the training-mode output of four fixed images, in float64 so that equal networks agree to rounding."""
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return network.double().train()(images).detach()


def shapes_of(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in network.state_dict().values()]


def are_the_same_network(a: nn.Module, b: nn.Module) -> bool:
    """Return whether two networks have the same weights, in order, and the same output from the same weights."""
    if shapes_of(a) != shapes_of(b):
        return False
    b.load_state_dict(dict(zip(b.state_dict(), a.state_dict().values(), strict=True)))
    return torch.allclose(output_of(a), output_of(b), atol=1e-9)


def neighbours(config: dict[str, ConfigValue]) -> Iterator[dict[str, ConfigValue]]:
    for name, choices in CHOICES.items():
        yield from ({**config, name: value} for value in choices if value != config[name])


def test_the_space_has_98304_configurations_in_their_natural_order() -> None:
    space = SPACE.configuration_space()
    assert space.estimate_size() == 98_304
    actual = {name: tuple(getattr(space[name], "choices", ()) or space[name].sequence) for name in space}
    assert actual == CHOICES
    assert type(space["kernel_size"]).__name__ == "OrdinalHyperparameter"


def test_the_default_configuration_is_xception() -> None:
    assert SPACE.default_config() == XCEPTION


def test_groups_name_the_position_bits() -> None:
    assert set(SPACE.groups) == {"activation_positions", "normalization_positions"}
    assert set(itertools.chain(*SPACE.groups.values())) == {name for name in CHOICES if name[-1] in "123d"}


@pytest.mark.parametrize(
    ("variant", "num_params", "multiply_adds"),
    [("T", 24_544_976, 4_600_086_016), ("S", 43_386_944, 8_402_354_752), ("TP", 26_559_112, 4_319_870_208)],
)
def test_the_paper_networks_have_the_paper_counts(variant: str, num_params: int, multiply_adds: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = SPACE.variant(variant).build(NEXCEPTION, num_classes=1000, in_channels=3)
        network.eval()(torch.empty(1, 3, 224, 224))
    assert sum(p.numel() for p in network.parameters()) == num_params
    assert counter.get_total_flops() // 2 == multiply_adds


def test_the_reduced_nexception_network_has_14_6_million_parameters() -> None:
    with torch.device("meta"):
        network = SPACE.build(NEXCEPTION, num_classes=100, in_channels=3, image_size=32)
    assert sum(p.numel() for p in network.parameters()) == 14_586_884


def test_the_xception_configuration_at_full_size_has_the_parameters_of_timms_xception() -> None:
    import sys

    three_flows = sys.modules[SPACE.build.__module__].three_flows
    with torch.device("meta"):
        ours = three_flows(
            XCEPTION, entry_channels=(128, 256, 728), middle_depth=8, num_classes=1000, in_channels=3, width=1.0
        )
        theirs = create_model("legacy_xception")
    assert sorted(p.numel() for p in ours.parameters()) == sorted(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("reference", [XCEPTION, NEXCEPTION], ids=["xception", "nexception"])
@pytest.mark.parametrize("name", CHOICES)
def test_every_hyperparameter_changes_the_network(name: str, reference: dict[str, ConfigValue]) -> None:
    for value in CHOICES[name]:
        other = {**reference, name: value}
        same = are_the_same_network(small_network(reference), small_network(other))
        assert same == (value == reference[name])


@settings(max_examples=4, deadline=None)
@given(config=CONFIGS)
def test_configurations_are_the_same_network_exactly_where_canonical_says_so(config: dict[str, ConfigValue]) -> None:
    for other in neighbours(config):
        same_name = SPACE.canonicalise(config) == SPACE.canonicalise(other)
        assert are_the_same_network(small_network(config), small_network(other)) == same_name, other


@given(config=CONFIGS)
def test_canonical_is_idempotent_and_stays_in_the_space(config: dict[str, ConfigValue]) -> None:
    canonical = SPACE.canonicalise(config)
    assert SPACE.canonicalise(canonical) == canonical
    assert all(canonical[name] in choices for name, choices in CHOICES.items())


def test_69120_different_networks_remain() -> None:
    configs = (dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values()))
    assert len({tuple(SPACE.canonicalise(config).values()) for config in configs}) == 69_120


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values])
def test_every_choice_builds_and_runs_forward_and_backward(name: str, value: ConfigValue, dtype: torch.dtype) -> None:
    for reference, image_size, in_channels in ((XCEPTION, 8, 1), (NEXCEPTION, 17, 3)):
        torch.manual_seed(0)
        network = SPACE.build(
            {**reference, name: value}, num_classes=5, in_channels=in_channels, image_size=image_size, width=0.1
        ).to(dtype)
        logits = network(torch.randn(2, in_channels, image_size, image_size, dtype=dtype))
        assert logits.shape == (2, 5)
        logits.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@settings(max_examples=25, deadline=None)
@given(config=CONFIGS, image_size=st.sampled_from([8, 9, 15, 16, 33]), in_channels=st.sampled_from([1, 3, 4]))
def test_random_configurations_run_on_any_image(
    config: dict[str, ConfigValue], image_size: int, in_channels: int
) -> None:
    network = SPACE.build(config, num_classes=7, in_channels=in_channels, image_size=image_size, width=0.05)
    logits = network(torch.randn(2, in_channels, image_size, image_size))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("variant", ["T", "S", "TP"])
@pytest.mark.parametrize(
    "reference", [XCEPTION, {**XCEPTION, "normalization": "layer", "se": "yes"}], ids=["x", "layer"]
)
def test_variants_build_from_any_configuration(variant: str, reference: dict[str, ConfigValue]) -> None:
    network = SPACE.variant(variant).build(reference, num_classes=7, in_channels=1, width=0.1)
    logits = network(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 7)
    logits.sum().backward()


@pytest.mark.parametrize("name", ["stem", "pooling"])
def test_stem_and_pooling_do_not_act_in_the_pyramid(name: str) -> None:
    def pyramid(config: dict[str, ConfigValue]) -> nn.Module:
        torch.manual_seed(0)
        return SPACE.variant("TP").build(config, num_classes=5, in_channels=1, width=0.1)

    for value in CHOICES[name]:
        assert str(pyramid(NEXCEPTION)) == str(pyramid({**NEXCEPTION, name: value}))


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = small_network(NEXCEPTION), small_network(NEXCEPTION), small_network(NEXCEPTION, seed=1)
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="8 is the least"):
        small_network(XCEPTION, image_size=7)


@pytest.mark.parametrize("width", [0.01, 0.3, 0.7, 1.0])
def test_width_scales_channels_to_even_numbers_of_at_least_eight(width: float) -> None:
    with torch.device("meta"):
        network = SPACE.build(NEXCEPTION, num_classes=5, in_channels=1, image_size=8, width=width)
    channels = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(c % 2 == 0 and c >= 8 for c in channels)
    feature_channels = [info["num_chs"] for info in network.feature_info]
    assert all(c % 8 == 0 for c in feature_channels if c > 256)
    assert abs(network.num_features - 2048 * width) <= max(4, 8 - 2048 * width)


def test_stochastic_depth_is_off_until_set_and_ramps_up_in_the_pyramid() -> None:
    for variant in ("T", "TP"):
        network = SPACE.variant(variant).build(NEXCEPTION, num_classes=5, in_channels=1, width=0.05)
        modules = [m for m in network.modules() if isinstance(m, DropPath)]
        assert [m.drop_prob for m in modules] == [0.0] * len(modules)
        network.set_drop_path_rate(0.1)
        rates = [m.drop_prob for m in modules]
        expected = [0.1] * 12 if variant == "T" else [0.1 * i / 18 for i in range(19)]
        assert rates == pytest.approx(expected)


def test_timms_methods_give_features_and_change_the_classifier() -> None:
    network = small_network(NEXCEPTION, image_size=32).eval()
    images = torch.randn(2, 1, 32, 32)
    features = network.forward_features(images)
    assert features.shape == (2, network.num_features, 4, 4)
    assert torch.equal(network.forward_head(features), network(images))
    assert network.forward_head(features, pre_logits=True).shape == (2, network.num_features)
    assert network.get_classifier().out_features == 5
    network.reset_classifier(9)
    assert network(images).shape == (2, 9)
    network.reset_classifier(0)
    assert network(images).shape == (2, network.num_features)


@pytest.mark.parametrize("variant", ["T", "TP"])
def test_feature_info_describes_the_feature_maps(variant: str) -> None:
    network = SPACE.variant(variant).build(NEXCEPTION, num_classes=5, in_channels=3, width=0.1).eval()
    shapes: dict[str, torch.Size] = {}
    for info in network.feature_info:
        module = network.get_submodule(info["module"])
        module.register_forward_hook(lambda _m, _i, out, name=info["module"]: shapes.update({name: out.shape}))
    network(torch.randn(1, 3, 64, 64))
    for info in network.feature_info:
        size = 64 // info["reduction"]
        assert shapes[info["module"]] == (1, info["num_chs"], size, size)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    images = torch.randn(2, 1, 16, 16)
    gradients = []
    for enable in (False, True):
        network = small_network(NEXCEPTION)
        network.set_grad_checkpointing(enable)
        network(images).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_the_prior_of_the_guide_believes_in_what_it_names() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    table = tomllib.loads(guide.split("```toml\n")[1].split("```")[0])
    configuration_space = SPACE.configuration_space()
    prior = Prior(parse_prior(table), space=SPACE, configuration_space=configuration_space)
    vectors = [to_configuration(configuration_space, config).get_array() for config in (NEXCEPTION, XCEPTION)]
    believed, other = prior.log_density(np.stack(vectors))
    assert believed > other
