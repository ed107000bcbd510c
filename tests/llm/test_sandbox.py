"""The sandbox: ordinary programs work, hostile and broken ones (tests/hostile/) get nothing, hang nothing, and get
their names. Each of those runs twice: behind the gate, and with the process's layers alone."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrl.llm.sandbox import FAILURES, Limits, Sandbox, SandboxFailure, check_source, layers_available, wire
from llmrl.llm.sandbox.process import CHILD, presentable

HOSTILE = {path.stem: path for path in sorted(Path(__file__).parents[1].joinpath("hostile").glob("*.py"))}
TOKEN = "the-key-that-nobody-gets-7f3a"
STATE = np.linspace(-1.0, 1.0, 17)
SMALL = Limits(seconds_per_call=20, memory_mb=256)
QUICK = replace(SMALL, seconds_per_call=0.5)  # for what is expected to time out
LINGERS = replace(SMALL, seconds_per_call=3)  # for what is found out at once, but waited for
LIMITS = dict.fromkeys(("closed_pipe", "half_an_answer", "forged_reason"), LINGERS)
LAYERS = layers_available()
# What keeps a program from changing files and sending signals by system calls that need no descriptor.
KERNEL = [layer for layer in ("empty root directory", "landlock", "seccomp") if LAYERS.get(layer) == "on"]

ORDINARY = '''
"""Features of a walker."""
import math
import numpy as np
from math import sqrt

DT = 0.05
TARGET = (0.0, 1.25, -0.5)
SCALE = 1 / math.sqrt(2.0)


def _norm(x: np.ndarray) -> float:
    return sqrt(float(np.sum(x ** 2)))


def revise_state(s):
    joints, speeds = s[2:8], s[8:17]
    energy = 0.5 * np.dot(speeds, speeds)
    with np.errstate(divide="ignore"):
        ratio = np.where(np.abs(joints) > 1e-6, 1.0 / joints, 0.0)
    try:
        angle = math.acos(s[0] * 10)
    except ValueError:
        angle = -1.0
    spectrum = np.abs(np.fft.rfft(s))[:2]
    solved = np.linalg.solve(np.eye(3) * 2, np.array(TARGET))
    label = "{:.2f} {}".format(energy, f"{angle:.1f}")
    assert len(label) > 0
    smallest = sorted([abs(v) for v in s], key=lambda v: -v)[-1]
    total = sum(v * v for v in s)
    extra = [energy * DT, angle * SCALE, _norm(s), smallest, total, np.clip(s[3], -0.1, 0.1), float(ratio.max())]
    return np.concatenate((s, extra, spectrum, solved))


def intrinsic_reward(updated_s):
    forward = updated_s[8]
    return float(forward - 0.1 * np.square(updated_s[17:]).mean()) if forward > -5 else -5.0
'''
FUNCTIONS = ["revise_state", "intrinsic_reward"]
STEP = """
def step(s):
    updated = revise_state(s)
    return updated, intrinsic_reward(updated)
