"""Whatever a command line or a yaml holds: exit 2 with one message that names the key, no traceback, nothing left."""

import copy
import json
import math
import stat
from pathlib import Path

import glfw  # noqa: F401 (it asks sys.executable when it is first imported)
import gymnasium as gym
import numpy as np
import pytest
from conftest import CART_POLE, compose, only_run, run_directories, status

from llmrl import conf_files
from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.run import run_jobs
from llmrl.run_flags import arranged

NUMBERS = [math.inf, -math.inf, math.nan, -1, True, "1", [1], {"a": 1}, None, 10**400]
COUNTS = [*NUMBERS, 0, 1.5, 1e30, "five"]
PATHS = [None, "", " ", "a\0b", "a\nb", 5, True, ["a"], "~nobody-of-this-name/x"]
STUDIES = [None, "", " ", ".", "..", "a/../b", "/abs", "artifacts", "artifacts/x", ".sweeps", ".replaced", ".x", "a/.x",
           "~", "~/x", "-x", "a ", " a", "a\nb", "a\tb", "a\0b", "\ud800", "a" * 300, "a/" * 150, ["a"], {"a": 1}, True,
           1.5]  # fmt: skip
WRONG = [
    *[("seed", value) for value in (True, 1.5, -1, "first", "", None, [0], math.inf, 10**400, "???")],
    *[("study", value) for value in STUDIES],
    *[("rerun", value) for value in ("no", "maybe", 1, 0, None, [], "true")],
    *[("agent.learning_rate", value) for value in (*NUMBERS, 0)],
    *[("agent.gamma", value) for value in (*NUMBERS, 1.5)],
    *[("agent.batch_size", value) for value in COUNTS],
    *[("budget.evaluations", value) for value in COUNTS],
    *[("budget.scale", value) for value in (*NUMBERS, 0, "half")],
    *[("eval.every", value) for value in COUNTS if value is not None],
    *[("compute.checkpoint_every_s", value) for value in NUMBERS],
    *[("compute.outputs", value) for value in PATHS],
    *[("llm.replay", value) for value in PATHS if value is not None],
    *[("wrapper.artifact", value) for value in PATHS if value is not None],
    *[("env.suite", value) for value in ("../x", "os", "base", "text", "", "a.b", None, ["classic"], 5, "a\0b")],
    *[("env.id", value) for value in ("", "Nope-v0", "nomodule:X-v0", "json:X-v0", None, 5, "a\0b", "CartPole-v99")],
    *[(group, value) for group in ("method", "agent", "env", "llm", "eval", "log", "compute", "budget")
      for value in (None, [], "dqn", 5)],
    *[("agent.hidden", value) for value in (16, [[16]], ["16"], [True], [0], [10**9], [10**7, 10**7], {"a": 1})],
    ("agent.replay_size", 10**15), ("agent.replay_size", 10**10), ("agent.batch_size", 10**12),
    ("agent.n_envs", 10**6), ("eval.episodes", 10**12), ("eval.workers", 10**5), ("eval.workers", 9_999),
    ("compute.threads", 10**5), ("compute.threads", 10**9), ("compute.workers", 10**6),
    ("compute.device", ""), ("compute.device", None), ("compute.device", "cuda:-1"), ("compute.device", "cpu0"),
    ("log.progress", 1), ("log.progress", "yes"), ("log.wandb", "maybe"), ("log.wandb", False),
    ("log.wandb_project", 1),
    ("eval.sets", "a"), ("eval.sets", ["a"]), ("eval.set_episodes", "x"), ("eval.set_episodes", {"a": True}),
    ("eval.set_episodes", {1: 1}), ("budget.updates", 5), ("agent.foo", 1), ("env.task.foo", 1), ("foo", 1),
    ("foo", {"bar": 1}), ("choices", None), ("choices", []), ("sheets", 1), ("experiment", {"agent": 1}),
    ("log.wandb_project", b"bytes"), ("env.task.goal", "\ud800"), (5, 5),
]  # fmt: skip


@pytest.fixture(scope="module")
def composed() -> dict:
    return compose(CART_POLE)


