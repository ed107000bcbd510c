"""A program out of a language model's reply, with what it left out and without what it wrote beside it."""

import ast
import hashlib
import itertools
import json
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from llmrl.llm.program_slice import tidied
from llmrl.llm.sandbox import Limits, SandboxFailure
from llmrl.llm.sandbox.scopes import bindings

REPLY_CHARS = 200_000
PROGRAM_CHARS = Limits().source_chars  # a longer one is refused by the sandbox anyway
MOST_BLOCKS = 100  # the last ones of a reply are looked at
MOST_PROGRAMS = 3  # as long as PROGRAM_CHARS are read: Python's parser takes some ms for each
MOST_PIECES = 5  # of a program with prose between its functions, without fences
MOST_CUTS = 5  # of the prose behind such a piece
JSON_DEPTH = 4  # of lists and objects around a program
REJECTIONS = {  # names of what is wrong with a reply
    "no_code": "the reply holds no Python",
    "syntax": "Python cannot read it",
    "missing_function": "a function that was asked for is not there",
    "reserved_name": "a helper or a constant has a name that the harness needs",
    "too_long": "the reply, or its program, is longer than what is read",
}
_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", re.DOTALL | re.MULTILINE)
_STATEMENT = re.compile(r"def\s+\w+\s*\(|import\s+\w|from\s+[\w.]+\s+import\b")
_CONSTANT = re.compile(r"[A-Za-z_]\w*\s*(?::[^=]+)?=[^=]|#|\s*$")
_PROMPT = re.compile(r"^>>> ?(?:def|import|from)\b", re.MULTILINE)
_WIDE = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"  # spaces
_SPACES = str.maketrans(_WIDE, " " * len(_WIDE), "\u200b\u200c\u200d\u2060\ufeff")  # the latter have no width


class Rejected(SandboxFailure):
    """The program cannot be used: the `name` of the reason, and a `detail` that may be told to the LLM."""


def extract(reply: str, functions: Sequence[str], reserved: Collection[str] = ()) -> str:
    """The program in a reply.

    The last fenced block that defines all `functions`; else several blocks joined; else a block with the last one of
    them alone. Without fences: what Python can read from an import, a constant or a function on, in pieces where prose
    stands between them. A block may be a text in JSON, or the record of an interactive session (>>>). The program comes
    with the imports that it forgot and without what its functions do not need, see program_slice.

    Raises Rejected: no_code, syntax, missing_function, reserved_name, too_long.
    """
    if len(reply) > REPLY_CHARS:
        raise Rejected("too_long", f"the reply has {len(reply)} characters, at most {REPLY_CHARS} are read")
    if not (blocks := _blocks(reply)):
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
            return code.rstrip("\n") + "\n"
    if broken := [block for block in blocks if block not in read]:  # it may hold what is missing
        _tree(broken[-1])  # raises, and says where
    for code in reversed(read):
        if functions[-1] in defined(code := tidied(code, functions), functions, reserved):
            return code.rstrip("\n") + "\n"
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
        return _tree(code) is not None
    except Rejected:
        return False


def _blocks(reply: str) -> list[str]:
    """The parts of a reply that look like programs, in order."""
    reply = reply.translate(_SPACES)
    if inside := _in_json(reply):
        reply = "\n\n".join(text if "```" in text else f"```\n{text}\n```" for text in inside)
    reply = re.sub(r"(?<=\S)```[ \t]*$", "\n```", reply, flags=re.MULTILINE)  # a fence behind the last line
    blocks = []
    for block in _FENCED.findall(reply)[-MOST_BLOCKS:]:
        for text in _in_json(block) or [block]:
            code = _typed(textwrap.dedent(text).strip("\n"))
            blocks += [code] if re.search(r"^(def|import|from)\s", code, re.MULTILINE) else []
    if any(len(block) > PROGRAM_CHARS or _parses(block) for block in blocks):
        return blocks
    return _unfenced(reply) or blocks


def _in_json(text: str) -> list[str]:
    """The programs in what is JSON as a whole: its texts that define something."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return []
    try:
        found = json.loads(text, strict=False)  # many hold real line breaks
    except (ValueError, RecursionError):
        return []
    texts = itertools.islice(_texts(found, JSON_DEPTH), MOST_BLOCKS)
    return [text for text in texts if re.search(r"^\s*def\s", text, re.MULTILINE)]


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part, depth - 1)


def _typed(block: str) -> str:
    """What was typed in the record of an interactive session; any other text as it is."""
    if not _PROMPT.search(block):
        return block
    return "\n".join(line[4:] for line in block.splitlines() if line[:3] in (">>>", "..."))


def _unfenced(reply: str) -> list[str]:
    """The pieces of a reply that Python can read, each from a line on that begins a program; the rest is prose. Then
    the first of such lines, with all behind it, from which it can read nothing."""
    lines = textwrap.dedent(_typed(reply)).splitlines()
    found: list[str] = []
    broken: list[str] = []
    at = 0
    for _ in range(MOST_PIECES):
        begin = next((i for i in range(at, len(lines)) if _STATEMENT.match(lines[i])), None)
        if begin is None:
            break
        first = begin
        while first > at and _CONSTANT.match(lines[first - 1]) and _parses(lines[first - 1]):
            first -= 1
        if (end := _readable(lines, first)) > begin:
            found.append("\n".join(lines[first:end]).strip("\n"))
        else:
            broken.append("\n".join(lines[begin:]))
        at = max(end, begin + 1)
    return found + broken[:1]


def _readable(lines: Sequence[str], first: int) -> int:
    """The end of the longest part from line `first` on that Python can read, as far as a program may go; all of the
    lines where it goes beyond that; `first` where it can read nothing."""
    lengths = itertools.accumulate(len(line) + 1 for line in lines[first:])
    whole = end = first + sum(1 for _ in itertools.takewhile(lambda n: n <= PROGRAM_CHARS, lengths))
    for _ in range(MOST_CUTS):
        try:
            ast.parse("\n".join(lines[first:end]))
        except SyntaxError as error:  # what follows the error cannot be part of it
            end = min(end, first + (error.lineno or 1)) - 1
        except (ValueError, RecursionError, MemoryError):
            break
        else:
            return len(lines) if end == whole else end
        if end <= first:
            break
    return first