"""


def program(body: str) -> str:
    return f"import numpy as np\ndef f(s):\n    {body}\n"


# --- ordinary programs -----------------------------------------------------------------------------------------------


def test_a_program_gives_the_values_that_it_gives_here():
    here: dict = {}
    exec(ORDINARY + STEP, here)
    with Sandbox(ORDINARY, FUNCTIONS, STEP) as sandbox:
        for state in (STATE, STATE * 3, np.zeros(17)):
            features, reward = sandbox.call("step", state)
            np.testing.assert_array_equal(features, here["revise_state"](state))
            assert reward.shape == () and reward == here["intrinsic_reward"](features)
        (alone,) = sandbox.call("revise_state", STATE)
        np.testing.assert_array_equal(alone, here["revise_state"](STATE))


@pytest.mark.parametrize("dtype", wire.DTYPES, ids=str)
def test_arrays_of_all_types_and_shapes_cross(shared, dtype):
    for shape in ((), (0,), (5,), (2, 3), (100, 17, 3)):
        array = (np.arange(np.prod(shape, dtype=int)) % 2).astype(dtype).reshape(shape)
        strided = np.repeat(array, 2, axis=-1)[..., ::2] if shape else array
        for back in shared.call("same", array, strided):
            assert back.dtype == dtype and back.shape == shape and back.flags.writeable
            np.testing.assert_array_equal(back, array)


def test_arrays_larger_than_a_pipe_cross(shared):
    large = np.arange(10**6, dtype=np.float64)
    np.testing.assert_array_equal(shared.call("same", large, large)[1], large)


def test_a_type_that_cannot_cross_is_the_callers_mistake(shared):
    with pytest.raises(ValueError, match="complex128"):
        shared.call("same", np.zeros(3, complex), STATE)
    assert shared.call("same", STATE, STATE)[0].shape == (17,)


def test_narrow_numbers_become_float64(shared):
    (back,) = shared.call("half", STATE)
    assert back.dtype == np.float64


def test_arguments_are_the_programs_own(shared):
    before = STATE.copy()
    (changed,) = shared.call("write", before)
    assert changed[0] == 7 and before[0] == STATE[0]
    assert shared.call("write", before)[0][1] == STATE[1]


def test_a_failed_call_leaves_the_program_usable(shared):
    with pytest.raises(SandboxFailure) as caught:
        shared.call("fail", STATE)
    assert (caught.value.name, caught.value.detail) == ("raised", "ZeroDivisionError: float division by zero (line 9)")
    with pytest.raises(SandboxFailure, match="missing_function: no function nowhere"):
        shared.call("nowhere", STATE)
    assert shared.call("same", STATE, STATE)


@pytest.fixture(scope="module")
def shared():
    code = """import numpy as np
def same(a, b):
    return a, b
def half(a):
    return a.astype(np.float16)
def write(a):
    a[0] = 7
    return a
def fail(a): return 1.0 / (a[0] - a[0]).item()
"""
    with Sandbox(code, ["same", "half", "write", "fail"], gate=False) as sandbox:
        yield sandbox


def test_two_children_order_sets_alike():
    """Hashes of texts are the same in every child: else features could change places from run to run."""
    code = program('return [float(len(word)) for word in {"a", "bb", "ccc", "dddd", "eeeee", "ffffff"}]')
    found = []
    for _ in range(2):
        with Sandbox(code, ["f"]) as sandbox:
            found.append(sandbox.call("f", STATE)[0].tolist())
    assert found[0] == found[1]


# --- hostile and broken programs -------------------------------------------------------------------------------------


class World:
    """What a program may be after: a secret file, a directory, a server on the loopback, this process."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o777)
        self.secret = directory / "secret.txt"
        self.secret.write_text(TOKEN)
        self.secret.chmod(0o666)
        self.outside = directory / "outside"
        self.outside.mkdir()
        self.outside.chmod(0o777)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)

    def source(self, path: Path) -> str:
        places = {"SECRET": self.secret, "OUTSIDE": self.outside, "PARENT": os.getpid(),
                  "PORT": self.server.getsockname()[1]}  # fmt: skip
        return re.sub(r"@(\w+)@", lambda found: str(places[found[1]]), path.read_text())

    def untouched(self) -> bool:
        with pytest.raises(BlockingIOError):
            self.server.accept()
        mode = self.secret.stat().st_mode & 0o777
        return self.secret.read_text() == TOKEN and mode == 0o666 and list(self.outside.iterdir()) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = World(tmp_path_factory.mktemp("world"))
    yield found
    found.server.close()


def outcome(source: str, gate: bool, limits: Limits) -> tuple[str, bytes, int]:
    """How the program ended ("values" or a failure's name), all that it handed out, and its process id (0: none)."""
    pid = 0
    try:
        with Sandbox(source, ["revise_state"], limits=limits, gate=gate) as sandbox:
            pid = sandbox._child.pid
            values = sandbox.call("revise_state", STATE)
    except SandboxFailure as failure:
        assert failure.name in FAILURES and len(failure.detail) <= 300 and "/home" not in failure.detail
        assert failure.detail.strip()
        return failure.name, failure.detail.encode(), pid
    return "values", b"\n".join(loot(value) for value in values), pid