@pytest.mark.parametrize("key, value", WRONG, ids=lambda part: ascii(part)[:40])
def test_a_value_that_cannot_be(key, value, composed, tmp_path, monkeypatch, capsys):
    """From the composed node on it is the same path as a command line's."""
    monkeypatch.chdir(tmp_path)
    node = copy.deepcopy(composed)
    *parents, last = key.split(".") if isinstance(key, str) else [key]
    place = node
    for parent in parents:
        place[parent] = place[parent] if isinstance(place[parent], dict) else {}
        place = place[parent]
    place[last] = value
    assert run_jobs([(node, [f"{key}=…"])]) == [2]
    err = capsys.readouterr().err
    assert str(key).removesuffix(".artifact") in err.replace("choices", "choice") or key == "choices"
    assert "Traceback" not in err and len(err) < 1_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["seed", "study", "env", "agent.gamma", "budget.env_steps", "compute.outputs"])
def test_a_key_that_is_not_there(key, composed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    node = copy.deepcopy(composed)
    *parents, last = key.split(".")
    place = node
    for parent in parents:
        place = place[parent]
    del place[last]
    assert run_jobs([(node, [])]) == [2]
    assert key in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args, told", [
    (["~seed"], "seed"), (["~llm"], "llm"), (["~method"], "method"), (["~budget.env_steps"], "budget.env_steps"),
    (["agent=null"], "agent"), (["agent=[dqn]"], "agent"), (["agent={a:1}"], "agent"), (["env=null"], "env"),
    (["agent=1"], "agent"), (["+foo=1"], "foo"), (["++foo.bar=1"], "foo"), (["+choices.agent=x"], "choices"),
    (["seed=${foo}"], "seed"), (["seed=${oc.env:NO_SUCH_VARIABLE}"], "seed"), (["seed=???"], "seed"),
    (["seed=" + "9" * 5_000], "seed"), (["agent.hidden=" + "[" * 300 + "]" * 300], "command line"),
    (["budget.scale=1e400"], "budget.scale"), (["agent.hidden.x=1"], "agent.hidden"), (["~agent.foo"], "agent.foo"),
    (["@=1"], "@=1"), (["seed"], "seed"), ([""], "command line"), (["seed=[["], "seed"), (["hydra=null"], "hydra"),
    (["hydra/launcher=nope"], "hydra/launcher"), (["hydra.nope=1"], "hydra.nope"), (["agent/dqn=3"], "agent/dqn"),
    (["env=_task"], "env"), (["env=../run"], "env"), (["env=classic"], "env"), (["method=offline"], "method.dataset=…"),
    (["method=offline", "method.dataset=x", "budget.updates=5"], "budget.env_steps"),
    (["method=lesr", "env=mujoco/hopper"], "agent"), (["method=pretrained", "method.run=/nowhere"], "method.run"),
    (["method=llm_explorer", "agent.epsilon_start=0", "agent.epsilon_end=0"], "agent.epsilon_end"),
    (["method=llm_explorer", "agent=fixed", "~agent.hidden"], "agent.hidden"), (["--nope"], "--nope"),
    (["--cfg"], "--cfg"), (["--cfg", "nope"], "--cfg"), (["--resolve"], "--resolve"), (["-m", "--cfg", "job"], "--cfg"),
    (["--from", "x"], "--from"), (["-m", "seed=-1,-2"], "seed"),
    (["-m", "compute.outputs=''", "seed=0,1"], "compute.outputs"), (["-m", "agent=dqn,nope"], "nope"),
], ids=lambda part: str(part)[:40])  # fmt: skip
def test_a_command_line_that_cannot_be(args, told, llmrl_run, tmp_path):
    done = llmrl_run(*CART_POLE, *args)
    assert done.code == 2 and told in done.err, done.err
    assert "Traceback" not in done.err and done.out == ""
    assert list(tmp_path.iterdir()) == []


PRESET = "# @package _global_\ndefaults:\n  - override /agent: dqn\n  - override /env: classic/cart_pole\n"


