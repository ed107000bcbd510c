"""Programs as models write them: found in whatever surrounds them, and reduced to what was asked for."""

import json

import pytest

from llmrl.llm.program_slice import tidied
from llmrl.llm.program_text import Rejected, extract, fingerprint
from llmrl.llm.sandbox import check_source
from llmrl.methods.explorllm.program import extract as extract_one

PAIR = ("f", "g")
F = "import numpy as np\n\ndef f(s):\n    return np.append(s, s[0] * W)\n"
G = "def g(x):\n    return float(x[-1])\n"
W = "W = 0.5\n"
PROGRAM = f"{W}{F}\n{G}"
EXAMPLE = "s = np.random.rand(11)\nx = f(s)\nprint('The reward is', g(x))\n"
MAIN = f"if __name__ == '__main__':\n{''.join('    ' + line + chr(10) for line in EXAMPLE.splitlines())}"
PLOTS = (
    f"import matplotlib.pyplot as plt\n{PROGRAM}\ndef main():\n    plt.plot(f(np.zeros(3)))\n    plt.show()\n\nmain()\n"
)
SESSION = "".join(
    f">>> {block[0]}\n" + "".join(f"... {line}\n" for line in [*block[1:], ""])
    for block in (["import numpy as np"], ["W = 0.5"], F.splitlines()[2:], G.splitlines())
)


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}```"


REPLIES = {
    "a main block behind it": fenced(f"{PROGRAM}\n{MAIN}"),
    "a main block between the functions": fenced(f"{W}{F}\n{MAIN}\n{G}"),
    "example calls between the functions": fenced(f"{W}{F}\n{EXAMPLE.partition('print')[0]}\n{G}"),
    "prints and asserts around the functions": fenced(f"print('Begin')\n{PROGRAM}\nassert W == 0.5\nprint(g([W]))\n"),
    "a loop that tries it": fenced(f"{PROGRAM}\nfor i in range(3):\n    print(g(f(np.ones(3) * i)))\n"),
    "an example whose variable is called as a parameter": fenced(f"s = np.random.rand(3)\n{PROGRAM}\nprint(f(s))\n"),
    "a plot in a function of its own": fenced(PLOTS),
    "a test case in a class": fenced(f"import unittest\n{PROGRAM}\nclass T(unittest.TestCase):\n    pass\n"),
    "a seed": fenced(f"import numpy as np\nnp.random.seed(0)\n{PROGRAM}"),
    "no fences": PROGRAM,
    "no fences, and prose around": f"The idea is simple.\n\n{PROGRAM}\nIt returns what matters.",
    "no fences, and prose between the functions": f"First:\n{W}{F}\nThen the reward:\n\n{G}\nThat is all.",
    "prose that begins as an import": f"import the following into your project.\n{PROGRAM}",
    "prose before it that reads as a constant": f"Energy = kinetic + potential energy\n{PROGRAM}",
    "two blocks": f"{fenced(W + F)}\nand\n{fenced(G)}",
    "two blocks, the constant in the second": f"{fenced(F)}\nand\n{fenced(W + G)}",
    "two blocks and one with an example": f"{fenced(W + F)}\n{fenced(G)}\nUse it so:\n{fenced(EXAMPLE)}",
    "two versions": f"{fenced(PROGRAM.replace('0.5', '0.1'))}\nBetter:\n{fenced(PROGRAM)}",
    "a block that breaks off, then a whole one": f"{fenced(PROGRAM[:-12])}\nAgain:\n{fenced(PROGRAM)}",
    "a fence behind the last line": f"```python\n{PROGRAM.rstrip()}```\nThat is all.",
    "prose in the block": fenced(f"Here it is:\n{PROGRAM}"),
    "tildes": f"~~~\n{PROGRAM}~~~",
    "an interactive session": SESSION,
    "an interactive session with output": f"{SESSION}>>> g([1.0])\n1.0\n",
    "an interactive session in a block": fenced(SESSION),
    "JSON": json.dumps({"thought": "def", "code": PROGRAM}),
    "JSON with fences in it": json.dumps({"code": f"So:\n{fenced(PROGRAM)}"}),
    "JSON of two texts": json.dumps([{"name": "f", "code": W + F}, {"name": "g", "code": G}]),
    "JSON with real line breaks": json.dumps({"code": PROGRAM}).replace("\\n", "\n"),
    "JSON in a block": fenced(json.dumps({"code": PROGRAM}) + "\n", "json"),
    "no-break spaces": fenced(PROGRAM.replace("    ", "\u00a0\u00a0\u00a0\u00a0").replace(" = ", "\u202f= ")),
    "a mark of the byte order": "\ufeff" + fenced(PROGRAM.replace("def", "\u200bdef")),
    "line ends of Windows": fenced(PROGRAM).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_the_program_is_found_and_passes_the_gate(reply: str) -> None:
    code = extract(reply, PAIR)
    check_source(code, PAIR)
    assert "print" not in code and "__name__" not in code and "random" not in code
    order = sorted(line for line in code.splitlines() if not line.lstrip().startswith("#"))
    assert [line for line in order if line] == [line for line in sorted(PROGRAM.splitlines()) if line]
    assert extract(fenced(code), PAIR) == code  # nothing more is cut from what is left


def test_explorllm_reads_them_alike() -> None:
    """A real model's place map was rejected for its main block."""
    place = "import numpy as np\ndef place_map(picked, bowl):\n    return np.ones((28, 28))\n"
    main = "if __name__ == '__main__':\n    print(place_map(np.zeros((28, 28, 3)), np.zeros((28, 28, 3))))\n"
    assert extract_one(fenced(f"{place}\n{main}"), "place_map").strip() == place.strip()
    assert extract_one(json.dumps({"code": place}), "place_map").strip() == place.strip()


NUMBERS = "import numpy as np\ndef f(s):\n    return np.sum(s)\n"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("def f(s):\n    return np.sum(s) + math.pi\n",
         "import numpy as np\nimport math\ndef f(s):\n    return np.sum(s) + math.pi\n"),
        ("W = np.ones(3)\ndef f(s):\n    return W\n", "import numpy as np\nW = np.ones(3)\ndef f(s):\n    return W\n"),
        (NUMBERS, None),
        ("def f(s):\n    return np.sum(s)\nimport numpy as np\n", None),
        (f"from math import pi\n{NUMBERS}W = 1\ndef h(s):\n    return W\n", NUMBERS),  # nothing needs these
        ("def f(s):\n    return W\nW = 2\nprint(W)\n", "def f(s):\n    return W\nW = 2\n"),
        ("W = 1\ndef f(s):\n    return W\nW = 2\n", None),
        ("A = 1\nB = A + 1\ndef h(x):\n    return B\ndef f(s):\n    return h(s)\n", None),
        ("A = 1\ndef f(s, a=A):\n    return a\n", None),
        ("def h(x): return x\nF = lambda s: h(s)\ndef f(s):\n    return [F(x) for x in s]\n", None),
        ("def f(s):\n    def inner():\n        return W\n    return inner()\nW = 1\n", None),
        ("def h(s):\n    return s\nf = h\n", None),  # the function itself
        ('"""Says what it is for."""\ndef f(s):\n    """And how."""\n    return 1\n', None),
        ("s = open('x').read()\ndef f(s):\n    return s\n", "def f(s):\n    return s\n"),  # another s
        ("def f(s):\n    return 1\n\n\n@g\nclass A:\n    pass\n\nf(1)\n", "def f(s):\n    return 1\n"),
        ("def f(s):\r\n    return 1\r\nf(1)\r\n", "def f(s):\n    return 1\n"),
        ("W = 1; print(W)\ndef f(s):\n    return W\n", "W = 1\ndef f(s):\n    return W\n"),
        ("def f(s):\n    return 1\n# An example:\nf(2)\n", "def f(s):\n    return 1\n"),
        ("W = 1\nprint(W)\n", None),
        ("def f(:\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_models_leave_out_and_write_beside(written: str, read: str | None) -> None:
    assert tidied(written, ["f"]) == (written if read is None else read)


@pytest.mark.parametrize(
    "statement",
    ["W.append(1)", "W[0] = 2", "del W[0]", "W += [1]", "np.put(W, 0, 1)", "for i in range(3):\n    W.append(i)",
     "if True:\n    W = [1]", "with np.errstate(all='ignore'):\n    W[0] = 1"],
)  # fmt: skip
def test_what_changes_a_constant_is_not_cut_away(statement: str) -> None:
    """Without it the function would return something else: the gate says that it may not stand there."""
    code = f"import numpy as np\nW = [0]\n{statement}\ndef f(s):\n    return np.sum(s) + W[0]\n"
    assert tidied(code, ["f"]) == code


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("no_code", "No program comes to my mind."),
        ("no_code", json.dumps({"code": "I define nothing"})),
        ("syntax", fenced(PROGRAM.replace("):", ")"))),
        ("syntax", fenced(PROGRAM[:-4])),
        ("syntax", f"Here:\n{PROGRAM[:-4]}"),
        ("missing_function", fenced(W + F)),
        ("missing_function", f"{W}{F}\nThat is all."),
        ("forbidden_import", fenced(PROGRAM.replace("import numpy as np", "import numpy as np\nimport os")
                                    .replace("s[0] * W", "s[0] * os.getpid()"))),
        ("forbidden_syntax", fenced(PROGRAM + "class T:\n    pass\ndef f(s):\n    return T()\n")),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_name_all_the_same(name: str, reply: str) -> None:
    from llmrl.llm.sandbox import SandboxFailure

    with pytest.raises(SandboxFailure) as caught:
        check_source(extract(reply, PAIR), PAIR)
    assert caught.value.name == name
    assert isinstance(caught.value, Rejected) is not name.startswith("forbidden")


def test_programs_that_differ_in_what_was_cut_are_the_same() -> None:
    assert fingerprint(extract(fenced(f"{PROGRAM}\n{MAIN}"), PAIR)) == fingerprint(extract(fenced(PROGRAM), PAIR))
