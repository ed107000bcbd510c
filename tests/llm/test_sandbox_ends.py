"""However a child ends, whatever it writes, with the kernel's layers or without: a failure with a name and a reason."""

import pickle
import signal

import numpy as np
import pytest

from llmrl.llm.program_text import Rejected
from llmrl.llm.sandbox import FAILURES, Limits, Sandbox, SandboxFailure, process
from llmrl.llm.sandbox.process import CHILD, how_it_ended

STATE = np.zeros(3)
# Writes to whatever descriptor is open: one of them leads to the trainer.
WRITE = """
def write(data):
    for fd in range(3, 4096):
        try:
            os.write(fd, data)
        except OSError:
            pass
    time.sleep(100)
"""
MALFORMED = "it broke the protocol: "
ENDS = {  # the body of f(s): the failure's name and its detail
    "os.kill(os.getpid(), 40)": ("died", "its process ended by signal 40"),
    "os.kill(os.getpid(), 64)": ("died", "its process ended by SIGRTMAX"),
    "os.kill(os.getpid(), 9)": ("died", "its process ended by SIGKILL"),
    "os.kill(os.getpid(), 1)": ("died", "its process ended by SIGHUP"),
    "os._exit(0)": ("died", "its process ended with exit code 0"),
    "os._exit(255)": ("died", "its process ended with exit code 255"),
    "os.closerange(0, 4096); time.sleep(100)": ("died", "it closed its connection"),
    "write(b'\\xff' * 100000)": ("bad_output", "more than 64 MB"),
    "write(bytes(6))": ("bad_output", MALFORMED + "no header"),
    "write(b'\\x0a\\0\\0\\0\\x08\\0values\\0\\1')": ("bad_output", MALFORMED + "too many arrays, or half an array"),
    "write(b'\\x09\\0\\0\\0\\x07\\0raised\\0')": ("raised", FAILURES["raised"]),
    "write(b'\\x0b\\0\\0\\0\\x07\\0raised\\0\\r\\n')": ("raised", FAILURES["raised"]),
    "write(b'\\x07\\0\\0\\0\\x05\\0dead\\0')": ("bad_output", MALFORMED + "an unknown answer"),
    "raise type('', (Exception,), {})": ("raised", "an exception (line 13)"),
    "raise SystemExit": ("raised", "SystemExit (line 13)"),
    "raise MemoryError": ("memory", "it asked for more memory than the limit"),
}  # fmt: skip
WITHOUT_SIGNALS = [body for body in ENDS if "os.kill" not in body]  # those that seccomp lets through


@pytest.fixture(scope="module")
def without_layers(tmp_path_factory):
    """The child's script beside locks that lock nothing."""
    directory = tmp_path_factory.mktemp("child")
    for name in ("child.py", "wire.py"):
        (directory / name).write_text(CHILD.with_name(name).read_text())
    (directory / "locks.py").write_text("def lock_in(*_):\n    return {}\n")
    return directory / "child.py"


def ending(body: str) -> tuple[str, str]:
    code = f"import os\nimport time\n{WRITE}\ndef f(s):\n    {body}\n    return s\n"
    sandbox = Sandbox(code, ["f"], limits=Limits(seconds_per_call=20), gate=False)
    with sandbox, pytest.raises(SandboxFailure) as caught:
        sandbox.call("f", STATE)
    return caught.value.name, caught.value.detail


@pytest.mark.parametrize("body", ENDS)
def test_without_the_kernels_layers(body, without_layers, monkeypatch):
    monkeypatch.setattr(process, "CHILD", without_layers)
    assert ending(body) == ENDS[body]


@pytest.mark.parametrize("body", WITHOUT_SIGNALS)
def test_with_the_kernels_layers(body):
    assert ending(body) == ENDS[body]


def test_every_return_code_can_be_told():
    told = [how_it_ended(code) for code in range(-200, 256)]
    assert len(set(told)) == len(told) and all(told)
    assert how_it_ended(-signal.SIGSEGV) == "by SIGSEGV" and how_it_ended(-41) == "by signal 41"


UNREADABLE = ["x = '\ud800'", "x = 1\0", "(" * 300, "x = " + "[" * 250 + "]" * 250, "x = " + "-" * 9000 + "1", "\x0c\\",
              "# coding: nothing\nx = \\", "'''", "\ufeff\ufeffx", "x = 0777", "\x1a", "x = (1"]  # fmt: skip


@pytest.mark.parametrize(
    "code, gate", [(code, True) for code in UNREADABLE] + [(code, False) for code in ("x = 1\0", "(" * 300, "'''")]
)
def test_a_source_that_cannot_be_read_has_a_reason(code, gate):
    """Also where no gate looked first, so that the child finds it."""
    with pytest.raises(SandboxFailure) as caught:
        Sandbox(code, ["f"], gate=gate)
    assert caught.value.name in (("syntax",) if gate else ("syntax", "raised", "memory"))
    assert caught.value.detail.strip(" :") and not caught.value.detail.endswith(": ")


@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_is_without_a_reason(name):
    for detail in ("", " ", "\n"):
        assert SandboxFailure(name, detail).detail == FAILURES[name]
        assert str(SandboxFailure(name, detail)) == f"{name}: {FAILURES[name]}"


def test_a_failure_crosses_from_an_evaluation_worker():
    found = pickle.loads(pickle.dumps(Rejected("impure", "a state")))
    assert (type(found), found.name, found.detail, str(found)) == (Rejected, "impure", "a state", "impure: a state")
