"""Activations and their slopes in Triton, for the kernels that begin or end with one: `identity`, `relu`, `gelu` or `elu`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(values: tl.tensor, ACTIVATION: tl.constexpr) -> tl.tensor:
    """Return the activation of the values."""
    if ACTIVATION == "relu":
        values = tl.where(values <= 0, 0.0, values)  # as torch does, NaN stays
    if ACTIVATION == "gelu":
        values = 0.5 * values * (1.0 + tl.erf(values * 0.7071067811865476))
    if ACTIVATION == "elu":
        values = tl.where(values <= 0, tl.exp(tl.minimum(values, 0.0)) - 1.0, values)
    return values


@triton.jit
def activation_slope(values: tl.tensor, ACTIVATION: tl.constexpr) -> tl.tensor:
    """Return the derivative of the activation at the values."""
    slope = tl.full(values.shape, 1.0, values.dtype)
    if ACTIVATION == "relu":
        slope = tl.where(values <= 0, 0.0, slope)
    if ACTIVATION == "gelu":
        density = tl.exp(-0.5 * values * values) * 0.3989422804014327
        slope = 0.5 * (1.0 + tl.erf(values * 0.7071067811865476)) + values * density
    if ACTIVATION == "elu":
        slope = tl.where(values <= 0, tl.exp(tl.minimum(values, 0.0)), slope)
    return slope
