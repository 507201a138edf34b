"""Networks computed with the kernels while they train on a GPU: their modules stay, with parameters, names and state as they were.

A depthwise convolution is computed in the fastest way for its shape. A batch normalization and an activation in front of one become
part of its kernel, and squeeze-and-excitation, stochastic depth and the addition of the shortcut become one. What may be joined is
seen in how the values of a module's children flow, which tracing its forward shows; a module that cannot be traced keeps its own.
In evaluation mode everything but the convolutions is computed as before.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

from timm.layers import DropPath, SqueezeExcite
from torch import fx, nn

from naxcli.training.kernels.choice import Choices
from naxcli.training.kernels.modules import (
    KERNEL_SIZES,
    KernelConv2d,
    PassedModule,
    ScalingDropPath,
    ScalingSqueezeExcite,
    passed_class,
)


def use_kernels(network: nn.Module, choices: Choices) -> None:
    """Let a network on a GPU be computed with the kernels, where those are faster."""
    uses = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    shared = {module for module, count in uses.items() if count > 1}
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_eligible(module):
            module.__class__ = KernelConv2d
            _keep(module, "kernel_choices", choices)
    for parent in list(network.modules()):
        graph = _graph(parent)
        if graph is None:
            continue
        calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        once = {
            node: child
            for node in graph.nodes
            if node.op == "call_module" and calls[node.target] == 1
            if id(child := parent.get_submodule(str(node.target))) not in shared
        }
        for node, child in once.items():
            if (convolution := _first_convolution(child)) is not None and id(convolution) not in shared:
                _join_before(node, convolution, once)
        for node in graph.nodes:
            if node.op == "call_function" and node.target in (operator.add, operator.iadd):
                _join_addition(node, once, choices)


def restore_modules(network: nn.Module) -> None:
    """Undo `use_kernels`."""
    for module in network.modules():
        if isinstance(module, PassedModule | KernelConv2d | ScalingDropPath | ScalingSqueezeExcite):
            for name in ("kernel_choices", "kernel_before", "kernel_user"):
                module.__dict__.pop(name, None)
            module.__class__ = module.plain_class  # type: ignore[assignment]


def _is_eligible(module: nn.Conv2d) -> bool:
    size, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
    return (
        module.groups == module.in_channels == module.out_channels
        and module.groups > 1
        and module.kernel_size == (size, size)
        and size in KERNEL_SIZES
        and module.stride == (stride, stride)
        and module.dilation == (1, 1)
        and isinstance(padding, int)
        and module.padding == (padding, padding)
        and module.padding_mode == "zeros"
    )


def _first_convolution(module: nn.Module) -> KernelConv2d | None:
    """Return the convolution that a module's input goes into first and alone, if that can be computed with the kernels."""
    while type(module).forward is nn.Sequential.forward and len(children := list(module.children())) > 0:
        module = children[0]
    return module if isinstance(module, KernelConv2d) else None


class _OneLevel(fx.Tracer):
    """Traces the forward of a module, but not those of its children."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _graph(parent: nn.Module) -> fx.Graph | None:
    """Return how values flow between a module's children where some of them may be joined, None where that is not known."""
    children = list(parent.children())
    if not any(isinstance(child, DropPath | SqueezeExcite) or _first_convolution(child) for child in children):
        return None
    try:
        return _OneLevel().trace(parent)
    except Exception:  # noqa: BLE001 - a forward that looks at values raises anything at all
        return None


def _single_input(node: fx.Node, once: dict[fx.Node, nn.Module]) -> tuple[fx.Node, nn.Module] | None:
    """Return the call of a module whose result goes into a node's call and nowhere else."""
    given = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    if not isinstance(given, fx.Node) or given not in once or len(given.users) > 1:
        return None
    return given, once[given]


def _join_before(node: fx.Node, convolution: KernelConv2d, once: dict[fx.Node, nn.Module]) -> None:
    """Leave normalization and activation in front of a convolution to its kernel."""
    activation = norm = None
    found = _single_input(node, once)
    if found is not None and passed_class(found[1]) and not isinstance(found[1], nn.BatchNorm2d):
        activation = found[1]
        found = _single_input(found[0], once)
    if found is not None and isinstance(found[1], nn.BatchNorm2d) and passed_class(found[1]):
        norm = found[1]
    # What an activation does in place may be seen by others, unless it is done to what the normalization made.
    if norm is None and (activation is None or getattr(activation, "inplace", False)):
        return
    passed = tuple(module for module in (norm, activation) if module is not None)
    for module in passed:
        new_class = passed_class(module)
        assert new_class is not None
        module.__class__ = new_class
        _keep(module, "kernel_user", convolution)
    _keep(convolution, "kernel_before", passed)


def _join_addition(node: fx.Node, once: dict[fx.Node, nn.Module], choices: Choices) -> None:
    """Leave scaling by squeeze-and-excitation and stochastic depth to the addition that follows."""
    for operand in node.args:
        if not isinstance(operand, fx.Node) or operand not in once or len(operand.users) > 1:
            continue
        last = once[operand]
        before = _single_input(operand, once)
        scaling = [last] if before is None or type(last) is not DropPath else [before[1], last]
        for module in scaling:
            if type(module) is DropPath:
                module.__class__ = ScalingDropPath
                _keep(module, "kernel_choices", choices)
            elif type(module) is SqueezeExcite:
                module.__class__ = ScalingSqueezeExcite
                _keep(module, "kernel_choices", choices)


def _keep(module: nn.Module, name: str, value: Any) -> None:
    """Set an attribute that is no child of the module, though it may be a module."""
    module.__dict__[name] = value
