"""What the sandbox's gate lets through and what it refuses, and that a program that passed keeps nothing."""

import math
import re

import numpy as np
import pytest
from generated_programs import LINES, MAPS, STATE_PROGRAMS

from llmrl.llm.sandbox import FAILURES, Sandbox, SandboxFailure, check_source
from llmrl.methods.explorllm import scripted as scripted_explorllm
from llmrl.methods.lesr.program import ENTRY

STATE = np.linspace(-1.0, 1.0, 17)
HEAD = "import math\nimport numpy as np\n"


def function(line: str) -> str:
    return f"{HEAD}def f(s):\n    " + line.replace("; ", "\n    ") + "\n"


def run(code: str) -> dict:
    space: dict = {}
    exec(code, space)
    return space


def refusal(code: str) -> SandboxFailure:
    with pytest.raises(SandboxFailure) as caught:
        check_source(code, [])
    assert caught.value.name in FAILURES and caught.value.detail
    return caught.value


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATE_PROGRAMS)
def test_programs_as_models_write_them_pass_and_run(name):
    code = STATE_PROGRAMS[name]
    check_source(code, ["revise_state", "intrinsic_reward"])
    here = run(code)
    updated = np.asarray(here["revise_state"](STATE.copy()), np.float64)
    assert updated.ndim == 1 and len(updated) > 17 and np.isfinite(updated).all()
    np.testing.assert_array_equal(updated[:17], STATE)
    assert math.isfinite(here["intrinsic_reward"](updated))


@pytest.mark.parametrize("line", LINES)
def test_lines_as_models_write_them_pass_and_run(line):
    check_source(function(line), ["f"])
    assert np.isfinite(np.asarray(run(function(line))["f"](STATE.copy()), np.float64)).all()


def test_programs_about_pictures_pass():
    check_source(MAPS, ["affordance"])
    crop = np.zeros((28, 28, 3), np.uint8)
    crop[5:20, 5:20] = 200
    assert run(MAPS)["affordance"](crop).shape == (28, 28)
    for _, body in scripted_explorllm.PICKS.values():
        check_source(f"{scripted_explorllm.MASK}\n\n{body}", ["affordance"])


# --- what does not ----------------------------------------------------------------------------------------------------