@pytest.mark.parametrize("content, told", [
    (PRESET.encode() + b"agent:\n\tgamma: 0.9\n", "mine.yaml"),  # a tab
    (PRESET.encode() + b"seed: 1\nseed: 2\n", "mine.yaml"),  # a key twice
    (b"\xef\xbb\xbf" + PRESET.encode(), "byte order mark"),
    (PRESET.encode("utf-16"), "mine.yaml"),
    (b"# gr\xfcn\n" + PRESET.encode(), "mine.yaml"),
    (b"- a\n- b\n", "@package _global_"),
    (b"just text\n", "@package _global_"),
    (b"seed: 1\n", "@package _global_"),  # no header
    (b"# @package agent\nseed: 1\n", "agent.seed"),  # another one
    (PRESET.encode() + b"agent:\n  gamma: 2020-01-01\n", "agent.gamma"),  # a date
    (PRESET.encode() + b"agent:\n  gamma: !!binary aGk=\n", "agent.gamma"),
    (PRESET.encode() + b"agent:\n  gamma: .inf\n", "agent.gamma"),
    (PRESET.encode() + b"agent:\n  1: 2\n", "agent"),
    (PRESET.encode() + b"foo: 1\n", "foo"),
    (b"defaults: [nope]\n", "nope"),
], ids=range(15))  # fmt: skip
def test_a_yaml_that_cannot_be(content, told, llmrl_run, tmp_path, monkeypatch):
    folder = tmp_path / "lab" / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_bytes(content)
    monkeypatch.setenv("LLMRL_PATH", str(tmp_path / "lab"))
    conf_files.extra_roots.cache_clear()
    try:
        done = llmrl_run("experiment=mine")
    finally:
        monkeypatch.undo()
        conf_files.extra_roots.cache_clear()
    assert done.code == 2 and told in done.err, done.err
    assert "Traceback" not in done.err and [path.name for path in tmp_path.iterdir()] == ["lab"]


class Odd(gym.Env):
    def __init__(self, observations: gym.Space, actions: gym.Space) -> None:
        self.observation_space, self.action_space = observations, actions