def loot(value: np.ndarray) -> bytes:
    """What a program may have smuggled out: the array's bytes, and its numbers as characters."""
    whole = value[np.isfinite(value) & (value >= 0) & (value < 256)] if value.ndim else np.zeros(0)
    return value.tobytes() + b"\n" + whole.astype(np.uint8).tobytes()


def processes_of_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def expected(path: Path, which: str) -> list[str]:
    return re.search(rf"^# {which}: (.*)$", path.read_text(), re.MULTILINE)[1].split("|")


@pytest.mark.parametrize("name", HOSTILE)
def test_behind_the_gate(name, world):
    names = expected(HOSTILE[name], "gate")
    found, out, _ = outcome(world.source(HOSTILE[name]), True, QUICK if "timeout" in names else SMALL)
    assert found in names, out
    assert TOKEN.encode() not in out
    assert world.untouched()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the layers that stop these programs")
@pytest.mark.parametrize("name", HOSTILE)
def test_the_processes_layers_alone(name, world):
    if not KERNEL:
        pytest.skip(f"no empty root directory, Landlock or seccomp on this machine: {LAYERS}")
    names = expected(HOSTILE[name], "alone")
    found, out, pid = outcome(
        world.source(HOSTILE[name]), False, QUICK if "timeout" in names else LIMITS.get(name, SMALL)
    )
    assert found in names, out
    assert TOKEN.encode() not in out and b"PATH=" not in out and b"'PATH'" not in out
    assert world.untouched()
    assert pid == 0 or processes_of_session(pid) == []


def test_the_catalogue_is_large_enough():
    assert len(HOSTILE) >= 100


# --- the layers ------------------------------------------------------------------------------------------------------

PEEK = """
import os
import sys
def peek(s):
    found = []
    for act in (lambda: os.getuid(), lambda: len(os.environ), lambda: len(sys.path), lambda: os.stat("/etc/passwd"),
                lambda: os.fork(), lambda: os.pipe()):
        try:
            value = act()
            found.append(float(value) if isinstance(value, int) else -2.0)
        except OSError as error:
            found.append(-1.0)
    return found
"""


def test_what_a_program_sees(monkeypatch):
    monkeypatch.setenv("SECRET_API_KEY", TOKEN)
    with Sandbox(PEEK, ["peek"], gate=False) as sandbox:
        uid, variables, paths, passwd, fork, pipe = sandbox.call("peek", STATE)[0]
        assert uid != 0 and variables == 0 and paths == 0
        assert fork == -1 and pipe == -1
        if KERNEL:
            assert passwd == -1


def test_this_machine_has_all_layers_or_says_why():
    with Sandbox("", ()) as sandbox:
        assert sandbox.layers == tuple(layer for layer, state in LAYERS.items() if state == "on")
    for layer, state in LAYERS.items():
        assert state == "on" or state.startswith("off: "), layer
    assert {"gate", "clean environment", "rlimits", "no new descriptors"} <= set(sandbox.layers)


def test_each_layer_of_the_kernel_is_on_where_the_kernel_has_it():
    """Missing ones are named by a skip, so that a machine without them does not look tested."""
    missing = {layer: state for layer, state in LAYERS.items() if state != "on"}
    if missing:
        pytest.skip(f"this machine lacks {missing}")
    assert set(LAYERS) > {"network namespace", "landlock", "seccomp", "unprivileged user", "empty root directory"}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_who_is_not_root_is_as_safe(tmp_path, world):
    """The trainer as an ordinary user: the child's layers come from a user namespace, Landlock and seccomp."""
    if not _readable_by_all(Path(sys.executable)) or not _readable_by_all(Path(np.__file__)):
        pytest.skip("Python is installed where only root may read it")
    script = f"""
import sys; sys.path.insert(0, {str(CHILD.parents[3])!r})
import numpy as np
from llmrl.llm.sandbox import Sandbox, SandboxFailure
with Sandbox({world.source(HOSTILE["unlink"])!r}, ["revise_state"], gate=False) as sandbox:
    print(sandbox.layer_states)
    try:
        print(sandbox.call("revise_state", np.zeros(3)))
    except SandboxFailure as failure:
        print(failure)
"""
    done = subprocess.run([sys.executable, "-c", script], user=65533, group=65533, cwd="/", text=True,
                          capture_output=True, env={"PATH": os.environ["PATH"]})  # fmt: skip
    assert "raised: " in done.stdout, done.stdout + done.stderr
    assert "'unprivileged user': 'on'" in done.stdout
    assert world.untouched()


