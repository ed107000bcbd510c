"""The syntax gate: reads a generated program before it runs, and says what an LLM can do better.

It lets arithmetic through: what allowed.py lists, and what the program itself defines (scopes.py says what a name
stands for). Nothing may be kept from one call to the next. It is a first filter with good messages, no security
boundary: that is the process (docs/papers/lesr.md).
"""

import ast
import builtins
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from llmrl.llm.sandbox import allowed, scopes
from llmrl.llm.sandbox.limits import Limits, SandboxFailure

# Nodes that arithmetic needs; everything else has no place: classes, global, yield, async, match, ...
STATEMENTS = (
    ast.FunctionDef, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If, ast.With,
    ast.Raise, ast.Try, ast.Assert, ast.Import, ast.ImportFrom, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.Delete,
)  # fmt: skip
EXPRESSIONS_NOT = (ast.Yield, ast.YieldFrom, ast.Await)
WORDS = {"ClassDef": "class", "AsyncFunctionDef": "async"}
# Texts that make a clock of numpy: np.array("now", dtype="M8[s]").
CLOCK = re.compile(r"(?i:\s*(now|today)\s*)|.*datetime64.*|(.*,)?\s*\d*[<>=|]?M8.*", re.DOTALL)


def check_source(code: str, functions: Sequence[str], limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
    """Raises SandboxFailure with the first thing found, as (name, detail); the detail has the line."""
    if len(code) > limits.source_chars:
        raise SandboxFailure("too_long", f"{len(code)} characters, at most {limits.source_chars} are allowed")
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        why = error.msg or "cannot be read"
        raise SandboxFailure("syntax", why + (f" (line {error.lineno})" if error.lineno else "")) from None
    except (ValueError, RecursionError, MemoryError) as error:  # half a letter, too many brackets
        why = str(error) or type(error).__name__  # older Pythons tell of null bytes here
        raise SandboxFailure("syntax", f"cannot be read: {why}") from None
    try:
        gate = _Gate(tree)
        gate.visit(tree)
        gate.check_top_level(tree)
    except RecursionError:
        raise SandboxFailure("syntax", "an expression is nested too deeply") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name in functions:
        if name not in defined:
            raise SandboxFailure("missing_function", f"no function {name} is defined at the top level")


def _refuse(name: str, node: ast.AST, detail: str) -> None:
    line = getattr(node, "lineno", None)
    raise SandboxFailure(name, detail + (f" (line {line})" if line else ""))


class _Gate(ast.NodeVisitor):
    """Visits each node once, in the scope that it stands in."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = self.scope = self._scope(scopes.bindings(tree.body), None)
        self._changing: set[str] = set()  # names outside of functions that stand for lists and the like
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and not self._is_constant(node.value):
                self._changing |= {name for name, _, _ in scopes.bindings([node])}

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt) and not isinstance(node, STATEMENTS):
            what = WORDS.get(type(node).__name__, type(node).__name__.lower())
            _refuse("forbidden_syntax", node, f"{what} is not allowed")
        if isinstance(node, EXPRESSIONS_NOT):
            _refuse("forbidden_syntax", node, f"{type(node).__name__.lower()} is not allowed")
        super().visit(node)

    # --- scopes -------------------------------------------------------------------------------------------------------

    def _scope(self, found: Iterable[scopes.Binding], outer: scopes.Scope | None) -> scopes.Scope:
        """A new scope with these names. Each of them is checked here."""
        names: dict[str, str] = {}
        for name, path, node in found:
            if name.startswith("__") and name.endswith("__"):
                _refuse("forbidden_name", node, f"{name} is not allowed")
            if outer is None and name in vars(builtins):
                _refuse("forbidden_name", node, f"{name} is Python's own: outside of functions, call it otherwise")
            if names.setdefault(name, path) != path:
                _refuse("forbidden_name", node, f"{name} is an import's name: call the other one otherwise")
        return scopes.Scope(names, outer)

    @contextmanager
    def _inside(self, found: Iterable[scopes.Binding]) -> Iterator[None]:
        outer = self.scope
        self.scope = self._scope(found, outer)
        yield
        self.scope = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.Lambda) -> None:
        if getattr(node, "decorator_list", ()) or getattr(node, "type_params", ()):
            _refuse("forbidden_syntax", node, "decorators and type parameters are not allowed")
        for default in scopes.defaults(node):
            if not self._is_constant(default):
                _refuse("forbidden_state", default, "a default argument that is no constant is kept between calls")
            self.visit(default)
        for annotation in scopes.annotations(node):
            self._visit_type(annotation)
        with self._inside([*scopes.parameters(node), *scopes.bindings(scopes.body(node))]):
            for part in scopes.body(node):
                self.visit(part)

    visit_Lambda = visit_FunctionDef

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, scopes.COMPREHENSIONS):
            super().generic_visit(node)
            return
        first, *rest = node.generators
        self.visit(first.iter)  # in the scope around
        targets = [n for generator in node.generators for n in scopes.bindings([generator.target])]
        with self._inside(targets):
            inner = [first.target, *first.ifs, *rest]
            for part in [*inner, *[n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.comprehension)]]:
                self.visit(part)

    # --- names and attributes -----------------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        scope = self.scope.of(node.id)
        if scope is not None:
            self._check_path(scope.names[node.id], node)
        elif node.id not in allowed.BUILTINS:
            known = node.id in vars(builtins) or node.id.startswith("__")
            _refuse("forbidden_name", node, f"{node.id} is not {'allowed' if known else 'defined'}")

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        if self.scope.of(node.target.id) is self.module:  # in an annotation
            _refuse("forbidden_syntax", node, ":= is not allowed outside of functions")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            _refuse("forbidden_state", node, f"an assignment to the attribute .{node.attr}: nothing may be kept there")
        if path := self._path(node):
            self._check_path(path, node)
            return
        self.visit(node.value)
        if node.attr == "format":  # "{0.attribute}".format(x) reads attributes without naming them in the program
            text = node.value.value if isinstance(node.value, ast.Constant) else None
            if not isinstance(text, str) or _reads_attributes(text):
                _refuse("forbidden_name", node, ".format is allowed on plain texts without attributes: use an f-string")
        if node.attr not in allowed.ATTRIBUTES:
            _refuse("forbidden_name", node, f".{node.attr} is not allowed{allowed.reason(node.attr)}")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            root: ast.AST = node
            while isinstance(root, (ast.Subscript, ast.Attribute, ast.Call)):
                root = root.func if isinstance(root, ast.Call) else root.value
            scope = self.scope.of(root.id) if isinstance(root, ast.Name) else None
            if not isinstance(root, ast.Name) or scope is None or scope is self.module or scope.names[root.id]:
                _refuse("forbidden_state", node, "an assignment to an item: only of what the function itself named")
        self.generic_visit(node)

    def _path(self, node: ast.AST) -> str:
        return self.scope.path(node, allowed.MODULES)

    def _check_path(self, path: str, node: ast.AST) -> None:
        """Of a module, or of what is in one; "" is the program's own."""
        if path in allowed.MODULES:
            _refuse("forbidden_name", node, f"{path} is a module: write which function of it you mean")
        if path == allowed.UNNAMED:
            _refuse("forbidden_name", node, f"{path} may stand in annotations and isinstance alone")
        if path and path not in allowed.DOTTED:
            _refuse("forbidden_name", node, f"{path} is not allowed{allowed.reason(path)}")

    def _visit_type(self, node: ast.AST) -> None:
        """An annotation, or what isinstance compares with: np.ndarray may be named here."""
        match node:
            case ast.Tuple(elts=parts):
                for part in parts:
                    self._visit_type(part)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right) | ast.Subscript(value=left, slice=right):
                self._visit_type(left)
                self._visit_type(right)
            case _ if self._path(node) != allowed.UNNAMED:
                self.visit(node)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_module(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._check_module("." * node.level + (node.module or ""), node)
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if alias.name == "*":
                _refuse("forbidden_import", node, f"import * from {node.module}: say which names")
            if path not in allowed.DOTTED | allowed.MODULES:
                _refuse("forbidden_name", node, f"{path} is not allowed{allowed.reason(path)}")

    def _check_module(self, module: str, node: ast.AST) -> None:
        if module not in allowed.MODULES:
            random = " It draws random numbers." if "random" in module else ""
            _refuse("forbidden_import", node, f"import of {module}: only numpy and math are allowed.{random}")

    def visit_Call(self, node: ast.Call) -> None:
        named = {keyword.arg for keyword in node.keywords}
        if None in named:
            _refuse("forbidden_syntax", node, "** in a call is not allowed: write the arguments out")
        if strange := [name for name in named if name and name.startswith("__")]:
            _refuse("forbidden_name", node, f"{strange[0]} is not allowed")
        given = {keyword.arg for keyword in node.keywords if not _is_none(keyword.value)}
        if "where" in given and "out" not in given and self._called(node) not in allowed.TAKE_WHERE:
            told = "where= without out= leaves the other places undefined: add out=np.zeros_like(…), or use np.where"
            _refuse("forbidden_state", node, told)
        self.visit(node.func)
        name = getattr(node.func, "id", "")
        compares = name == "isinstance" and self.scope.of(name) is None
        for number, argument in enumerate(node.args):
            (self._visit_type if compares and number == 1 else self.visit)(argument)
        for keyword in node.keywords:
            self.visit(keyword.value)

    def _called(self, node: ast.Call) -> str:
        return node.func.attr if isinstance(node.func, ast.Attribute) else self._path(node.func).rpartition(".")[2]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_type(node.annotation)
        for part in (node.target, node.value):
            if part is not None:
                self.visit(part)

    def visit_Constant(self, node: ast.Constant) -> None:
        text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        if isinstance(text, str) and CLOCK.fullmatch(text):
            _refuse("forbidden_name", node, f"the text {text[:30]!r} is not allowed: dates know the time")

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring may say anything
            self.visit(node.value)

    def visit_While(self, node: ast.While) -> None:
        if isinstance(node.test, ast.Constant) and node.test.value:
            _refuse("forbidden_syntax", node, "an endless loop: use for … in range(…)")
        self.generic_visit(node)

    # --- outside of functions -----------------------------------------------------------------------------------------

    def check_top_level(self, tree: ast.Module) -> None:
        """Imports, functions and constants. Whatever else stands there could keep something from call to call."""
        for node in tree.body:
            match node:
                case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.Expr(value=ast.Constant()):
                    pass
                case ast.Assign(value=value) | ast.AnnAssign(value=value):
                    if value is not None and not self._is_constant(value, lists=True):
                        told = "outside of functions stand numbers, texts, tuples, lists, dictionaries and np.array(…) "
                        _refuse("forbidden_state", node, told + "alone: make this one in the function")
                case _:
                    told = "outside of functions only imports, constants and functions may stand"
                    _refuse("forbidden_syntax", node, told)

    def _is_constant(self, node: ast.AST, lists: bool = False) -> bool:
        """Whether the expression's value can never change: numbers, texts, tuples, arrays (child.py makes them
        read-only), and arithmetic with them. `lists`: or lists, dictionaries and sets of them (child.py makes them anew
        for each call)."""
        match node:
            case ast.Constant() | ast.Lambda():
                return True
            case ast.Name(id=name):  # at the top level it stands for such a value, a function or a module
                return lists or name not in self._changing
            case ast.Attribute(value=value, attr=attr):  # math.pi, np.float64, GOAL.T
                of_value = attr in allowed.CONSTANT_ATTRIBUTES and self._is_constant(value, lists)
                return bool(self._path(node)) or of_value
            case ast.List() | ast.Set() | ast.Dict() | ast.ListComp() | ast.SetComp() | ast.DictComp() if not lists:
                return False
            case ast.Call(func=function, args=arguments, keywords=keywords):
                name = self._path(function) or getattr(function, "id", "")
                given = [*arguments, *[keyword.value for keyword in keywords]]
                lists_given = lists or "." in name  # numpy and math keep no list
                known = name in allowed.CONSTANT_CALLS or (lists and name in allowed.LIST_CALLS)
                return known and all(self._is_argument(argument, lists_given) for argument in given)
            case ast.Tuple() | ast.UnaryOp() | ast.BinOp() | ast.Compare() | ast.BoolOp() | ast.IfExp() | \
                    ast.Subscript() | ast.Slice() | ast.List() | ast.Set() | ast.Dict() | ast.ListComp() | \
                    ast.SetComp() | ast.DictComp() | ast.comprehension() | ast.Starred():  # fmt: skip
                return self._are_constant(node, lists)
        return False

    def _are_constant(self, node: ast.AST, lists: bool) -> bool:
        """Whether the parts of an expression are."""
        parts = [n for n in ast.iter_child_nodes(node) if isinstance(n, (ast.expr, ast.comprehension))]
        return all(self._is_constant(part, lists) for part in parts)

    def _is_argument(self, node: ast.expr, lists: bool) -> bool:
        generates = isinstance(node, ast.GeneratorExp)  # used up by the call
        return self._are_constant(node, lists) if generates else self._is_constant(node, lists)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _reads_attributes(text: str) -> bool:
    try:
        fields = [(field or "", spec or "") for _, field, spec, _ in string.Formatter().parse(text)]
    except ValueError:
        return True
    return any("." in field or "[" in field or (spec and _reads_attributes(spec)) for field, spec in fields)
