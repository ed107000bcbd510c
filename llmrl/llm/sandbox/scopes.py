"""Which names a program binds where, by Python's rules: a parameter called `open` is just a local of its function.

A scope is the module, a function, a lambda or a comprehension; classes, global and nonlocal are refused before.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
Binding = tuple[str, str, ast.AST]  # name, dotted path of the module (or what is in it) that it stands for or "", where


@dataclass(frozen=True)
class Scope:
    names: dict[str, str]  # each name bound here, and the dotted path that an import gives it, else ""
    outer: "Scope | None" = None  # None: this is the module's

    def of(self, name: str) -> "Scope | None":
        """The scope whose name this is; None where the program does not bind it: it is Python's own, if anyone's."""
        if name in self.names:
            return self
        return self.outer.of(name) if self.outer else None

    def path(self, node: ast.AST, modules: Iterable[str]) -> str:
        """The dotted path of a module, or of what is in one: "numpy.linalg.norm" for la.norm; "" for other values."""
        match node:
            case ast.Name(id=name):
                scope = self.of(name)
                return scope.names[name] if scope else ""
            case ast.Attribute(value=value, attr=attr):
                inner = self.path(value, modules)
                return f"{inner}.{attr}" if inner in modules else ""
        return ""


def bindings(nodes: Iterable[ast.AST | None]) -> Iterator[Binding]:
    """What these nodes bind in the scope that they stand in, without the scopes inside of them."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name):
                yield name, "", node
                yield from bindings(outside(node))
            case ast.Lambda():
                yield from bindings(outside(node))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():  # := binds outside of them
                inside = [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.comprehension)]
                yield from bindings([*inside, *[n for c in node.generators for n in (c.iter, *c.ifs)]])
            case ast.Import(names=aliases):
                for alias in aliases:
                    first = alias.name.partition(".")[0]
                    yield alias.asname or first, alias.name if alias.asname else first, node
            case ast.ImportFrom(module=module, names=aliases):
                for alias in aliases:
                    yield alias.asname or alias.name, f"{module}.{alias.name}", node
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name, "", node
            case ast.ClassDef():  # refused, wherever it stands
                pass
            case ast.AST():
                if isinstance(node, ast.ExceptHandler) and node.name:
                    yield node.name, "", node
                yield from bindings(ast.iter_child_nodes(node))


def parameters(node: ast.FunctionDef | ast.Lambda) -> list[tuple[str, str, ast.arg]]:
    found = node.args
    every = [*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg, found.kwarg]
    return [(argument.arg, "", argument) for argument in every if argument is not None]


def outside(node: ast.FunctionDef | ast.Lambda) -> list[ast.expr]:
    """A function's parts that belong to the scope around it: defaults and annotations."""
    return [part for part in (*defaults(node), *annotations(node)) if part is not None]


def defaults(node: ast.FunctionDef | ast.Lambda) -> list[ast.expr]:
    return [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]


def annotations(node: ast.FunctionDef | ast.Lambda) -> list[ast.expr]:
    if isinstance(node, ast.Lambda):
        return []
    found = [*[argument.annotation for _, _, argument in parameters(node)], node.returns]
    return [annotation for annotation in found if annotation is not None]


def body(node: ast.FunctionDef | ast.Lambda) -> Sequence[ast.AST]:
    return node.body if isinstance(node, ast.FunctionDef) else [node.body]
