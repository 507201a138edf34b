"""The blocks of a network, found while it runs, and the network without one of them.

Source: Veit, Wilber, Belongie, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", NeurIPS 2016: a block
is deleted by leaving its shortcut alone, and nothing is trained again.

A module is a residual block if it adds, in its own `forward`, something to a shortcut: to its input (`identity`), or to what one
of its layers makes of its input (`projection`; of two such layers the one with fewer parameters); and if its output has the shape of
that sum, as an output with more channels holds more than the sum. Of a network without any, blocks are the outermost modules with
weights whose output has the shape of their input (`module`); containers of modules are looked into. A space may name its blocks
instead (`Space.blocks`); those that keep the shape and do not add to their input are left out whole. Of modules that pass several
states on in a tuple, the first is input and output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from naxcli.errors import NaxcliError

IDENTITY, PROJECTION, MODULE = "identity", "projection", "module"
ADDITIONS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block by its name in `named_modules`. `kind` says what stays when it is deleted: its shortcut, or its input."""

    name: str
    kind: str
    num_params: int


def find_blocks(network: nn.Module, images: Tensor, declared: Sequence[str] | None = None) -> list[Block]:
    """Return the blocks of a network in the order of its modules.

    Args:
        network: Network in evaluation mode.
        images: A batch that it is run on once.
        declared: Names of the blocks that the space declares, None to find them.

    Raises:
        NaxcliError: If a declared block is not in the network, or cannot be deleted.
    """
    with torch.no_grad(), _Watch(network) as watch:
        network(images)
    modules = dict(network.named_modules())
    kinds = {name: kind for name, module in modules.items() if name and (kind := watch.kinds.get(module))}
    keeps_shape = [name for name, module in modules.items() if name and module in watch.keeping_shape]
    if declared is not None:
        # A space's block that keeps the shape goes as a whole: sums within it need be no residual ones.
        kinds = {
            name: MODULE if name in keeps_shape and kinds.get(name) != IDENTITY else kinds.get(name, MODULE)
            for name in declared
            if _is_deletable(name, modules, deletable={*kinds, *keeps_shape})
        }
    elif not kinds:
        kinds = dict.fromkeys(_outermost(keeps_shape, modules), MODULE)
    return [
        Block(name=name, kind=kinds[name], num_params=sum(part.numel() for part in module.parameters()))
        for name, module in modules.items()
        if name in kinds
    ]


def _is_deletable(name: str, modules: dict[str, nn.Module], *, deletable: set[str]) -> bool:
    if name not in modules:
        raise NaxcliError(f"the space's block {name!r} is not in the network", why="`blocks` returned that name")
    if name not in deletable:
        raise NaxcliError(
            f"the space's block {name!r} cannot be deleted",
            why="it has no shortcut, and its output has another shape than its input",
            hint="leave it out of what `blocks` returns",
        )
    return True


def _outermost(names: Sequence[str], modules: dict[str, nn.Module]) -> list[str]:
    """Return those of the modules that hold weights and are not inside another one, containers aside."""
    chosen: list[str] = []
    for name in names:
        module = modules[name]
        holds_modules = isinstance(module, nn.Sequential) and any(list(child.children()) for child in module)
        has_weights = any(parameter.ndim > 1 for parameter in module.parameters())
        if has_weights and not holds_modules and not any(name.startswith(f"{outer}.") for outer in chosen):
            chosen.append(name)
    return chosen


@contextlib.contextmanager
def deleted(network: nn.Module, block: Block) -> Iterator[None]:
    """Let the network run without a block while the context lasts."""
    module = network.get_submodule(block.name)
    if block.kind != MODULE:
        with _Watch(network, deleted=module):
            yield
        return
    handle = module.register_forward_hook(_pass_on)
    try:
        yield
    finally:
        handle.remove()


def _pass_on(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Return a module's input in the place of its output; states beside it stay those that the module passes on."""
    state = _state(inputs[0])
    return (state, *output[1:]) if isinstance(output, tuple) else state


def _state(value: Any) -> Tensor | None:
    """Return what a module gets or returns: a tensor, or the first of a tuple of them."""
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, Tensor) else None


@dataclass(slots=True)
class _Call:
    """A module that is running. `stream` is its input and what was added to it so far; `made` what its layers made of its input.

    `kind` is what the shortcut is that it has added to, None where it has added nothing.
    """

    module: nn.Module
    stream: list[Tensor]
    made: list[tuple[int, Tensor]] = field(default_factory=list)
    kind: str | None = None


class _Watch(TorchFunctionMode):
    """Sees a network's modules add to their shortcuts, and leaves the addition out of the one that is deleted.

    Tensors are followed by identity: between two modules nothing else says which of them is the same one.

    Attributes:
        kinds: What the shortcut is of each module that has one.
        keeping_shape: Modules whose output has the shape of their input.
    """

    def __init__(self, network: nn.Module, *, deleted: nn.Module | None = None) -> None:
        super().__init__()
        self.kinds: dict[nn.Module, str] = {}
        self.keeping_shape: set[nn.Module] = set()
        self._network = network
        self._deleted = deleted
        self._calls: list[_Call] = []
        self._handles: list[Any] = []

    def __enter__(self) -> _Watch:
        for module in self._network.modules():
            self._handles.append(module.register_forward_pre_hook(self._begin))
            self._handles.append(module.register_forward_hook(self._end))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        self._calls.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = self._calls[-1] if self._calls else None
        shortcut = None
        if call is not None and getattr(func, "__name__", "") in ADDITIONS:
            shortcut = self._shortcut(call, args)
        if shortcut is None or call is None:
            return func(*args, **(kwargs or {}))
        result = shortcut if call.module is self._deleted else func(*args, **(kwargs or {}))
        call.stream.append(result)
        return result

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        is_tensor = bool(inputs) and isinstance(inputs[0], Tensor)
        self._calls.append(_Call(module, [inputs[0]] if is_tensor else []))

    def _end(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        call = self._calls.pop()
        before, after = _state(inputs[0]) if inputs else None, _state(output)
        if before is None or after is None:
            return
        if after.shape == before.shape:
            self.keeping_shape.add(module)
        if call.kind is not None and after.shape == call.stream[-1].shape:
            self.kinds.setdefault(module, call.kind)
        if not (isinstance(inputs[0], Tensor) and isinstance(output, Tensor)):
            return
        outer = self._calls[-1] if self._calls else None
        if outer is not None and outer.stream and inputs[0] is outer.stream[0]:
            outer.made.append((sum(parameter.numel() for parameter in module.parameters()), output))

    @staticmethod
    def _shortcut(call: _Call, summands: Sequence[Any]) -> Tensor | None:
        """Return the summand that is the module's shortcut, None where the sum is no residual one."""
        pair = [item for item in summands[:2] if isinstance(item, Tensor) and not isinstance(item, nn.Parameter)]
        if len(pair) < 2 or pair[0].shape != pair[1].shape:
            return None
        for item in pair:
            if any(item is known for known in call.stream):
                call.kind = call.kind or IDENTITY
                return item
        made = [(num_params, item) for num_params, output in call.made for item in pair if item is output]
        if not made:
            return None
        call.kind = call.kind or PROJECTION
        return min(made, key=lambda found: found[0])[1]
