"""inference_form: the same function with fewer layers, for networks that are trained no more."""

from __future__ import annotations

import copy
from collections import Counter

from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from naxcli.errors import ExitCode, NaxcliError
from naxcli.measure.counts import single_branch_form


def inference_form(network: nn.Module) -> nn.Module:
    """Return a copy whose branches are fused, where its blocks know how, and whose batch norms are part of convolutions.

    A batch normalization disappears where its only input is a convolution that feeds nothing else. Blocks that train as
    several branches and infer as one have a method `fuse`, `reparameterize` or `switch_to_deploy`, as in timm.

    Args:
        network: Network in evaluation mode; it is not changed.

    Raises:
        NaxcliError: If its forward pass depends on values, so that its layers cannot be followed.
    """
    fused = single_branch_form(network)
    fused = copy.deepcopy(network).eval() if fused is network else fused
    try:
        graph = _LayerTracer().trace(fused)
    except (fx.proxy.TraceError, TypeError, ValueError) as error:
        raise NaxcliError(
            "the layers of this network cannot be followed, so its normalizations cannot be folded",
            why=str(error).split("\n", maxsplit=1)[0],
            hint="export it as it is",
            exit_code=ExitCode.FAILED,
        ) from error
    modules = dict(fused.named_modules())
    num_calls = Counter(modules[str(node.target)] for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        convolution, norm = modules[str(source.target)], modules[str(node.target)]
        if not (isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        if norm.running_mean is None:  # it normalizes by the batch at hand
            continue
        if num_calls[convolution] > 1 or num_calls[norm] > 1:  # a layer shared by two places is folded in neither
            continue
        fused.set_submodule(str(source.target), fuse_conv_bn_eval(convolution, norm))
        fused.set_submodule(str(node.target), nn.Identity())
    return fused


class _LayerTracer(fx.Tracer):
    """Follows a network from layer to layer; what happens inside a layer without layers of its own may depend on values."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)