BOX, TWO = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
NAN = gym.spaces.Box(-1, 1, (3,))
NAN.low = np.full(3, np.nan, np.float32)
SPACES = [
    (gym.spaces.Box(-1, 1, ()), TWO), (gym.spaces.Box(-1, 1, (0,)), TWO), (NAN, TWO), (gym.spaces.Discrete(4), TWO),
    (gym.spaces.MultiDiscrete([2, 2]), TWO), (gym.spaces.Tuple([BOX, BOX]), TWO), (gym.spaces.Text(5), TWO),
    (gym.spaces.Dict(a=gym.spaces.Dict(b=BOX)), TWO), (gym.spaces.Dict(a=BOX, b=gym.spaces.Discrete(2)), TWO),
    (gym.spaces.Dict(), TWO), (BOX, gym.spaces.Discrete(2, start=1)), (BOX, gym.spaces.MultiDiscrete([2, 2])),
    (BOX, gym.spaces.MultiBinary(2)), (BOX, gym.spaces.Tuple([TWO])), (BOX, gym.spaces.Box(-np.inf, np.inf, (2,))),
    (BOX, gym.spaces.Box(-1, 1, ())), (BOX, gym.spaces.Box(-1, 1, (0,))), (BOX, NAN),
]  # fmt: skip


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
@pytest.mark.parametrize("observations, actions", SPACES, ids=range(len(SPACES)))
def test_spaces_that_no_agent_can_bear(observations, actions, agent, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(gym.registry, "Odd-v0", gym.envs.registration.EnvSpec(
        "Odd-v0", entry_point=lambda **_: Odd(observations, actions)))  # fmt: skip
    node = compose([f"agent={agent}", "env=classic/cart_pole", "env.id=Odd-v0", "budget.env_steps=60"])
    assert run_jobs([(node, [])]) == [2]
    err = capsys.readouterr().err
    assert "env=classic/cart_pole: " in err and "wrap the environment" in err and list(tmp_path.iterdir()) == []


def test_an_environment_whose_constructor_raises_is_told_with_the_place(composed, tmp_path, monkeypatch, capsys):
    def make(**_):
        raise KeyError("no such map")

    monkeypatch.chdir(tmp_path)
    spec = gym.envs.registration.EnvSpec("Odd-v0", entry_point=make)
    monkeypatch.setitem(gym.registry, "Odd-v0", spec)
    assert run_jobs([(composed | {"env": composed["env"] | {"id": "Odd-v0"}}, [])]) == [2]
    err = capsys.readouterr().err
    assert "env.id=Odd-v0" in err and "KeyError" in err and "test_malformed.py:" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("outputs", ["a_file", "a_file/below", "/proc/nowhere", "x" * 300, "ok/" + "y" * 300])
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_outputs_that_cannot_be_written(outputs, sweep, llmrl_run, tmp_path):
    (tmp_path / "a_file").write_text("precious")
    done = llmrl_run(*CART_POLE, f"compute.outputs={outputs}", *sweep)
    assert done.code == 2 and "compute.outputs" in done.err, done.err
    assert "Traceback" not in done.err and (tmp_path / "a_file").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [tmp_path / "a_file"]


def test_a_refused_run_leaves_alone_what_was_there(llmrl_run, tmp_path):
    (tmp_path / "outputs" / "default").mkdir(parents=True)
    assert llmrl_run(*CART_POLE, "agent=td3", "~agent.hidden_after_convolutions").code == 2
    assert llmrl_run("agent=td3", "env=classic/cart_pole").code == 2
    assert list(tmp_path.rglob("*")) == [tmp_path / "outputs", tmp_path / "outputs" / "default"]


def test_a_finished_run_is_no_excuse_for_a_wrong_key(llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE).code == 0
    before = sorted(tmp_path.rglob("*"))
    for wrong in ("log.every=0", "compute.threads=true", "rerun=no", "+foo=1", "study=null"):
        done = llmrl_run(*CART_POLE, wrong)
        assert done.code == 2 and wrong.lstrip("+").partition("=")[0] in done.err and done.out == ""
    assert sorted(tmp_path.rglob("*")) == before


# --- what is accepted -----------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_directory_with_and_without_a_sweep(llmrl_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert llmrl_run(*CART_POLE, "compute.outputs='~/runs'").code == 0
    assert llmrl_run(*CART_POLE, "compute.outputs='~/runs'", "-m", "seed=0,1").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    directories = run_directories(tmp_path / "home" / "runs")
    assert len(directories) == 2
    again = llmrl_run("run", "--from", "~/" + str(directories[0].relative_to(tmp_path / "home")))
    assert again.code == 2, "`run` is no override"
    again = llmrl_run("--from", "~/" + str(directories[0].relative_to(tmp_path / "home")))
    assert again.code == 0 and "Done before" in again.out


def test_several_values_say_how_each_is_meant(llmrl_run):
    done = llmrl_run(*CART_POLE, "agent.learning_rate=1e-4,1e-3")
    assert done.code == 2 and not run_directories(Path("outputs"))
    for way in ("llmrl run -m agent.learning_rate=1e-4,1e-3.", "agent.learning_rate=[1e-4,1e-3].",
                "llmrl tune --param agent.learning_rate='choice(1e-4,1e-3)'."):  # fmt: skip
        assert way in done.err


@pytest.mark.parametrize("value, number", [(64, 64), (1e2, 100), (100.0, 100)])
def test_a_whole_number_may_be_written_as_a_float(value, number, composed):
    node = composed | {"agent": composed["agent"] | {"batch_size": value}}
    assert from_node(node).agent.batch_size == number


@pytest.mark.parametrize("study, name", [("a/b", "a/b"), (2024, "2024"), ("läb (1)", "läb (1)"), ("a,b=c", "a,b=c")])
def test_what_may_be_a_study(study, name, composed):
    assert from_node(composed | {"study": study}).study == name


@pytest.mark.parametrize("args, ordered", [
    (["seed=0", "-m"], ["--multirun", "seed=0"]),
    (["agent=dqn", "-m", "seed=0,1", "env=x"], ["--multirun", "agent=dqn", "seed=0,1", "env=x"]),
    (["a=1", "--multirun", "b=2"], ["--multirun", "a=1", "b=2"]),
    (["a=1", "--cfg", "job", "--resolve", "b=2"], ["--cfg=job", "--resolve", "a=1", "b=2"]),
    (["a=1", "-c", "job", "-p", "agent"], ["--cfg=job", "--package=agent", "a=1"]),
    (["--info", "seed=1"], ["--info=all", "seed=1"]),
    (["seed=1", "-i", "defaults"], ["--info=defaults", "seed=1"]),
    (["~x", "+y=-1", "--hydra-help"], ["--hydra-help", "~x", "+y=-1"]),
])  # fmt: skip
def test_flags_may_stand_anywhere(args, ordered):
    assert arranged(args) == ordered


@pytest.mark.parametrize("args, told", [
    (["--multi"], "--multirun"), (["-x"], "-x"), (["seed=1", "--from", "x"], "llmrl run --from"), (["-c"], "--cfg"),
])  # fmt: skip
def test_a_flag_that_there_is_not(args, told):
    with pytest.raises(ConfigError, match=told):
        arranged(args)


def test_a_sweep_behind_its_overrides(llmrl_run, tmp_path):
    done = llmrl_run(*CART_POLE, "-m", "seed=0,1", "study=swept")
    assert done.code == 0, done.err
    assert {status(path) for path in run_directories(tmp_path)} == {"DONE"} and len(run_directories(tmp_path)) == 2


def test_the_composed_configuration_is_shown_wherever_the_flag_stands(llmrl_run, tmp_path):
    done = llmrl_run("agent=dqn", "--cfg", "job", "env=classic/cart_pole", "--package", "agent")
    assert done.code == 0 and "gamma: 0.99" in done.out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args, names, never", [
    (["agent=dqn", "agent.tau=1"], [], ["`agent.tau`"]),  # others have it, dqn does not
    (["agent=td3", "agent.epsilon_start=1"], [], ["`agent.epsilon_start`"]),
    (["agent=td3", "agent.polcy_delay=1"], ["`agent.policy_delay`"], []),
    (["seeed=1"], ["`seed`"], []),
    (["env.preprocess.frame_skp=1"], [], ["frame_skip"]),  # of Atari alone
])  # fmt: skip
def test_suggestions_are_keys_of_what_was_chosen(args, names, never, llmrl_run):
    err = llmrl_run("env=classic/cart_pole", *args).err
    assert "unknown key" in err
    assert all(name in err for name in names) and not any(name in err for name in never), err


