"""A program out of a language model's reply, with what it left out and without what it wrote behind it."""

import ast
import hashlib
import itertools
import re
import textwrap
from collections.abc import Collection, Sequence

from llmrl.llm.sandbox import Limits, SandboxFailure
from llmrl.llm.sandbox.scopes import bindings

IMPORTS = {"np": "import numpy as np", "numpy": "import numpy", "math": "import math"}
REPLY_CHARS = 200_000
PROGRAM_CHARS = Limits().source_chars  # a longer one is refused by the sandbox anyway
MOST_BLOCKS = 100  # the last ones of a reply are looked at
MOST_PROGRAMS = 3  # as long as PROGRAM_CHARS are read: Python's parser takes some ms for each
MOST_CUTS = 10  # of prose behind a program without fences
REJECTIONS = {  # names of what is wrong with a reply
    "no_code": "the reply holds no Python",
    "syntax": "Python cannot read it",
    "missing_function": "a function that was asked for is not there",
    "reserved_name": "a helper or a constant has a name that the harness needs",
    "too_long": "the reply, or its program, is longer than what is read",
}


class Rejected(SandboxFailure):
    """The program cannot be used: the `name` of the reason, and a `detail` that may be told to the LLM."""


def extract(reply: str, functions: Sequence[str], reserved: Collection[str] = ()) -> str:
    """The program in a reply: the last fenced block that defines all `functions`; else several blocks joined; else a
    block with the last one of them alone; without fences, the longest part from an import or a function on that is
    Python. With the imports that it forgot, without the example of its use behind it.

    Raises Rejected: no_code, syntax, missing_function, reserved_name, too_long.
    """
    if len(reply) > REPLY_CHARS:
        raise Rejected("too_long", f"the reply has {len(reply)} characters, at most {REPLY_CHARS} are read")
    fenced = re.findall(r"^[ \t]*(?:```|~~~)[^\n`]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", reply, re.DOTALL | re.MULTILINE)
    blocks = [textwrap.dedent(block).strip("\n") for block in fenced[-MOST_BLOCKS:]]
    blocks = [block for block in blocks if re.search(r"^(def|import|from)\s", block, re.MULTILINE)]
    if not (blocks := blocks or _unfenced(reply)):
        what = "both functions" if len(functions) == 2 else " and ".join(functions)
        raise Rejected("no_code", f"there is no Python code; put {what} into one ```python block")
    if blocks := [block for block in blocks if len(block) <= PROGRAM_CHARS]:
        while len("\n\n".join(blocks)) > MOST_PROGRAMS * PROGRAM_CHARS:
            del blocks[0]
    else:
        raise Rejected("too_long", f"a program may have {PROGRAM_CHARS} characters")
    read = [block for block in blocks if _parses(block)]
    for code in [tidied(code, functions) for code in ["\n\n".join(read), *read]][::-1]:
        if len(defined(code, functions, reserved)) == len(functions):
            return code + "\n"
    if broken := [block for block in blocks if block not in read]:  # it may hold what is missing
        _tree(broken[-1])  # raises, and says where
    for code in reversed(read):
        if functions[-1] in defined(code := tidied(code, functions), functions, reserved):
            return code + "\n"
    raise Rejected("missing_function", f"{' and '.join(functions)} must be defined")


def defined(code: str, functions: Sequence[str], reserved: Collection[str] = ()) -> tuple[str, ...]:
    """Which of the functions a program defines at its top level. Raises Rejected: syntax, and reserved_name where it
    binds a name that the harness needs."""
    tree = _tree(code)
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if taken := {name for name, _, _ in bindings(tree.body)} & set(reserved):
        raise Rejected("reserved_name", f"call {min(taken)} otherwise outside of functions, the harness needs it")
    return tuple(name for name in functions if name in names)


def fingerprint(code: str) -> str:
    """A hash of what a program computes: without comments, docstrings, layout and names of local variables."""
    tree = _tree(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a text that nobody uses: a docstring
            text = [n for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
            body[:] = [n for n in body if n not in text] or [ast.Pass()]
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        _number_locals(function)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _number_locals(function: ast.FunctionDef) -> None:
    """Arguments and local variables become <0>, <1>, … in the order of the tree."""
    nodes = list(ast.walk(function))
    names = [n.arg if isinstance(n, ast.arg) else n.id for n in nodes
             if isinstance(n, ast.arg) or (isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))]  # fmt: skip
    number = {name: f"<{i}>" for i, name in enumerate(dict.fromkeys(names))}
    for node in nodes:
        if isinstance(node, ast.arg):
            node.arg = number[node.arg]
        elif isinstance(node, ast.Name):
            node.id = number.get(node.id, node.id)


def _tree(code: str) -> ast.Module:
    try:
        tree = ast.parse(code)
        ast.dump(tree)  # later steps recurse as deeply
        return tree
    except SyntaxError as error:
        raise Rejected("syntax", f"{error.msg} (line {error.lineno})") from None
    except (ValueError, RecursionError, MemoryError) as error:  # zero bytes, or brackets without end
        raise Rejected("syntax", f"{type(error).__name__}: Python cannot read it") from None


def _parses(code: str) -> bool:
    try:
        return bool(_tree(code))
    except Rejected:
        return False


def _unfenced(reply: str) -> list[str]:
    """From the first line that begins a program, as much as Python can read; the rest is prose."""
    lines = textwrap.dedent(reply).splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"(def|import|from)\s+\w+", line)), None)
    if start is None:
        return []
    lines = lines[start:]
    whole = end = sum(n <= PROGRAM_CHARS for n in itertools.accumulate(len(line) + 1 for line in lines))
    for _ in range(MOST_CUTS):
        try:
            ast.parse("\n".join(lines[:end]))
        except SyntaxError as error:  # what follows the error cannot be part of it
            end = min(end, error.lineno or 1) - 1
        except (ValueError, RecursionError, MemoryError):
            break
        else:
            return ["\n".join(lines if end == whole else lines[:end])]  # goes on beyond what a program may have
    return ["\n".join(lines[:whole])]


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
