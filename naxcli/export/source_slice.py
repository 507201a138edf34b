"""slice_source: the part of a Python file that one of its functions needs, with its comments and imports."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from naxcli.errors import NaxcliError


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSlice:
    """A self-contained part of a file.

    Args:
        docstring: Docstring of the file.
        imports: Import statements in the file's order.
        definitions: Functions, classes and constants in the file's order.
        names: All names that imports and definitions bind at the top level.
    """

    docstring: str
    imports: tuple[str, ...]
    definitions: str
    names: frozenset[str]


@dataclass(slots=True, kw_only=True)
class _Statement:
    """A top-level statement: its lines with the comments directly above, what it binds, and what it needs."""

    node: ast.stmt
    first_line: int
    last_line: int
    binds: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, ast.Import | ast.ImportFrom)


def slice_source(path: Path, entry: str) -> SourceSlice:
    """Return what the function `entry` of a file needs to run elsewhere.

    Args:
        path: Path of a Python file; it is read, not run.
        entry: Name of a function defined at the file's top level.

    Raises:
        NaxcliError: If there is no such function, or what it needs is imported from naxcli or a neighbouring file.
    """
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    docstring = ast.get_docstring(tree) or ""
    body = tree.body[1:] if docstring else tree.body
    statements = list(_statements(body, lines))
    if not any(entry in statement.binds and not statement.is_import for statement in statements):
        raise NaxcliError(
            f"{entry!r} is not defined at the top level of {path}",
            why="the network's builder and everything it uses are copied from the space's own file",
            hint="define it there with def, and name it in Space(...)",
        )
    names = _reachable(entry, statements)
    kept = [statement for statement in statements if _is_kept(statement, names)]
    _refuse_foreign_imports(kept, names, path)
    return SourceSlice(
        docstring=docstring,
        imports=tuple(_import_lines(kept, names)),
        definitions=_definitions([statement for statement in kept if not statement.is_import], lines),
        names=frozenset(set().union(*(statement.binds for statement in kept)) & names | {"annotations"}),
    )


def _statements(body: list[ast.stmt], lines: list[str]) -> Iterator[_Statement]:
    previous_end = 0
    for node in body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        # Comments directly above a definition are about it.
        while first - 1 > previous_end and lines[first - 2].lstrip().startswith("#"):
            first -= 1
        last = node.end_lineno or node.lineno
        statement = _Statement(node=node, first_line=first, last_line=last)
        _note_names(statement)
        previous_end = last
        yield statement


def _note_names(statement: _Statement) -> None:
    node = statement.node
    if isinstance(node, ast.Import | ast.ImportFrom):
        statement.binds = {alias.asname or alias.name.split(".")[0] for alias in node.names}
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        statement.binds = {node.name}
    else:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                statement.binds.add(part.id)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                statement.binds |= {alias.asname or alias.name.split(".")[0] for alias in part.names}
            elif isinstance(part, ast.FunctionDef | ast.ClassDef):
                statement.binds.add(part.name)
        statement.changes = set(_changed_names(node))
    statement.needs = _global_names(node) - statement.binds | _annotation_names(node)


def _changed_names(node: ast.stmt) -> Iterator[str]:
    """Yield names whose objects a statement changes: `TABLE[key] = ...`, `TABLE.update(...)`, `x += 1`."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign):
        targets = [node.target]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        targets = [node.value.func]
    for target in targets:
        root = target
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and (root is not target or isinstance(node, ast.AugAssign)):
            yield root.id


def _global_names(node: ast.stmt) -> set[str]:
    """Return the names that a statement looks up outside its own functions and classes."""
    names: set[str] = set()

    def visit(table: symtable.SymbolTable, is_top: bool) -> None:
        names.update(
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (is_top or symbol.is_global())
        )
        for child in table.get_children():
            visit(child, is_top=False)

    # Unparsed, the statement stands alone: what it does not bind in a function must come from the file.
    visit(symtable.symtable(ast.unparse(node), "<statement>", "exec"), is_top=True)
    return names


def _annotation_names(node: ast.stmt) -> set[str]:
    """Return names used in annotations, which `from __future__ import annotations` hides from the symbol table."""
    annotations = [
        annotation
        for part in ast.walk(node)
        for annotation in (getattr(part, "annotation", None), getattr(part, "returns", None))
        if annotation is not None
    ]
    return {name.id for annotation in annotations for name in ast.walk(annotation) if isinstance(name, ast.Name)}


def _reachable(entry: str, statements: list[_Statement]) -> set[str]:
    reached: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for statement in statements:
            if name in statement.binds or name in statement.changes:
                waiting.extend(statement.needs | (set() if statement.is_import else statement.binds))
    return reached


def _is_kept(statement: _Statement, names: set[str]) -> bool:
    node = statement.node
    if isinstance(node, ast.ImportFrom) and (node.module == "__future__" or "*" in statement.binds):
        return True
    return bool((statement.binds | statement.changes) & names)


def _refuse_foreign_imports(kept: list[_Statement], names: set[str], path: Path) -> None:
    for statement in kept:
        for node in ast.walk(statement.node):
            if isinstance(node, ast.ImportFrom):
                aliases = [alias.asname or alias.name for alias in node.names]
                modules = [("." * node.level) + (node.module or "")]
            elif isinstance(node, ast.Import):
                aliases = [alias.asname or alias.name.split(".")[0] for alias in node.names]
                modules = [alias.name for alias in node.names]
            else:
                continue
            is_used = not statement.is_import or "*" in aliases or bool(set(aliases) & names)
            if is_used and any(module.split(".")[0] in ("naxcli", "") for module in modules):
                raise NaxcliError(
                    f"the network code in {path} cannot leave naxcli: line {node.lineno} imports {', '.join(modules)}",
                    why="an exported file stands alone, so its code may use installed libraries only",
                    hint="define what the network needs in the space file itself; naxcli's Space is for SPACE alone",
                )


def _import_lines(kept: list[_Statement], names: set[str]) -> Iterator[str]:
    for statement in kept:
        node = statement.node
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.split(".")[0]) in names:
                    yield ast.unparse(ast.Import(names=[alias]))
        elif isinstance(node, ast.ImportFrom):
            is_whole = node.module == "__future__"
            aliases = [a for a in node.names if is_whole or a.name == "*" or (a.asname or a.name) in names]
            yield _folded(ast.unparse(ast.ImportFrom(module=node.module, names=aliases, level=0)))


def _folded(line: str) -> str:
    if len(line) <= 120:
        return line
    start, _, names = line.partition(" import ")
    return f"{start} import (\n" + "".join(f"    {name},\n" for name in names.split(", ")) + ")"


def _definitions(kept: list[_Statement], lines: list[str]) -> str:
    parts: list[str] = []
    for previous, statement in zip([None, *kept], kept, strict=False):
        if previous is not None:
            is_block = any(isinstance(s.node, ast.FunctionDef | ast.ClassDef) for s in (previous, statement))
            is_adjacent = statement.first_line == previous.last_line + 1
            parts.append("\n\n\n" if is_block else "\n" if is_adjacent else "\n\n")
        parts.append("\n".join(lines[statement.first_line - 1 : statement.last_line]))
    return "".join(parts)