def _readable_by_all(path: Path) -> bool:
    return all(place.stat().st_mode & 0o005 for place in [path.resolve(), *path.resolve().parents])


# --- start and end ---------------------------------------------------------------------------------------------------


def test_a_stopped_child_says_so_afterwards():
    with Sandbox(program("return [0 for _ in iter(int, 1)]"), ["f"], limits=Limits(seconds_per_call=0.3)) as sandbox:
        with pytest.raises(SandboxFailure, match="timeout: no answer within 0.3 s"):
            sandbox.call("f", STATE)
        with pytest.raises(SandboxFailure, match="dead: .*timeout: no answer within 0.3 s"):
            sandbox.call("f", STATE)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Sandbox(program("return s"), ["f"]) as sandbox:
        pid = sandbox._child.pid
        os.kill(pid, 0)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(SandboxFailure, match="dead"):
        sandbox.call("f", STATE)
    sandbox.close()


def test_a_forgotten_sandbox_ends():
    sandbox = Sandbox(program("return s"), ["f"])
    pid = sandbox._child.pid
    del sandbox
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_that_fails_at_once_leaves_no_child():
    def children() -> str:
        return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()

    before = children()
    with pytest.raises(SandboxFailure, match=r"raised: ZeroDivisionError: division by zero \(line 1\)") as kept:
        Sandbox("x = 1 / 0", [], gate=False)
    assert children() == before, kept


def test_a_child_that_is_late_is_given_up():
    with pytest.raises(SandboxFailure, match="not_started: not ready within 0.001 s"):
        Sandbox(program("return s"), ["f"], limits=Limits(seconds_to_start=0.001))


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_the_child_ends_with_a_killed_trainer():
    script = f"""
import sys; sys.path.insert(0, {str(CHILD.parents[3])!r})
import numpy as np, os
from llmrl.llm.sandbox import Limits, Sandbox
sandbox = Sandbox("def f(s):\\n    return [0 for _ in iter(int, 1)]", ["f"], limits=Limits(seconds_per_call=600))
print(sandbox._child.pid, flush=True)
sandbox.call("f", np.zeros(3))
"""
    trainer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(trainer.stdout.readline())
    watched = os.pidfd_open(child)
    trainer.send_signal(signal.SIGKILL)
    trainer.communicate()
    import select

    assert select.select([watched], [], [], 20)[0], "the child goes on without its trainer"
    os.close(watched)


