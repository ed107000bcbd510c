"""What language models leave out of a program, and what they write behind it."""

import ast
import re
from collections.abc import Collection

from llmrl.llm.sandbox.scopes import bindings

IMPORTS = {"np": "import numpy as np", "numpy": "import numpy", "math": "import math"}


def tidied(code: str, functions: Collection[str]) -> str:
    """A program with the imports that it forgot, and without the example of its use behind the last function, which no
    function depends on. A program that Python cannot read stays as it is."""
    try:
        tree = ast.parse(code)
        used = set().union(*[_free(node) for node in tree.body if isinstance(node, ast.FunctionDef)])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    body = tree.body
    n = max([i for i, node in enumerate(body) if isinstance(node, ast.FunctionDef)], default=-1) + 1
    modules = {path for _, path, _ in bindings(body[:n]) if path}
    behind = {name for name, path, _ in bindings(body[n:]) if path not in modules}
    if 0 < n < len(body) and not behind & {*used, *functions}:
        lines = re.split(r"\r\n?|\n", code)  # as Python counts them
        code = "\n".join(lines[: body[n - 1].end_lineno]) + "\n"
    missing = used - {name for name, _, _ in bindings(body)}
    return "\n".join([*[line for name, line in IMPORTS.items() if name in missing], code])


def _free(function: ast.FunctionDef) -> set[str]:
    """Names that a function reads and does not bind."""
    nodes = list(ast.walk(function))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.arg for node in nodes if isinstance(node, ast.arg)} | {name for name, _, _ in bindings(function.body)}
    return {node.id for node in names} - bound - {node.id for node in names if not isinstance(node.ctx, ast.Load)}
