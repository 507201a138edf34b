"""Compound scaling: how much deeper, wider and finer a network of twice the cost should be, on timm's EfficientNet.

Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019. The paper finds
coefficients alpha (depth), beta (width) and gamma (resolution) by a grid search at twice the cost of its baseline B0, under
alpha * beta^2 * gamma^2 = 2, and raises them to phi for a family of networks.

Hyperparameters
    alpha              factor of the number of blocks in each stage
    beta               factor of the channels, which are rounded to multiples of 8
    recipe.resolution  40 * gamma pixels: the baseline sees 40, to which images of any size are resized
What is built is phi = 1, at twice the multiply-adds of the baseline by the paper's rule: 1.9 <= alpha * beta^2 * gamma^2 <= 2.1
keeps 32 of the 245 combinations. Counted, the networks differ from the rule, as depths are rounded up and channels to multiples of
8: those of the paper's coefficients have 2.58 times the multiply-adds of the baseline, where the rule says 1.92.

The reduced network has a stem without stride. Variants `phi_0` to `phi_6` are the family at full size: alpha^phi, beta^phi, and
images of 224 * gamma^phi pixels, rounded.

With the paper's coefficients (reference `efficientnet`: 1.2, 1.1, 1.15) phi 0 is B0 (5,288,548 parameters at 1,000 classes) and
phi 1 is B2 (9,109,994), counted. B1 (7,794,184) is phi 1 of alpha 1.1 and beta 1: the paper's published networks have
coefficients rounded by hand, and B1 is no member of the family of 1.2, 1.1, 1.15.
"""

from collections.abc import Mapping

from ConfigSpace import Categorical, ConfigurationSpace
from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
from torch import nn

from naxcli import Space, Variant

# Stages of the baseline in timm's notation: repeats, kernel, stride, expansion, channels, share of squeeze-and-excitation.
BASELINE = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]
BASELINE_SIDE, BASELINE_FULL_SIDE = 40, 224  # pixels
COST_BAND = (1.9, 2.1)


def scaled_network(
    config: Mapping[str, str | int | float | bool], *, phi: int, num_classes: int, in_channels: int, width: float
) -> EfficientNet:
    """Return the full-size network of a configuration's family at phi."""
    beta = float(config["beta"]) ** phi * width

    def rounded(channels: float) -> int:
        count: int = round_channels(channels, beta)
        return count

    return EfficientNet(
        decode_arch_def(BASELINE, float(config["alpha"]) ** phi),
        num_features=rounded(1280),
        stem_size=32,
        round_chs_fn=rounded,
        act_layer=nn.SiLU,
        norm_layer=nn.BatchNorm2d,
        num_classes=num_classes,
        in_chans=in_channels,
    )


def build(
    config: Mapping[str, str | int | float | bool],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
) -> EfficientNet:
    """Return the reduced network at phi = 1: (batch, in_channels, n, n) -> (batch, num_classes)."""
    network = phi_1(config, num_classes=num_classes, in_channels=in_channels, width=width)
    network.conv_stem.stride = (1, 1)
    for feature in network.feature_info:
        feature["reduction"] //= 2
    return network


def phi_0(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the baseline, B0, whatever the configuration."""
    return scaled_network(config, phi=0, num_classes=num_classes, in_channels=in_channels, width=width)


def phi_1(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the network of twice the baseline's cost by the paper's rule; counted, it is another factor (see the top of the file)."""
    return scaled_network(config, phi=1, num_classes=num_classes, in_channels=in_channels, width=width)


def phi_2(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the network of four times the baseline's cost by the paper's rule."""
    return scaled_network(config, phi=2, num_classes=num_classes, in_channels=in_channels, width=width)


def phi_3(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the network of 8 times the baseline's cost by the paper's rule."""
    return scaled_network(config, phi=3, num_classes=num_classes, in_channels=in_channels, width=width)


def phi_4(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the network of 16 times the baseline's cost by the paper's rule."""
    return scaled_network(config, phi=4, num_classes=num_classes, in_channels=in_channels, width=width)


def phi_5(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the network of 32 times the baseline's cost by the paper's rule."""
    return scaled_network(config, phi=5, num_classes=num_classes, in_channels=in_channels, width=width)


def phi_6(
    config: Mapping[str, str | int | float | bool], *, num_classes: int, in_channels: int, width: float = 1.0
) -> EfficientNet:
    """Return the network of 64 times the baseline's cost by the paper's rule."""
    return scaled_network(config, phi=6, num_classes=num_classes, in_channels=in_channels, width=width)


def gamma_of(config: Mapping[str, str | int | float | bool]) -> float:
    """Return the factor of the resolution that a configuration trains its reduced network at."""
    return int(config["recipe.resolution"]) / BASELINE_SIDE


def relative_cost(config: Mapping[str, str | int | float | bool]) -> float:
    """Return the multiply-adds of a configuration's network at phi = 1 relative to the baseline's, by the paper's rule."""
    return float(config["alpha"]) * float(config["beta"]) ** 2 * gamma_of(config) ** 2


def costs_twice(config: Mapping[str, str | int | float | bool]) -> bool:
    """Return whether a configuration has about twice the multiply-adds of the baseline, by the paper's rule."""
    return COST_BAND[0] <= relative_cost(config) <= COST_BAND[1]


def family_member(phi: int) -> Variant:
    """Return the member of the family at phi, made for images as large as a configuration's gamma says."""

    def image_size(config: Mapping[str, str | int | float | bool]) -> int:
        return round(BASELINE_FULL_SIDE * gamma_of(config) ** phi)

    return Variant(build=FAMILY[phi], image_size=image_size)


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return the grid of coefficients; the default is the paper's choice."""
    space = ConfigurationSpace(name="efficientnet", seed=seed)
    space.add(
        Categorical("alpha", [1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8], default=1.2, ordered=True),
        Categorical("beta", [1.0, 1.05, 1.1, 1.2, 1.3], default=1.1, ordered=True),
        Categorical("recipe.resolution", [40, 42, 44, 46, 48, 50, 52], default=46, ordered=True),
    )
    return space


FAMILY = (phi_0, phi_1, phi_2, phi_3, phi_4, phi_5, phi_6)

SPACE = Space(
    name="efficientnet",
    configspace=configspace,
    build=build,
    constraints=[costs_twice],
    reference={"efficientnet": {"alpha": 1.2, "beta": 1.1, "recipe.resolution": 46}},
    variants={f"phi_{phi}": family_member(phi) for phi in range(len(FAMILY))},
    paper="Tan and Le, EfficientNet, ICML 2019, arXiv:1905.11946",
)