def test_an_interrupted_call_ends_the_child():
    """Its answer would be taken for that of the next call."""

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    old = signal.signal(signal.SIGALRM, stop)
    try:
        with Sandbox(program("return [0 for _ in iter(int, 1)]"), ["f"]) as sandbox:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Stop):
                sandbox.call("f", STATE)
            with pytest.raises(SandboxFailure, match="dead: .*interrupted by Stop"):
                sandbox.call("f", STATE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_processor_time_has_an_end():
    limits = Limits(cpu_seconds=1, seconds_per_call=60)
    sandbox = Sandbox(program("return [0 for _ in iter(int, 1)]"), ["f"], limits=limits)
    with sandbox, pytest.raises(SandboxFailure, match="timeout: more than 1 s of processor time"):
        sandbox.call("f", STATE)


def test_a_child_that_cannot_start_is_not_the_programs_fault(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SandboxFailure, match="not_started: /nowhere/python: No such file"):
        Sandbox(program("return s"), ["f"])


def test_many_threads_may_each_have_a_sandbox():
    found = []

    def use(n: int) -> None:
        with Sandbox(program(f"return s + {n}"), ["f"]) as sandbox:
            found.append(sandbox.call("f", np.zeros(1))[0].item())

    threads = [threading.Thread(target=use, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2]


# --- the gate and the wire -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, name, told",
    [
        (program("return s") + "#" * 20_000, "too_long", "20"),
        ("x = " + "(" * 5000 + ")" * 5000, "syntax", ""),
        ("x = " + "-" * 15000 + "1", "syntax", ""),
        ("x = " + "a." * 9000 + "a", "syntax", ""),
        ("def f(s):\n    return s\n\0", "syntax", "null bytes"),
        ("def f(s):\n    return '\ud800'\n", "syntax", "cannot be read"),
        (program("return s + __name__"), "forbidden_name", "__name__ is not allowed (line 3)"),
        (program("return '{0[0]}'.format(s)"), "forbidden_name", "use an f-string"),
        (program("return '{:{0.x}}'.format(s)"), "forbidden_name", "use an f-string"),
        (program("return (lambda format: format)('{0.x}'.format)(s)"), "forbidden_name", "use an f-string"),
        (program("return type(s)"), "forbidden_name", "type is not allowed"),
        (program("return np.linalg._umath_linalg"), "forbidden_name", "begin with _"),
        (program("import numpy.random as r\n    return s"), "forbidden_import", "random numbers"),
        (program("from . import x\n    return s"), "forbidden_import", "only numpy and math"),
        (program("yield s"), "forbidden_syntax", "yield"),
        (program("del s.T"), "forbidden_state", "an assignment to the attribute .T"),
        ("T = iter((0, 1))\ndef f(s):\n    return s", "forbidden_state", "make this one in the function"),
        ("if True:\n    x = 1\ndef f(s):\n    return s", "forbidden_syntax", "only imports"),
        ("f = lambda s: s", "missing_function", "no function f"),
    ],
)  # fmt: skip
def test_the_gate_names_what_it_found(code, name, told):
    with pytest.raises(SandboxFailure) as caught:
        check_source(code, ["f"])
    assert caught.value.name == name and told in caught.value.detail
    assert not caught.value.detail.endswith(": ")  # the parser's own word, or at least the error's name


@pytest.mark.parametrize(
    "code",
    [
        program("type = s[0]; id = 3; dir = s[1:]; return type * id + dir[0]"),
        program("return '{:.3f} {name!r:>10}'.format(s[0], name=2) and s"),
        program("return [x for _ in range(3) for x in s if not np.isnan(x)]"),
        program("i = 0\n    while i < 10:\n        i += 1\n    return i * s"),
        "import math\nG = -9.81\nK = (1, math.cos(0.3) * G)\nN: float = 2 ** 0.5\ndef f(s, k=K):\n    return s * N",
    ],
)  # fmt: skip
def test_the_gate_lets_plain_programs_through(code):
    check_source(code, ["f"])


def test_bytes_that_are_no_message_are_refused():
    """Every header with one byte changed is either read in full or refused by name, and never read past its end."""
    head = wire.header("values", [np.zeros((2, 3)), np.zeros((), bool)])
    refused = 0
    for place in range(len(head)):
        for value in (0, 1, 7, 8, 127, 255):
            try:
                _, arrays, size = wire.layout(head[:place] + bytes([value]) + head[place + 1 :])
                if size < 10**6:
                    wire.unpack(arrays, bytearray(size), 0)
            except wire.WireError:
                refused += 1
    assert refused > 20
    with pytest.raises(wire.WireError):
        huge = b"values\0" + bytes([0, 3]) + b"\0\0\0\0" + b"\xff" * 8
        wire.unpack(wire.layout(huge)[1], bytearray(0), 0)


def test_a_strange_bool_is_a_bool():
    _, arrays, _ = wire.layout(wire.header("values", [np.zeros(3, bool)]))
    (found,) = wire.unpack(arrays, bytearray(b"\x00\x02\xff"), 0)
    np.testing.assert_array_equal(found.view(np.uint8), [0, 1, 1])


def test_details_hold_no_paths_and_no_addresses():
    told = presentable(b"cannot import x from y (/usr/lib/python3/y.py) <f at 0x7f00aa11> a/b s[0]/x/y 'C:/Users/me/k'")
    assert told == "cannot import x from y (<path>) <f at 0x…> a/b s[0]/x/y '<path>'"
    assert (
        presentable(b"\x1b[31m\xff\n" + b"x" * 1000).startswith(" [31m\ufffd x") and len(presentable(b"x" * 999)) == 300
    )
