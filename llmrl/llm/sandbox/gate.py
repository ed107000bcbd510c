"""The syntax gate: reads a generated program before it runs, and says what an LLM can do better.

It keeps out what is no arithmetic: files, the interpreter's insides, random numbers, state kept between calls. It is a
first filter with good messages, no security boundary: that is the process (lesr.md, section 8.1 and 8.2).
"""

import ast
import builtins
import string
from collections.abc import Iterator, Sequence

from llmrl.llm.sandbox.limits import Limits, SandboxFailure

MODULES = {"math", "numpy", "numpy.linalg", "numpy.fft"}


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never, whatever the program calls so.
FORBIDDEN_NAMES = words(
    "eval exec compile open __import__ getattr setattr delattr hasattr globals locals vars input breakpoint exit quit "
    "help memoryview"
)
ALLOWED_BUILTINS = words(
    "abs all any bool complex dict divmod enumerate filter float format frozenset int isinstance iter len list map max "
    "min next pow print range reversed round set slice sorted str sum tuple zip True False None NotImplemented "
    "Ellipsis ArithmeticError AssertionError AttributeError Exception FloatingPointError IndexError KeyError "
    "LookupError OverflowError RuntimeError StopIteration TypeError ValueError ZeroDivisionError"
)
FORBIDDEN_ATTRIBUTES = {
    "reads or writes files": words(
        "load save savez savez_compressed loadtxt savetxt genfromtxt fromregex fromfile tofile memmap open_memmap dump "
        "dumps DataSource ctypes ctypeslib f2py testing test lib core compat distutils npyio source info "
        "show_config show_runtime get_include"
    ),
    "draws random numbers: the same state must give the same values": {"random", "rand", "randn", "default_rng"},
    "changes numpy for the calls to come": words(
        "seterr seterrcall setbufsize set_printoptions set_string_function setflags"
    ),
    "leads into the interpreter": words(
        "gi_frame gi_code gi_yieldfrom cr_frame cr_code ag_frame ag_code f_back f_globals f_locals f_builtins f_code "
        "tb_frame tb_next func_globals func_code co_code co_consts mro with_traceback format_map os sys builtins "
        "subprocess socket shutil pickle importlib inspect warnings threading signal pathlib"
    ),
}
# Nodes that arithmetic needs; everything else has no place: classes, global, yield, async, match, del, ...
STATEMENTS = (
    ast.FunctionDef, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If, ast.With,
    ast.Raise, ast.Try, ast.Assert, ast.Import, ast.ImportFrom, ast.Expr, ast.Pass, ast.Break, ast.Continue,
)  # fmt: skip
EXPRESSIONS_NOT = (ast.Yield, ast.YieldFrom, ast.Await)
# Calls that may make a constant at the top of the program: their results cannot be changed.
CONSTANT_CALLS = words("float int bool str tuple range frozenset abs min max round len sum")


