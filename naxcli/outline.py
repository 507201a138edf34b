"""Outline: what a space file says of its configurations, without its networks and the libraries that those need.

Importing torch and timm takes seconds and half a gigabyte, and a search needs neither: its workers build the networks. An
outline runs the statements of a file but for those that need a heavy library, by themselves or through a name that does, and
for those that depend on what such a statement may have changed. What SPACE says of networks is loaded with the whole file when
it is first used. Where SPACE's configurations themselves depend on it there is no outline; and workers, which load the whole
file, refuse a space that differs from the parent's (`naxcli.space.space_digest`).
"""

from __future__ import annotations

import ast
import symtable
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

HEAVY_LIBRARIES = frozenset({"torch", "torchvision", "timm"})
# Arguments of Space that only a process that evaluates trials calls.
DEFERRED = ("build", "evaluate", "variants", "zero_cost")
PREFIX = "naxcli_deferred_"
# Leaving out a statement that uses these changes nothing for another one.
_UNCHANGING_LIBRARIES = sys.stdlib_module_names | {"ConfigSpace", "naxcli"}


def outline_of(source: str) -> ast.Module | None:
    """Return a file's statements without its networks; None where there is nothing to leave out, or no telling what that would change.

    In its SPACE the arguments of `DEFERRED` that need a heavy library are the names `PREFIX + argument`.
    """
    tree = ast.parse(source)
    found = _space_call(tree)
    if found is None or any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)):
        return None
    assignment, call = found
    hides_annotations = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in tree.body
    )
    statements = [_Statement.of(node, hides_annotations) for node in tree.body if node is not assignment]
    heavy = _heavy_names(statements)
    for keyword in call.keywords:
        if keyword.arg in DEFERRED and _loaded_names(keyword.value) & heavy:
            keyword.value = ast.copy_location(ast.Name(id=PREFIX + keyword.arg, ctx=ast.Load()), keyword.value)
    left_out = [statement.node for statement in statements if statement.is_heavy(heavy)]
    if not left_out or _loaded_names(assignment) & heavy:
        return None
    tree.body = [node for node in tree.body if node not in left_out]
    return tree


def _space_call(tree: ast.Module) -> tuple[ast.Assign, ast.Call] | None:
    """Return `SPACE = Space(name=...)` if that is how the file makes its space, once and with keywords only."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "SPACE" and isinstance(node.ctx, ast.Store)
    ]
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and node.targets[0] in found):
            continue
        call = node.value
        if not (len(found) == 1 and isinstance(call, ast.Call) and not call.args):
            return None
        if ast.unparse(call.func).split(".")[-1] == "Space" and all(keyword.arg for keyword in call.keywords):
            return node, call
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """A top-level statement: the names it binds, may look up now or later, and may look up or call when it runs."""

    node: ast.stmt
    binds: frozenset[str]
    needs: frozenset[str]
    uses: frozenset[str]
    calls: frozenset[str]
    modules: frozenset[str]  # top-level packages that it imports

    @classmethod
    def of(cls, node: ast.stmt, hides_annotations: bool) -> _Statement:
        needs = _loaded_names(node, hides_annotations=hides_annotations)
        running = list(_running(node))
        names = {part.id for part in running if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        functions = [part.func for part in running if isinstance(part, ast.Call)]
        functions += [function for part in running for function in getattr(part, "decorator_list", [])]
        called = {part.id for function in functions for part in ast.walk(function) if isinstance(part, ast.Name)}
        return cls(
            node=node, binds=frozenset(_bound_names(node)), needs=frozenset(needs), uses=frozenset(names & needs),
            calls=frozenset(called), modules=frozenset(_imported_packages(node)),
        )  # fmt: skip

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    def is_heavy(self, heavy: set[str]) -> bool:
        """Return whether a statement imports a heavy library, or needs or changes what one is behind."""
        touched = self.needs if self.is_import else self.needs | self.binds
        return bool(self.modules & HEAVY_LIBRARIES or touched & heavy)


def _heavy_names(statements: list[_Statement]) -> set[str]:
    """Return the names that need a heavy library, or that a statement that does may have changed."""
    unchanging = {
        name for item in statements if item.is_import and item.modules <= _UNCHANGING_LIBRARIES for name in item.binds
    }
    bound = {name for item in statements for name in item.binds}
    heavy: set[str] = set()
    size = -1
    while size != len(heavy):
        size = len(heavy)
        for statement in statements:
            if statement.is_heavy(heavy):
                changed = statement.uses | _needs_of(statement.calls, statements)
                heavy |= statement.binds | (changed & bound - unchanging)
    return heavy


def _needs_of(called: frozenset[str], statements: list[_Statement]) -> set[str]:
    """Return what the file's own functions may look up when they are called, the functions that they call included."""
    waiting, seen = set(called), set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for statement in statements:
            if name in statement.binds and not statement.is_import:
                waiting |= statement.needs - seen
    return seen


def _imported_packages(node: ast.stmt) -> Iterator[str]:
    """Yield the packages that a statement imports when it runs; an import inside of a function runs later."""
    for part in _running(node):
        if isinstance(part, ast.Import):
            yield from (alias.name.split(".")[0] for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            yield (part.module or "").split(".")[0]


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a statement does: not the bodies of functions."""
    yield node
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _running(child)


def _bound_names(node: ast.stmt) -> Iterator[str]:
    for part in _running(node):
        if isinstance(part, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in part.names)
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store | ast.Del):
            yield part.id


def _loaded_names(node: ast.AST, *, hides_annotations: bool = False) -> set[str]:
    """Return the file's names that a statement or expression may look up, or assign as `global`, in its functions' bodies too."""
    names: set[str] = set()

    def visit(table: symtable.SymbolTable, is_top: bool) -> None:
        for symbol in table.get_symbols():
            is_changed = symbol.is_declared_global() and symbol.is_assigned()
            if is_changed or (symbol.is_referenced() and (is_top or symbol.is_global())):
                names.add(symbol.get_name())
        for child in table.get_children():
            visit(child, is_top=False)

    text = ("from __future__ import annotations\n" if hides_annotations else "") + ast.unparse(node)
    visit(symtable.symtable(text, "<statement>", "exec"), is_top=True)
    return names


class DeferredVariants(Mapping[str, Callable[..., Any]]):
    """A space's variants, loaded when they are asked for."""

    def __init__(self, load: Callable[[], Mapping[str, Callable[..., Any]]]) -> None:
        self._load = load

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())
