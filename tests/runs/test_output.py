"""What is printed never decides what becomes of a run; and what is no fault of a run's own disk is not told as one."""

import errno
import io
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import CART_POLE, ROOT, only_run, status
from rich.console import Console

import llmrl.evaluation
import llmrl.report.figures.run_curve
import llmrl.run
import llmrl.runs.console
import llmrl.runs.lifecycle
import llmrl.streams
from llmrl.agents.dqn import DQN
from llmrl.checks import ConfigError
from llmrl.contracts.explorer import Clock
from llmrl.loops.evaluation_pool import EvaluationPool
from llmrl.runs.console import Display, TrainingProgress
from llmrl.runs.evaluate import cases
from llmrl.runs.files import DiskError, read_json, read_jsonl, write_text
from llmrl.runs.identity import RunDirectory
from llmrl.runs.log import JsonLines, RunLog
from llmrl.runs.stop import Stop
from llmrl.streams import Descriptor, Streams, Text

SHOWN = [word for word in CART_POLE if word != "log.progress=false"]
FULL = Path("/dev/full")
STRANGE = "·±† läb \ud800 \udcff \U0001f600\n"


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- the streams ------------------------------------------------------------------------------------------------------


def unread_pipe() -> int:
    """The writing end of a pipe whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    return write


def closed_terminal() -> int:
    leader, follower = pty.openpty()
    os.close(leader)
    return follower


def full_device() -> int:
    return os.open(FULL, os.O_WRONLY)


@pytest.mark.parametrize(("opened", "number"), [
    (unread_pipe, errno.EPIPE), (closed_terminal, errno.EIO), (full_device, errno.ENOSPC), (lambda: 4321, errno.EBADF),
])  # fmt: skip
def test_no_write_raises_and_the_first_error_is_kept(opened, number):
    raw = Descriptor(opened(), "<stdout>", patient=True)
    stream = Text(raw, "utf-8", "backslashreplace", line_buffering=True)
    print("many\nlines" * 5000, file=stream, flush=True)
    stream.close()
    print("more", file=stream, flush=True)
    assert raw.error.errno == number


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252", "utf-16"])
def test_what_cannot_be_encoded_is_replaced(encoding, monkeypatch):
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(os.fdopen(write, "wb"), encoding))
    streams = Streams(patient=True)
    print(STRANGE)
    streams.give_back()
    assert streams.lost() is None
    assert "l" in os.read(read, 1000).decode(encoding)
    os.close(read)


def test_a_reader_that_does_not_read_is_waited_for_once(monkeypatch):
    """Then the rest is dropped until it reads again; a training does not stand still for a stopped terminal."""
    monkeypatch.setattr(llmrl.streams, "PATIENCE_MS", 1)
    read, write = os.pipe()
    raw = Descriptor(write, "<stderr>", patient=False)
    raw.write(b"x" * 1_000_000)
    taken = len(os.read(read, 10_000_000))
    assert 0 < taken < 1_000_000 and raw.error is None
    raw.write(b"again")
    assert os.read(read, 100) == b"again"


def test_who_is_asked_to_write_later_writes_nowhere(monkeypatch):
    """A handler of a logger may keep our stream when the descriptor belongs to another file long since."""
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(write, "w"))
    streams = Streams(patient=True)
    kept = sys.stdout
    print("before")
    streams.give_back()
    print("after", file=kept, flush=True)
    assert os.read(read, 100) == b"before\n"


def test_a_stream_that_is_no_file_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    own = sys.stdout
    Streams(patient=True).give_back()
    assert sys.stdout is own


# --- commands whose product is what they print ------------------------------------------------------------------------


def shell(line: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "L": f"{sys.executable} -m llmrl"} | variables
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(("line", "code", "told"), [
    ("$L list | head -1; exit ${PIPESTATUS[0]}", 0, ""),  # its reader has seen enough
    ("$L list >/dev/full", 1, "could be written to stdout: No space left on device"),
    ("$L run --help >/dev/full", 1, "could be written to stdout"),
    ("$L list >&-", 1, "could be written to stdout: Bad file descriptor"),
    ("$L list 2>&- >/dev/full", 1, ""),
    ("$L list 2>/dev/full >/dev/null", 0, ""),
    ("PYTHONIOENCODING=ascii $L list llm >/dev/null", 0, ""),
    ("$L nonsense 2>/dev/full", 2, ""),
])  # fmt: skip
def test_a_product_that_cannot_be_written_is_told(line, code, told, tmp_path):
    done = shell(line, tmp_path)
    assert done.returncode == code
    assert told in done.stderr and len(done.stderr.splitlines()) == bool(told), done.stderr


def test_the_rest_of_a_product_is_not_dropped_for_a_slow_reader(tmp_path):
    done = shell(f'$L list | {sys.executable} -c "import sys; print(len(sys.stdin.read()) > 1000)"', tmp_path)
    assert done.stdout == "True\n"


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [
    "$L run $ARGS 2>&1 | head -1 >/dev/null; echo ${PIPESTATUS[0]} >code",
    "PYTHONIOENCODING=ascii $L run $ARGS >/dev/full 2>/dev/full; echo $? >code",
    "$L run $ARGS <&- >&- 2>&-; echo $? >code",
])  # fmt: skip
def test_a_run_does_not_care_what_becomes_of_its_output(where, tmp_path):
    shell(where, tmp_path, ARGS=" ".join(SHOWN))
    directory = only_run(tmp_path)
    assert status(directory) == "DONE" and (tmp_path / "code").read_text() == "0\n"
    assert not (directory / "error.txt").exists() and not (directory / "checkpoint").exists()
    assert [row["env_steps"] for row in read_jsonl(directory / "eval.jsonl")] == [0, 0, 20, 40, 60]


def test_what_a_worker_prints_does_not_end_the_evaluation(monkeypatch):
    """Its stdout and stderr are the run's."""
    full = os.open(FULL, os.O_WRONLY)
    before = os.dup(1), os.dup(2)
    os.dup2(full, 1)
    os.dup2(full, 2)
    pool = EvaluationPool(talkative, 1)
    try:
        scores = pool.evaluate(Quiet(), cases(0, "eval", 2), Stop())
    finally:
        pool.close()
        for fd, number in zip(before, (1, 2)):
            os.dup2(fd, number)
    assert scores.lengths == [3, 3]