def check_source(code: str, functions: Sequence[str], limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
    """Raises SandboxFailure with the first thing found, as (name, detail); the detail has the line."""
    if len(code) > limits.source_chars:
        raise SandboxFailure("too_long", f"{len(code)} characters, at most {limits.source_chars} are allowed")
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise SandboxFailure("syntax", error.msg + (f" (line {error.lineno})" if error.lineno else "")) from None
    except (ValueError, RecursionError, MemoryError) as error:  # half a letter, too many brackets
        why = str(error) or type(error).__name__  # older Pythons tell of null bytes here
        raise SandboxFailure("syntax", f"cannot be read: {why}") from None
    try:
        bound = set(_bound_names(tree))
        for node in ast.walk(tree):
            _check_node(node, bound)
        _check_top_level(tree)
    except RecursionError:
        raise SandboxFailure("syntax", "an expression is nested too deeply") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name in functions:
        if name not in defined:
            raise SandboxFailure("missing_function", f"no function {name} is defined at the top level")


def _refuse(name: str, node: ast.AST, detail: str) -> None:
    line = getattr(node, "lineno", None)
    raise SandboxFailure(name, detail + (f" (line {line})" if line else ""))


def _bound_names(tree: ast.AST) -> Iterator[str]:
    """All names that the program gives to something, wherever."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _check_node(node: ast.AST, bound: set[str]) -> None:
    match node:
        case ast.Import() | ast.ImportFrom():
            _check_import(node)
        case ast.Name(id=name) | ast.arg(arg=name):
            _check_name(name, node, bound)
        case ast.Attribute():
            _check_attribute(node)
        case ast.FunctionDef():
            _check_name(node.name, node, bound)
            if node.decorator_list:
                _refuse("forbidden_syntax", node, "decorators are not allowed")
            _check_defaults(node.args)
        case ast.Lambda():
            _check_defaults(node.args)
        case ast.ExceptHandler(name=str(name)):
            _check_name(name, node, bound)
        case ast.keyword(arg=str(name)) if name.startswith("__"):
            _refuse("forbidden_name", node.value, f"{name} is not allowed")
        case ast.While(test=ast.Constant(value=value)) if value:
            _refuse("forbidden_syntax", node, "an endless loop: use for … in range(…)")
        case ast.stmt() if not isinstance(node, STATEMENTS):
            what = {"ClassDef": "class", "AsyncFunctionDef": "async"}.get(
                type(node).__name__, type(node).__name__.lower()
            )
            _refuse("forbidden_syntax", node, f"{what} is not allowed")
        case ast.expr() if isinstance(node, EXPRESSIONS_NOT):
            _refuse("forbidden_syntax", node, f"{type(node).__name__.lower()} is not allowed")


def _check_import(node: ast.Import | ast.ImportFrom) -> None:
    modules = [node.module or "."] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for module in modules:
        if module not in MODULES or getattr(node, "level", 0):
            random = " It draws random numbers." if "random" in module else ""
            _refuse("forbidden_import", node, f"import of {module}: only numpy and math are allowed.{random}")
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            if alias.name == "*":
                _refuse("forbidden_import", node, f"import * from {node.module}: say which names")
            _check_attribute_name(alias.name, node)
        if alias.asname:
            _check_name(alias.asname, node, {alias.asname})


def _check_name(name: str, node: ast.AST, bound: set[str]) -> None:
    strange = name in vars(builtins) and name not in ALLOWED_BUILTINS and name not in bound
    if name in FORBIDDEN_NAMES or strange or (name.startswith("__") and name.endswith("__")):
        _refuse("forbidden_name", node, f"{name} is not allowed")


def _check_attribute(node: ast.Attribute) -> None:
    if not isinstance(node.ctx, ast.Load):
        _refuse("forbidden_state", node, f"an assignment to the attribute .{node.attr}: nothing may be kept there")
    if node.attr == "format":  # "{0.attribute}".format(x) reads attributes without naming them in the program
        text = node.value.value if isinstance(node.value, ast.Constant) else None
        if not isinstance(text, str) or _reads_attributes(text):
            _refuse("forbidden_name", node, ".format is allowed on plain texts without attributes: use an f-string")
    _check_attribute_name(node.attr, node)


def _check_attribute_name(name: str, node: ast.AST) -> None:
    if name.startswith("_"):
        _refuse("forbidden_name", node, f".{name} is not allowed: no attributes that begin with _")
    for reason, names in FORBIDDEN_ATTRIBUTES.items():
        if name in names:
            _refuse("forbidden_name", node, f".{name} is not allowed: it {reason}")


def _reads_attributes(text: str) -> bool:
    try:
        fields = [(field or "", spec or "") for _, field, spec, _ in string.Formatter().parse(text)]
    except ValueError:
        return True
    return any("." in field or "[" in field or (spec and _reads_attributes(spec)) for field, spec in fields)


def _check_defaults(arguments: ast.arguments) -> None:
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        if default is not None and not _is_constant(default):
            _refuse("forbidden_state", default, "a default argument that is no constant is kept between calls")


def _check_top_level(tree: ast.Module) -> None:
    """Imports, functions and constants. Whatever else stands there could keep something from call to call."""
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(value=value) | ast.AnnAssign(value=value):
                if value is not None and not _is_constant(value):
                    told = "a list, an array or the like outside of functions can change between calls: "
                    _refuse("forbidden_state", node, told + "make it inside of the function, or use a tuple")
            case _:
                _refuse(
                    "forbidden_syntax", node, "outside of functions only imports, constants and functions may stand"
                )


def _is_constant(node: ast.expr) -> bool:
    """Whether the expression's value can never change: numbers, texts, tuples, and arithmetic with them."""
    match node:
        case ast.Constant() | ast.Name() | ast.Lambda():
            return True  # a name at the top level stands for a constant, a function or a module
        case ast.Attribute(value=ast.Name()):
            return True  # math.pi, np.pi, np.float64
        case ast.Tuple() | ast.UnaryOp() | ast.BinOp() | ast.Compare() | ast.BoolOp() | ast.IfExp():
            return all(_is_constant(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
        case ast.Call(func=function, args=arguments, keywords=[]):
            named = isinstance(function, ast.Name) and function.id in CONSTANT_CALLS
            of_math = isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "math"
            return (named or of_math) and all(_is_constant(argument) for argument in arguments)
    return False
