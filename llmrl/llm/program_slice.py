"""What the requested functions of a program need: models write examples, prints and a main block beside them.

Whatever is left out here cannot change what the functions return, so nothing needs to be rejected for it.
"""

import ast
import re
import symtable
from collections.abc import Collection, Iterator, Sequence

from llmrl.llm.sandbox.scopes import bindings

IMPORTS = {"np": "import numpy as np", "numpy": "import numpy", "math": "import math"}


def tidied(code: str, functions: Collection[str]) -> str:
    """The program with the imports that it forgot, and of its top level only what `functions` need, directly or by way
    of others: imports, constants, helpers. A program that Python cannot read, or that defines none of them, stays as it
    is."""
    try:
        body = ast.parse(code).body
        reads = {id(node): _reads(node) for node in body}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    live = set(functions) & {name for node in body for name in _binds(node)}
    if not live:
        return code
    while more := set().union(*(reads[id(node)] for node in body if _kept(node, live, body))) - live:
        live |= more
    kept = _once([node for node in body if _kept(node, live, body)])
    missing = live - {name for node in kept for name in _binds(node)}
    return "\n".join([*[line for name, line in IMPORTS.items() if name in missing], _text(code, body, kept)])


def _kept(node: ast.stmt, live: set[str], body: Sequence[ast.stmt]) -> bool:
    """Whether a statement of the top level belongs to a program that needs the names `live`."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return True  # a docstring
        case ast.Assert() | ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return False
        case ast.If(test=test) if any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(test)):
            return False
    if live & _binds(node):
        return True
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
        return False
    own = {n.name for n in body if isinstance(n, ast.FunctionDef)}
    data = {name for n in body if isinstance(n, (ast.Assign, ast.AnnAssign)) for name in _binds(n)} & live
    return any(_may_change(part, data, own) for part in ast.walk(node))


def _once(nodes: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements without imports that stand there before: blocks that are joined bring their own."""
    imports = [ast.dump(node) if isinstance(node, (ast.Import, ast.ImportFrom)) else "" for node in nodes]
    return [node for i, node in enumerate(nodes) if not imports[i] or imports[i] not in imports[:i]]


def _may_change(node: ast.AST, data: set[str], own: set[str]) -> bool:
    """Whether this part of a statement may change one of the variables `data`: W[0] = 1, W.append(1), np.put(W, 0, 1).
    The program's `own` functions are not suspected: the gate refuses those that keep something."""
    match node:
        case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
            return _root(node) in data
        case ast.Call(func=ast.Name(id=name)) if name in own or name == "print":
            return False
        case ast.Call(func=function, args=arguments):
            changed = [function] if isinstance(function, ast.Attribute) else []
            return any(_root(part) in data for part in (*changed, *arguments))
    return False


def _root(node: ast.AST) -> str:
    """W, of W[0].T; "" for what does not begin with a name."""
    while isinstance(node, (ast.Subscript, ast.Attribute, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _binds(node: ast.stmt) -> set[str]:
    """The names that a statement binds at the top level."""
    if isinstance(node, (ast.AsyncFunctionDef, ast.ClassDef)):  # refused by the gate, where anything needs them
        return {node.name}
    return {name for name, _, _ in bindings([node])}


def _reads(node: ast.stmt) -> set[str]:
    """The names of the top level that a statement reads, within functions too, by Python's own rules of scope."""
    top = symtable.symtable(ast.unparse(node), "program", "exec")
    found = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    for table in _inner(top):
        found |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return found


def _inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _inner(child)


def _text(code: str, body: Sequence[ast.stmt], kept: Sequence[ast.stmt]) -> str:
    """The kept statements as they were written, with the comments before them; nothing behind the last one where
    something was left out."""
    if len(kept) == len(body):
        return code
    lines = re.split(r"\r\n?|\n", code)  # as Python counts them
    left_out = {number for node in body if node not in kept for number in _lines(node)}
    if left_out & {number for node in kept for number in _lines(node)}:  # both on one line, with a semicolon
        return "\n".join(ast.unparse(node) for node in kept) + "\n"
    end = max(number for node in kept for number in _lines(node))
    text = "\n".join(line for number, line in enumerate(lines[:end], 1) if number not in left_out)
    return text.strip("\n") + "\n"


def _lines(node: ast.stmt) -> range:
    """The numbers of the lines that a statement takes, decorators included."""
    first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
    return range(first, (node.end_lineno or first) + 1)