class Quiet:
    """What a pool needs of an agent."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        """There is none."""


def talkative():
    """What a process of the pool holds: an environment that prints at every step."""
    import gymnasium as gym

    class Talkative(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            print(STRANGE, flush=True)
            print(STRANGE, file=sys.stderr, flush=True)
            return np.zeros(1, np.float32), 1.0, False, False, {}

    def act(obs, rng):
        return np.zeros(1, int)

    return Talkative(), Quiet(), (act, act), 3


@pytest.mark.parametrize("value", ["words", None, np.arange(3), "[/no markup]", {1: 2}])
def test_any_fact_can_be_shown(value, capsys):
    with TrainingProgress(10, enabled=True) as progress:
        progress(Clock(env_steps=10), {"fact": value})
    assert str(value) in capsys.readouterr().err


def test_a_display_that_breaks_is_left_behind(capsys):
    class Fact:
        def __str__(self):
            raise ValueError("no words")

    with TrainingProgress(10, enabled=True) as progress:
        progress(Clock(env_steps=10), {"fact": Fact()})
        progress(Clock(env_steps=10), {"fact": 1})
        progress(Clock(env_steps=10), {"warning": "seen"})
    told = capsys.readouterr().err
    assert "the display stopped (ValueError: no words)" in told and "seen" in told


@pytest.mark.parametrize("width", [72, 80, 200])
@pytest.mark.parametrize("name", ["", "seed 3: "])
def test_a_narrow_terminal_cuts_facts_and_no_number(width, name):
    display = Display()
    display.console = Console(file=(shown := io.StringIO()), width=width, force_terminal=True, legacy_windows=False)
    with TrainingProgress(40_000, enabled=True, name=name, display=display) as progress:
        progress(Clock(env_steps=32_222), {f"metric {i}": 0.5 for i in range(30)})
        display._bars.refresh()
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
        line = next(part for part in re.split(r"[\r\n]", plain) if "32222" in part)
    assert len(line) <= width and "32222/40000 env_steps" in line and line.rstrip().endswith("< -:--:--")


def test_a_bar_on_a_terminal_that_goes_away(tmp_path):
    """All of it in a process: the bar, its thread, what a library prints meanwhile, and what Python does at exit."""
    leader, follower = pty.openpty()
    program = (
        "import os, sys\n"
        "from llmrl.streams import Streams\n"
        "Streams(patient=False)\n"
        "from llmrl.contracts.explorer import Clock\n"
        "from llmrl.runs.console import TrainingProgress\n"
        "with TrainingProgress(10, enabled=True) as progress:\n"
        "    progress(Clock(env_steps=1), {'return': 1.0})\n"
        "    sys.stdin.read()\n"
        "    print('·' * 10_000)\n"
        "    progress(Clock(env_steps=2), {'return': 2.0, 'warning': 'seen'})\n"
        "open('ended', 'w').close()\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    one = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=env, stdin=subprocess.PIPE,
                           stdout=follower, stderr=follower)  # fmt: skip
    os.close(follower)
    shown = b""
    while b"env_steps" not in shown:
        shown += os.read(leader, 1000)
    os.close(leader)
    one.communicate(b"")
    assert one.returncode == 0 and (tmp_path / "ended").exists()


@pytest.mark.parametrize(("before", "raised"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_the_end_of_a_terminal_asks_a_run_to_stop_but_for_nohup(before, raised):
    previous = signal.signal(signal.SIGHUP, before)
    try:
        stop = Stop()
        with stop.installed():
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signum == (signal.SIGHUP if raised else None)
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, previous)


# --- after DONE -------------------------------------------------------------------------------------------------------


def raising(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize(("owner", "name", "error"), [
    (llmrl.report.figures.run_curve, "draw_curve", OSError(errno.ENOSPC, "No space left on device")),
    (llmrl.runs.console, "print_result", MemoryError()),
    (llmrl.run, "show_result", ConfigError("no")),
])  # fmt: skip
def test_a_finished_training_is_done_whatever_comes_after(owner, name, error, llmrl_run, tmp_path, monkeypatch):
    monkeypatch.setattr(owner, name, raising(error))
    done = llmrl_run(*CART_POLE)
    directory = only_run(tmp_path)
    assert done.code == 0 and status(directory) == "DONE", done.err
    assert type(error).__name__ in done.err and not (directory / "checkpoint").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(143)])
def test_who_is_ended_after_done_is_done(end, llmrl_run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(llmrl.report.figures.run_curve, "draw_curve", raising(end))
        with pytest.raises(type(end)):
            llmrl.run.run_jobs([(llmrl_node(tmp_path), [])])
    directory = only_run(tmp_path)
    assert status(directory) == "DONE" and not (directory / "checkpoint").exists()
    assert "nothing to do" in llmrl_run(*CART_POLE).out


def llmrl_node(tmp_path: Path) -> dict:
    from conftest import compose

    node = compose(CART_POLE)
    node["compute"]["outputs"] = str(tmp_path / "outputs")
    return node


def test_a_log_that_cannot_be_closed_changes_nothing(llmrl_run, tmp_path, monkeypatch):
    class Broken:
        name = "broken"

        def follow(self):
            """Takes all."""

        def close(self):
            raise OSError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(llmrl.runs.lifecycle, "mirrors_of", lambda *_: [Broken()])
    done = llmrl_run(*CART_POLE)
    assert done.code == 0 and status(only_run(tmp_path)) == "DONE" and "Broken pipe" in done.err


def test_an_unwritable_place_for_the_curve(drawn, llmrl_run, tmp_path, monkeypatch):
    original = RunLog.flush

    def flush(self):
        for directory in tmp_path.rglob("s0-*"):
            (directory / "plots").touch()  # no directory: nothing can be written in it
        original(self)

    monkeypatch.setattr(RunLog, "flush", flush)
    done = llmrl_run(*CART_POLE)
    assert done.code == 0 and status(only_run(tmp_path)) == "DONE"
    assert "its learning curve made trouble: FileExistsError" in done.err


@pytest.mark.parametrize("later", ["FAILED", "INTERRUPTED", "PAUSED", "RUNNING"])
def test_done_is_the_last_word(later, tmp_path):
    directory = RunDirectory(tmp_path)
    directory.set_status("DONE", env_steps=5)
    directory.set_status(later, reason="too late", env_steps=3)
    written = read_json(tmp_path / "status.json")
    assert (written["status"], written["env_steps"]) == ("DONE", 5) and "reason" not in written


def test_a_finished_run_that_cannot_be_set_aside_stays_finished(llmrl_run, tmp_path, monkeypatch):
    assert llmrl_run(*CART_POLE).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(llmrl.runs.lifecycle, "set_aside", raising(PermissionError(errno.EACCES, "Permission denied")))
        done = llmrl_run(*CART_POLE, "rerun=true")
    directory = only_run(tmp_path)
    assert done.code == 2 and "Permission denied" in done.err
    assert status(directory) == "DONE" and not (directory / "error.txt").exists()


# --- whose disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk_elsewhere_is_not_the_runs_and_leaves_a_checkpoint(llmrl_run, tmp_path, monkeypatch):
    """As any other exception at the same place does; the same command goes on from it."""
    expected = llmrl_run(*CART_POLE, "compute.outputs=whole")
    assert expected.code == 0
    calls = []

    def evaluate(*args):
        calls.append(args)
        return full_disk() if len(calls) == 3 else original(*args)

    original = llmrl.evaluation.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(llmrl.evaluation, "evaluate", evaluate)
        done = llmrl_run(*CART_POLE)
    directory = only_run(tmp_path / "outputs")
    assert done.code == 1 and "OSError: [Errno 28] No space left on device" in done.err
    assert "is full" not in done.err and status(directory) == "FAILED"
    assert [path.name for path in (directory / "checkpoint").iterdir() if path.name.isdigit()] == ["0"]
    assert llmrl_run(*CART_POLE).code == 0
    for name in ("metrics.jsonl", "eval.jsonl"):
        assert (directory / name).read_bytes() == (only_run(tmp_path / "whole") / name).read_bytes()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("no")])
def test_an_error_amid_a_step_is_the_same_for_all(error, llmrl_run, tmp_path, monkeypatch):
    """The state is not whole there: the run goes on from its last checkpoint, whatever the error is."""
    with monkeypatch.context() as patch:
        patch.setattr(DQN, "update", raising(error))
        assert llmrl_run(*CART_POLE).code == 1
    directory = only_run(tmp_path)
    assert status(directory) == "FAILED" and not (directory / "checkpoint").exists()


class FullFile(io.BytesIO):
    def write(self, data):
        full_disk()

    def flush(self):
        full_disk()


def _rows(path):
    lines = JsonLines(path)
    lines.write({})
    return lines


@pytest.mark.parametrize("write", [
    lambda path: write_text(path / "file", "text"),
    lambda path: _rows(path / "file").flush(),
    lambda path: _rows(path / "file").offset(),
])  # fmt: skip
def test_a_full_disk_names_the_file_that_was_written(write, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_, **__: FullFile())
    with pytest.raises(DiskError) as raised:
        write(tmp_path)
    assert raised.value.filename == str(tmp_path / "file") and raised.value.errno == errno.ENOSPC


def test_a_full_disk_of_the_run_is_told_as_such(llmrl_run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "metrics", raising(DiskError(errno.ENOSPC, "No space left on device", "outputs/m.jsonl")))
        done = llmrl_run(*CART_POLE)
    assert done.code == 1 and "The disk with outputs/m.jsonl is full" in done.err and "Free some space" in done.err


def test_what_was_played_is_shown_although_it_cannot_be_kept(llmrl, tmp_path):
    assert llmrl("run", *CART_POLE).code == 0
    directory = only_run(tmp_path)
    (directory / "evaluations.jsonl").symlink_to(FULL)
    done = llmrl("eval", str(directory))
    assert done.code == 1 and "return " in done.out and "No space left on device" in done.err