# --- what a run builds on -------------------------------------------------------------------------------------------

LESR = ["method=lesr", "agent=td3", "agent.hidden=[16]", "env=mujoco/hopper", "budget.env_steps=60", "eval.episodes=1",
        "eval.max_steps=20", "log.progress=false"]  # fmt: skip


@pytest.mark.parametrize("ends, code, told, standing", [
    ("kill -9 $$", 137, "signal 9", "INTERRUPTED"),
    ("kill -15 $$", 143, "signal 15", "INTERRUPTED"),
    ("echo broken; exit 1", 1, "broken", "FAILED"),
    ("echo away; exit 75", 75, "away", "PAUSED"),
])  # fmt: skip
def test_a_childs_end_is_its_parents(ends, code, told, standing, llmrl_run, tmp_path, monkeypatch):
    child = a_program(tmp_path, ends)
    monkeypatch.setattr("llmrl.runs.children.sys.executable", str(child))
    done = llmrl_run(*LESR)
    assert done.code == code and told in done.err and "Traceback" not in done.err, done.err
    assert status(only_run(tmp_path)) == standing


def test_a_child_that_cannot_start_is_a_failure(llmrl_run, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrl.runs.children.sys.executable", str(tmp_path / "nothing"))
    done = llmrl_run(*LESR)
    assert done.code == 1 and "nothing" in done.err and status(only_run(tmp_path)) == "FAILED"


def test_a_child_that_is_refused_leaves_nothing(llmrl_run, tmp_path, monkeypatch):
    child = a_program(tmp_path, "echo 'method.k: not so' >&2; exit 2")
    monkeypatch.setattr("llmrl.runs.children.sys.executable", str(child))
    done = llmrl_run(*LESR)
    assert done.code == 2 and "method.k: not so" in done.err
    assert list(tmp_path.iterdir()) == [child]


def a_program(folder: Path, text: str) -> Path:
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "{}", '{"seed": 0}', "{", '{"choices": 1}', "\ud800", "[" * 100_000],
    ids=lambda text: ascii(text[:9]),
)
def test_a_config_json_that_is_none(text, llmrl_run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(text, errors="surrogatepass")
    done = llmrl_run("--from", "run")
    assert done.code == 2 and "Traceback" not in done.err and done.err, done.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_node_that_was_kept_is_no_looser(composed):
    with pytest.raises(ConfigError, match=r"agent\.gamma"):
        from_node(json.loads(json.dumps(composed | {"agent": composed["agent"] | {"gamma": math.nan}})))
