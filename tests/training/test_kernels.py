"""The Triton kernels where there is no GPU: run in Triton's interpreter, and compiled for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with torch's builds for CUDA only")

ROOT = Path(__file__).parent.parent.parent


def test_kernels_hold_to_their_references_in_tritons_interpreter() -> None:
    """In a process of its own: the interpreter is chosen before triton is imported, for all kernels of a process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/training/kernels"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
def test_kernels_compile_for_a_gpu() -> None:
    """Triton compiles for a GPU that is not there; the interpreter takes what its compiler refuses."""
    program = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from naxcli.training.kernels import block_end, depthwise, lamb, normalization

def compiled(kernel, constants, types, default):
    names = [name for name in kernel.arg_names if name not in constants]
    signature = {**dict.fromkeys(constants, "constexpr"), **dict.fromkeys(names, default), **types}
    source = ASTSource(fn=kernel, signature={name: signature[name] for name in kernel.arg_names}, constexprs=constants)
    triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__)

sizes = dict.fromkeys(("height", "width", "out_height", "out_width", "channels", "num_positions", "num_tiles"), "i32")
block = {"TYPE": tl.float32, "POSITIONS": 16, "CHANNELS": 16}
taps = {"SIZE": 3, "STRIDE": 2, "PADDING": 1, **block}
fused = {**taps, "HAS_PROLOGUE": True, "HAS_AFFINE": True}
of = lambda kernel, given: {name: kind for name, kind in given.items() if name in kernel.arg_names}
for kernel, constants in (
    (depthwise._convolve_kernel, {**fused, "ACTIVATION": "elu"}),
    (depthwise._data_gradient_kernel, {**fused, "HAS_SUMS": True, "ACTIVATION": "gelu"}),
    (depthwise._data_gradient_kernel, {**fused, "HAS_SUMS": True, "ACTIVATION": "relu"}),
    (depthwise._weight_gradient_kernel, {**taps, "COLUMNS": 4}),
    (normalization._combine_kernel, block),
    (block_end._scaled_sum_kernel, block),
    (block_end._gradients_kernel, {**block, "NEEDS_SCALE": True}),
):
    types = of(kernel, {**sizes, **dict.fromkeys(("taps", "partial_sums", "mean", "scale", "of_scale"), "*fp32")})
    compiled(kernel, constants, types, "*bf16")
types = {"owners": "*i32", "facts": "*i64", "addresses": "*i64", "schedule": "*fp64"}
block = {"TYPE": tl.float32, "BLOCK": 512}
decays = {"LOG_BETA1": -0.1, "LOG_BETA2": -0.001, "EPS": 1e-6, **block}
for kernel, constants in (
    (lamb._square_kernel, block),
    (lamb._moment_kernel, {**decays, "MAX_NORM": 1.0}),
    (lamb._apply_kernel, {**decays, "SUMMED": 64}),
):
    compiled(kernel, constants, of(kernel, types), "*fp32")
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert len(done.stdout.split()) == 10
