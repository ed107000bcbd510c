"""A program that gives another result for the same state is found: before training, during it, and at its end."""

import json

import numpy as np
import pytest
from test_lesr_parts import GOOD, check
from test_lesr_wrapper import PENDULUM

from llmrl.llm.sandbox import Sandbox, SandboxFailure
from llmrl.methods.lesr import program as checks
from llmrl.methods.lesr import wrapper
from llmrl.methods.search import purity
from llmrl.methods.search.purity import EVERY, Asked


class Ungated(Sandbox):
    """The gate keeps out what remembers; here it is off, so that the second look is seen."""

    def __init__(self, *args, **options):
        super().__init__(*args, gate=False, **options)


class Counted:
    """Stands for a child: answers by the state and by how often it was asked before."""

    def __init__(self, answer):
        self.answer, self.calls = answer, 0

    def call(self, function, state):
        assert function == "step"
        self.calls += 1
        features, reward = self.answer(state, self.calls)
        return np.array(features), np.array(reward)


def ask(asked: Asked, numbers) -> int:
    """How many states were asked before the program was found impure; all, where it was not."""
    for done, number in enumerate(numbers):
        try:
            asked.step(np.array([float(number)]))
        except SandboxFailure as failure:
            assert failure.name == "impure" and failure.detail
            return done
    return len(numbers)


def test_a_pure_program_is_asked_less_than_a_hundredth_more():
    child = Counted(lambda s, _: ([s[0], np.nan], np.inf))  # a nan is as good as another
    assert ask(Asked(child), range(100_000)) == 100_000
    assert 100_000 < child.calls < 101_000


@pytest.mark.parametrize(
    "answer",
    [
        lambda s, n: ([s[0] + (n > 5000)], 0.0),
        lambda s, n: ([s[0]], float(n > 5000)),
        lambda s, n: ([s[0]] * (1 + (n > 5000)), 0.0),  # its length
        lambda s, n: ([s[0]], 0.0 if n < 5000 else np.nan),
        lambda s, n: ([s[0] + n // 5000], 0.0),
    ],
)
def test_one_that_changes_at_call_5000_is_found_soon_after(answer):
    found = ask(Asked(Counted(answer)), range(100_000))
    assert 4900 < found < 5000 + EVERY


@pytest.mark.parametrize("answer", [lambda s, n: ([float(n)], 0.0), lambda s, n: ([s[0]], n % 2)])
def test_one_that_counts_is_found_at_the_first_look(answer):
    assert ask(Asked(Counted(answer)), range(1000)) == EVERY


def test_a_slow_drift_shows_at_the_first_state():
    """As a clock does: no two looks apart by EVERY calls need see it, the first state does."""
    found = ask(Asked(Counted(lambda s, n: ([s[0] + n // 30_000], 0.0))), range(100_000))
    assert 29_000 < found < 30_000 + EVERY


def test_a_resumed_look_asks_the_same_states_at_the_same_calls():
    child = Counted(lambda s, _: ([s[0]], 0.0))
    whole = Asked(child)
    ask(whole, range(1300))
    before = Asked(Counted(child.answer))
    ask(before, range(700))
    after = Asked(Counted(child.answer))
    ask(after, range(690, 700))  # the episode under way, played again
    after.load_state_dict(before.state_dict())
    ask(after, range(700, 1300))
    a, b = whole.state_dict(), after.state_dict()
    assert a["calls"] == b["calls"] == 1300
    for one, other in zip(a["kept"], b["kept"], strict=True):
        assert [[x.tolist() for x in part] for part in one] == [[x.tolist() for x in part] for part in other]
    assert [arguments[0].tolist() for arguments, _ in a["kept"]] == [[0.0], [1250.0]]


COUNTS = "def revise_state(s, calls=[]):\n    calls.append(0)\n    return list(s) + [float(len(calls) > 30)]\n"


@pytest.mark.parametrize("every", [10, 1000])
def test_a_run_whose_program_is_found_impure_fails_by_that_name(llmrl_run, tmp_path, monkeypatch, every):
    """During training, or at its end where that comes first."""
    monkeypatch.setattr(wrapper, "Sandbox", Ungated)
    monkeypatch.setattr(purity, "EVERY", every)
    (tmp_path / "pair.py").write_text(COUNTS)
    done = llmrl_run(*PENDULUM, "wrapper=lesr", "wrapper.artifact=pair.py", "compute.outputs=out")
    assert done.code == 1 and "impure: a state gave another result than before" in done.err
    (status,) = (tmp_path / "out").rglob("status.json")
    assert json.loads(status.read_text())["status"] == "FAILED"
    assert "SandboxFailure: impure: " in json.loads(status.read_text())["reason"]


REMEMBERS = {
    "a counter": "def more(s, n=[0]):\n    n[0] += 1\n    return n[0]\n",
    "every hundredth call": "def more(s, n=[0]):\n    n[0] += 1\n    return n[0] % 100 == 0\n",
    "the state before": "def more(s, last=[0.0]):\n    d, last[0] = s[0] - last[0], s[0]\n    return d\n",
    "states seen twice": "def more(s, n={}):\n    k = s.tobytes()\n    n[k] = n.get(k, 0) + 1\n    return n[k] > 3\n",
    "late": "def more(s, n=[0]):\n    n[0] += 1\n    return n[0] > 3000\n",
    "an address": "def more(s):\n    return float(id(more) % 1e6)\n",
    "the process": "import os\ndef more(s):\n    return os.getpid()\n",
    "a table of numpy's": "def more(s):\n    n = np.typecodes.setdefault('n', [])\n    n += [0]\n    return len(n)\n",
    "an attribute": "def more(s):\n    more.n = getattr(more, 'n', 0) + 1\n    return more.n\n",
    "a default": "def more(s, n=[]):\n    n.append(0)\n    return len(n)\n",
}


@pytest.mark.parametrize("what", REMEMBERS)
def test_an_impure_program_is_rejected_before_training(what, monkeypatch):
    monkeypatch.setattr(checks, "Sandbox", Ungated)
    code = GOOD.replace("import numpy as np\n", "import numpy as np\n" + REMEMBERS[what], 1)
    code = code.replace("    speed", "    changes = float(more(s))\n    speed", 1).replace("[speed,", "[changes,", 1)
    with pytest.raises(checks.Rejected) as caught:
        check(code)
    assert caught.value.name == "impure"


@pytest.mark.parametrize("line", ["step = 0.05", "_given = ()", "import math as _np", "def _check(x): return 1"])
def test_no_constant_takes_a_name_of_the_harness(line):
    with pytest.raises(checks.Rejected) as caught:
        checks.defined(f"{line}\ndef intrinsic_reward(s):\n    return 0.0\n")
    assert caught.value.name == "reserved_name"


def test_a_program_that_is_no_text_is_refused(llmrl_run, tmp_path):
    (tmp_path / "pair.py").write_bytes(b"def revise_state(s):\n    return '\xff'\n")
    done = llmrl_run(*PENDULUM, "wrapper=lesr", f"wrapper.artifact={tmp_path / 'pair.py'}")
    assert done.code == 2 and "wrapper.artifact" in done.err and "UTF-8" in done.err