REFUSED = {
    # through numpy into Python
    "return np.polynomial.polyutils.operator.attrgetter('__globals__')(f)": "forbidden_name",
    "return np.polynomial.polyutils": "forbidden_name",
    "return np.lib.format.open_memmap": "forbidden_name",
    "return np.ma.core.inspect": "forbidden_name",
    "return np.linalg.linalg.functools": "forbidden_name",
    "from numpy import polynomial; return s": "forbidden_name",
    "from numpy.polynomial import polyutils; return s": "forbidden_import",
    "import numpy.lib.format as x; return s": "forbidden_import",
    "import numpy as m; return m.random.normal()": "forbidden_name",
    "m = np; return m.random.normal()": "forbidden_name",
    "return [np][0].random.normal()": "forbidden_name",
    "return (lambda m: m.random)(np)": "forbidden_name",
    "return np.testing.assert_equal(s, s)": "forbidden_name",
    "return np.ctypeslib": "forbidden_name",
    "return np.f2py": "forbidden_name",
    "return np.emath.sqrt(s)": "forbidden_name",
    "return np.sctypeDict": "forbidden_name",
    # names of Python
    "return __import__('os')": "forbidden_name",
    "return getattr(s, 'T')": "forbidden_name",
    "return hash(s.tobytes())": "forbidden_name",
    "return id(s)": "forbidden_name",
    "return type('X', (), {})": "forbidden_name",
    "return super()": "forbidden_name",
    "return object()": "forbidden_name",
    "return vars()": "forbidden_name",
    "return __builtins__": "forbidden_name",
    "return _np.random.normal()": "forbidden_name",
    "_given.add(1); return s": "forbidden_name",
    # attributes
    "return f.__globals__": "forbidden_name",
    "return f'{f.__globals__}'": "forbidden_name",
    "return f'{s:{f.__code__}}'": "forbidden_name",
    "return (x for x in s).gi_frame": "forbidden_name",
    "return '{0.T}'.format(s)": "forbidden_name",
    "return str.format('{0.T}', s)": "forbidden_name",
    "return s.ctypes": "forbidden_name",
    "return s.data": "forbidden_name",
    "return s.base": "forbidden_name",
    "return s.view(np.int64)": "forbidden_name",
    "s.tofile('x'); return s": "forbidden_name",
    "s.dump('x'); return s": "forbidden_name",
    "s.setflags(write=True); return s": "forbidden_name",
    "s.flags.writeable = True; return s": "forbidden_state",
    "s.resize(100); return s": "forbidden_name",
    "return s.getfield(np.int8)": "forbidden_name",
    # clocks and chance
    "return np.datetime64('x')": "forbidden_name",
    "return np.array('now', dtype='f8')": "forbidden_name",
    "return np.array(['Today'])": "forbidden_name",
    "return np.zeros(3, 'M8[s]')": "forbidden_name",
    "return s.astype('<M8[us]')": "forbidden_name",
    "return s.astype('datetime64[s]')": "forbidden_name",
    "return s.astype(b'M8[s]')": "forbidden_name",
    "return np.zeros(3, 'f8, M8[s]')": "forbidden_name",
    "return np.zeros(3, [('a', '>M8[s]')])": "forbidden_name",
    "return np.dtype('M8[s]')": "forbidden_name",
    "return np.random.default_rng(0).normal()": "forbidden_name",
    # memory that nobody wrote
    "return np.ndarray((3,))": "forbidden_name",
    "return (lambda t: t((3,)))(np.ndarray)": "forbidden_name",
    "isinstance = lambda a, b: b((3,)); return isinstance(1, np.ndarray)": "forbidden_name",
    "return isinstance(s, (lambda t: t((3,)))(np.ndarray))": "forbidden_name",
    "return np.divide(s, s, where=s > 0)": "forbidden_state",
    "return np.sqrt(s, where=s > 0, out=None)": "forbidden_state",
    "g = np.sqrt; return g(s, where=s > 0)": "forbidden_state",
    "return np.sqrt(s, **{'where': s > 0})": "forbidden_syntax",
    "return np.nditer(s)": "forbidden_name",
    "return np.dtype([('a', 'i1'), ('b', 'f8')], align=True)": "forbidden_name",
    "return np.lib.stride_tricks.as_strided(s, (99,), (8,))": "forbidden_name",
    # state
    "np.typecodes['x'] = 1; return s": "forbidden_state",
    "return np.typecodes.setdefault('n', [])": "forbidden_name",
    "np.polynomial.Polynomial.domain[0] = 5; return s": "forbidden_state",
    "return np.polynomial.Polynomial.domain": "forbidden_name",
    "np.sin = np.cos; return s": "forbidden_state",
    "np.pi += 1; return s": "forbidden_state",
    "f.n = 1; return s": "forbidden_state",
    "for f.n in s: pass": "forbidden_state",
    "with np.errstate() as f.n: pass": "forbidden_state",
    "np.r_.x = 1; return s": "forbidden_state",
    "np.mgrid[0:3][0] = 1; return s": "forbidden_state",
    "np.seterr(all='raise'); return s": "forbidden_name",
    "np.set_printoptions(precision=1); return s": "forbidden_name",
    "np.random.seed(0); return s": "forbidden_name",
    "def g(a, n=[]): n.append(a); return g(s)": "forbidden_state",
    "g = lambda a, n={}: n; return s": "forbidden_state",
    "global N; return s": "forbidden_syntax",
    "class A: pass": "forbidden_syntax",
    "yield s": "forbidden_syntax",
    "match s: \n        case A: return A": "forbidden_syntax",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_leads_out_of_arithmetic_is_refused(line):
    assert refusal(function(line)).name == REFUSED[line]


@pytest.mark.parametrize(
    "code, told",
    [
        ("def g(type):\n    return type\ndef f(s):\n    return type(s)", "type is not allowed (line 4)"),
        ("def g(s):\n    open = s\n    return open\ndef f(s):\n    return open('x')", "open is not allowed (line 5)"),
        ("def f(s):\n    return [eval for eval in s] + [eval('1')]", "eval is not allowed"),
        ("def f(s):\n    return [open for open in open]", "open is not allowed"),
        ("def f(s):\n    return [x for x in s if (lambda open: open)(x)] + [open]", "open is not allowed"),
        ("def f(s):\n    return (lambda eval: eval)(eval)", "eval is not allowed"),
        ("def f(s, x=open):\n    open = 1\n    return open", "open is not allowed"),
        ("def f(s: (lambda type: type)(type)):\n    return s", "type is not allowed"),
        ("def f(s):\n    def g(open):\n        return open\n    return open", "open is not allowed"),
        ("def f(s):\n    try: s = s\n    except ValueError as open: return open\ndef g(s):\n    return open",
         "open is not allowed (line 5)"),
        ("x = open\nopen = 3\ndef f(s):\n    return x", "open is Python's own"),
        ("def len(x):\n    return 0\ndef f(s):\n    return s", "len is Python's own"),
        ("import math as sum\ndef f(s):\n    return s", "sum is Python's own"),
        ("import numpy as np\nnp = 3\ndef f(s):\n    return s", "np is an import's name"),
        ("import numpy as np\nfrom math import pi as np\ndef f(s):\n    return s", "np is an import's name"),
        ("def f(s):\n    import numpy as np\n    return s\ndef g(s):\n    return np.sin(s)", "np is not defined"),
        ("def f(s):\n    [y := x for x in s]\n    return y\ndef g(s):\n    return y", "y is not defined"),
        ("def f(s):\n    return [x for x in s] and x", "x is not defined"),
        ("def f(__builtins__):\n    return 1", "__builtins__ is not allowed"),
        ("def f(s):\n    __import__ = s\n    return s", "__import__ is not allowed"),
        ("import numpy as __loader__\ndef f(s):\n    return s", "__loader__ is not allowed"),
    ],
)  # fmt: skip
def test_a_name_is_what_its_scope_says(code, told):
    found = refusal(code)
    assert found.name == "forbidden_name" and told in found.detail


@pytest.mark.parametrize(
    "code",
    [
        "def f(np):\n    return np.T",  # a parameter, whatever the module calls so
        "import numpy as np\ndef f(s):\n    np = s\n    return np.T",
        "import numpy as np\ndef f(s):\n    return [np.T for np in s]",
        "def f(s):\n    return [y := x for x in s] and y",
        "def f(s):\n    def g():\n        return later\n    later = s\n    return g()",
        "def f(s):\n    return CONSTANT\nCONSTANT = 3",
        "def f(s):\n    return (lambda open, *eval, exec=1, **vars: (open, eval, exec, vars))(s)",
        "def f(s):\n    def open(x):\n        return x\n    return open(s)",
        "def f(s, /, type, *, id=3):\n    return type + id",
    ],
)  # fmt: skip
def test_a_local_may_be_called_as_it_likes(code):
    check_source(code, ["f"])


@pytest.mark.parametrize(
    "line",
    [
        "N = iter((1, 2))", "N = (1, iter([2]))", "N = [iter((1, 2))]", "N = [f()]", "N = {1: map(len, ())}",
        "N = [x for x in zip((1, 2))]", "N = [(x for x in (1, 2))]", "N = np.split(np.zeros(4), 2)", "N = [y := 1]",
        "N = np.zeros(4).flat", "N = np.vectorize(len)", "N = np.array(f())", "N = (y := [])", "N = list(map(f, ()))",
        "L = []\ndef g(s, x=L): return x", "L = []\ndef g(s, x=(1, L)): return x", "L = [1]\nN = lambda x=L: x",
        "N: (M := []) = 3", "def g(s: (M := [])): return M", "def g(s) -> [M := [] for _ in (1,)]: return M",
        "N = (lambda: [])()", "N = (x for x in (1, 2))", "N = 'a'.split()", "A.x = 3", "A[0] = 3",
        "A += 1", "for i in (1, 2): N = i", "N = np.errstate()",
    ],
)  # fmt: skip
def test_nothing_that_can_change_stands_outside_of_functions(line):
    code = f"import numpy as np\nA = np.zeros(3)\ndef f():\n    return 1\n{line}\n"
    assert refusal(code).name in ("forbidden_state", "forbidden_syntax")


LISTS = [
    "N = [1, 2]", "N = {}", "N = {1}", "N = [x for x in (1, 2)]", "N = (1, [2])", "N = tuple([[1], [2]])",
    "N = max([1], [2])", "N = sum([[1]], [])", "N: list = []", "N = dict(a=1)", "N = [0.1] * 3 + [2.0]",
    "N = list(range(2, 8))", "N = {i: 0.1 * i for i in range(3) if i}", "N = {'w': [1, (2, [3])], 'f': np.sin}",
    "N = slice([1], 2)", "N = np.s_[[1]:2]",
    "L = [1, 2]\nN = {'a': L, 'b': L[1:]}", "N = [A, A[0]]",
    "N = [lambda x: x, len]", "N, M = [1], {2}",
    "N = M = [1]",
    "N = sorted([2, 1])",
    "N = tuple(0.1 * i for i in range(3))", "N = [*range(3)]", "N = {**{1: 2}}", "N = slice(2, 5)",
    "N = np.array([[i] for i in range(3)])",
]  # fmt: skip


@pytest.mark.parametrize("line", LISTS)
def test_lists_of_constants_may_stand_outside_of_functions(line):
    code = f"import numpy as np\nA = np.zeros(3)\n{line}\ndef f(s):\n    return N\n"
    check_source(code, ["f"])
    run(code)


def test_a_list_outside_of_functions_is_made_anew_for_each_call():
    """However deep, under whatever name: what a call wrote there the next one does not see."""
    code = f"""{HEAD}
SEEN, COUNTS, PAIR, SET = [], {{"n": [0.0], "m": 1.0}}, (1, [2.0]), {{1.0}}
ALIAS = {{"seen": SEEN}}
ROWS = [np.zeros(2)]
SLICE = slice([], 0)
def note(x):
    SEEN.append(x)
    COUNTS["n"].append(x)
    COUNTS.update(m=x)
    PAIR[1].extend([x, x])
    SET.add(x)
    list.append(ALIAS["seen"], x)
    ROWS[0].fill(x)
    SLICE.start.append(x)
def look():
    kept = len(SEEN), len(COUNTS["n"]), COUNTS["m"], len(PAIR[1]), len(SET), len(ALIAS["seen"]), len(SLICE.start)
    return kept, ROWS[0].copy()
def f(s):
    note(s[0])
    note(s[1])
    return look()
def g(s):
    return look()
"""
    with Sandbox(code, ["f", "g"]) as sandbox:
        for _ in range(2):
            kept, row = sandbox.call("f", STATE)
            assert kept.tolist() == [4, 3, STATE[1], 5, 3, 4, 2] and row.tolist() == [STATE[1]] * 2
            kept, row = sandbox.call("g", STATE)
            assert kept.tolist() == [0, 1, 1, 1, 1, 0, 0] and row.tolist() == [0, 0]


# --- what passed keeps nothing ----------------------------------------------------------------------------------------

CONSTANTS = f"""{HEAD}
A = np.array([[1.0, 2.0], [3.0, 4.0]])
V, T = (A[0], A[1:]), A.T
F, S = frozenset((lambda x=np.zeros(2): x,)), np.s_[np.zeros(2) : 3]
L = [{{"f": lambda x=np.zeros(2): x}}]
def held(x=np.zeros(2), *, y=A[0]):
    return x, y, [f() for f in F][0], S.start, L[0]["f"]()
"""
WRITES = [
    "A[0] = 9", "A.sort()", "A.fill(9)", "A.put(0, 9)", "A.partition(1)", "A += 9", "A.flat[0] = 9", "A.T[0] = 9",
    "A.real[0] = 9", "A[0][1] = 9", "A.reshape(-1)[0] = 9", "np.copyto(A, 9)", "np.put(A, 0, 9)",
    "np.place(A, A > 0, 9)", "np.putmask(A, A > 0, 9)", "np.add(A, 9, out=A)", "np.add.at(A, 0, 9)",
    "np.fill_diagonal(A, 9)", "np.nan_to_num(A / 0, copy=False, nan=9, out=A)", "A.clip(8, 9, out=A)",
    "A.sum(out=A[0, 0:1])", "np.asarray(A)[0] = 9", "x = np.atleast_2d(A)\n    x[0] = 9", "x = V[0]\n    x[0] = 9",
    "x = V[1]\n    x[0] = 9", "x = T\n    x[0] = 9", "x = held()[0]\n    x[0] = 9", "x = held()[1]\n    x[0] = 9",
    "x = held()[2]\n    x[0] = 9", "x = held()[3]\n    x[0] = 9", "x = held()[4]\n    x[0] = 9",
    "x = np.lib.stride_tricks.sliding_window_view(A, (1, 1), writeable=True)\n    x[0] = 9",
    "x = np.frombuffer(A)\n    x[0] = 9", "for x in np.broadcast_arrays(A, A): x[0] = 9",
    "x = np.require(A, requirements='C')\n    x[0] = 9", "x = np.einsum('ij->ji', A)\n    x[0] = 9",
    "x = np.diagonal(A)\n    x[0] = 9", "x = np.real(A)\n    x[0] = 9", "x = next(iter(A))\n    x[0] = 9",
    "x = np.array(A, copy=False)\n    x[0] = 9", "x = np.ravel(A)\n    x[0] = 9", "np.modf(A, A, A)",
]  # fmt: skip


def test_an_array_outside_of_functions_cannot_be_written():
    """Whatever a function tries, gate or not: the array, its parts, what holds it, and default arguments are as
    before."""
    tries = "\n".join(f"def write_{i}(s):\n    {line}\n    return s" for i, line in enumerate(WRITES))
    tries = re.sub(r"^    A \+= 9$", "    x = A\n    x += 9", tries, flags=re.MULTILINE)
    look = "def look(s):\n    return A, V[0], V[1], T, *held()\n"
    with Sandbox(CONSTANTS + tries + "\n" + look, ["look"], gate=False) as sandbox:
        before = sandbox.call("look", STATE)
        for number, line in enumerate(WRITES):
            try:
                sandbox.call(f"write_{number}", STATE)
            except SandboxFailure as failure:
                assert failure.name == "raised", line
            for a, b in zip(before, sandbox.call("look", STATE), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=line)


def test_an_array_of_lists_outside_of_functions_is_refused():
    code = f"{HEAD}A = np.array([[1], [2, 3]], 'O')\ndef f(s):\n    A[0].append(1)\n    return len(A[0])\n"
    check_source(code, ["f"])  # a type that a text names: found when it runs
    with pytest.raises(SandboxFailure, match="raised: TypeError: an array of objects"):
        Sandbox(code, ["f"])


def test_an_empty_array_is_empty_each_time():
    code = f"""{HEAD}from numpy import empty
def f(s):
    found = [np.empty(n).sum() + np.empty_like(s[:n]).sum() + empty(n).sum() for n in range(17)]
    found = found + [np.pad(s[:n], 2, mode="empty")[-2:].sum() for n in range(17)]
    for n in range(17):
        x = np.full(n, 7.0)
    return np.array(found)
"""
    with Sandbox(code, ["f"]) as sandbox:
        for _ in range(3):
            np.testing.assert_array_equal(sandbox.call("f", STATE)[0], np.zeros(34))


def test_the_harness_counts_as_defined_by_nobody():
    """What LESR's part of the child defines is no name of the program."""
    for name in re.findall(r"^(?:def |import numpy as )?(_\w+)", ENTRY, re.MULTILINE):
        assert refusal(function(f"return {name}")).detail == f"{name} is not defined (line 4)"
