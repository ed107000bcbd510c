"""The commands around `llmrl run`: help, list, check, status, doctor. test_cli_eval.py has eval."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import CART_POLE, Done
from leases import held

from llmrl import cli
from llmrl.commands import doctor, status
from llmrl.commands import list as list_command
from llmrl.commands.check import difference, last_return
from llmrl.conf_files import GROUPS, options

ROOT = Path(__file__).resolve().parents[2]

# --- words and help -------------------------------------------------------------------------------------------------


def test_help_names_every_command_group_and_choice(llmrl: Callable[..., Done]) -> None:
    assert all(command in llmrl().out for command in cli.COMMANDS)
    assert llmrl("-h").out == llmrl("--help").out == llmrl().out
    text = llmrl("run", "--help").out
    for group in GROUPS:
        assert all(choice.rpartition("/")[2] in text for choice in options(group))
    for command in cli.COMMANDS:
        assert f"llmrl {command}" in llmrl(command, "--help").out


def test_hydra_has_its_own_help(llmrl: Callable[..., Done]) -> None:
    assert "Hydra" in llmrl("run", "--hydra-help").out


@pytest.mark.parametrize(
    ("word", "hint"), [("rum", "llmrl run"), ("agent=td3", "llmrl run agent=td3"), ("xyzzy", "completion")]
)
def test_an_unknown_command_is_refused_with_the_nearest(llmrl: Callable[..., Done], word: str, hint: str) -> None:
    done = llmrl(word)
    assert done.code == 2
    assert f"no command `{word}`" in done.err and hint in done.err


LIGHT = """
import sys
from llmrl.cli import main
for args in (["--help"], ["run", "--help"], ["list"], ["list", "env"], ["--complete"], ["status", "."]):
    assert main(args) == 0
heavy = {"torch", "hydra", "omegaconf", "pydantic", "litellm", "wandb", "mujoco", "gymnasium", "numpy"}
print("imported:", sorted(heavy & set(sys.modules)))
"""


def test_light_commands_import_nothing_heavy(tmp_path: Path) -> None:
    env = os.environ | {"COMP_LINE": "llmrl run agent.", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported: []", done.stderr


def test_python_m_llmrl_is_the_same_and_a_closed_pipe_is_no_error(llmrl: Callable[..., Done]) -> None:
    command = f'"{sys.executable}" -m llmrl list agent; "{sys.executable}" -m llmrl list | true'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)
    assert done.stdout == llmrl("list", "agent").out
    assert done.stderr == ""


# --- list -----------------------------------------------------------------------------------------------------------


def test_list_shows_every_choice_with_what_it_is(llmrl: Callable[..., Done]) -> None:
    text = llmrl("list").out
    for group in GROUPS:
        assert all(choice.rpartition("/")[2] in text for choice in options(group))
    assert "quickstart" in text and "main job" in text
    assert "A tenth" in llmrl("list", "budget").out
    assert "mujoco/hopper" in llmrl("list", "env").out


@pytest.mark.parametrize("agent", options("agent"))
def test_list_tells_the_actions_that_the_agents_class_declares(agent: str) -> None:
    from llmrl.config import agent_of

    assert list_command.actions_of(agent) == agent_of(agent).actions


def test_list_says_what_a_suite_lacks(llmrl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_command, "_installed", lambda module: module != "mujoco")
    assert "! needs mujoco: pip install 'gymnasium[mujoco]'" in llmrl("list", "env").out


def test_list_of_an_unknown_group(llmrl: Callable[..., Done]) -> None:
    done = llmrl("list", "agnet")
    assert done.code == 2 and "Did you mean `agent`?" in done.err


# --- check ----------------------------------------------------------------------------------------------------------


# programs of an LLM run in processes, and KALM has three stages, so some presets stand for all; test_presets_lesr.py,
# test_explorllm.py and test_kalm.py show what each changes
CHECKED = [p for p in options("experiment") if not p.startswith(("lesr/", "explorllm/", "kalm/"))]
CHECKED += ["lesr/hopper", "lesr/fetch_reach", "lesr/transfer_ppo"]
CHECKED += ["explorllm/guided", "explorllm/unguided env=pick_place/long_horizon"]


@pytest.mark.usefixtures("children_here")
@pytest.mark.parametrize("preset", CHECKED)
def test_every_preset_passes_the_check_and_nothing_is_left(
    llmrl: Callable[..., Done], preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    done = llmrl("check", *f"experiment={preset}".split())
    assert done.code == 0, done.err
    assert "20 env_steps, " in done.out and ", 0 updates" not in done.out
    assert "checkpoint: written, read back, equal" in done.out
    assert list(tmp_path.iterdir()) == [scratch] and not list(scratch.glob("llmrl-*"))


def test_check_lets_the_method_ask_its_scripted_llm(
    llmrl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    done = llmrl("check", *CART_POLE, "method=llm_explorer", "llm=gpt-4o-mini", "agent.n_envs=3")
    assert done.code == 0, done.err
    assert "gpt-4o-mini, the key in OPENAI_API_KEY is set; it was not called" in done.out
    assert "scripted LLM: 4 calls" in done.out, "two rounds of episodes have ended, each refresh is two calls"
    assert "not-a-key" not in done.out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent=dqn"], "Agents for it: "),
        (["agent=tdd"], "Did you mean `td3`?"),
        (["agent.batchsize=3"], "Did you mean `agent.batch_size`?"),
        (["agent.gamma=2"], "agent.gamma"),
        (["method=llm_explorer", "llm=gpt-4o-mini"], "OPENAI_API_KEY is not set"),
        (["method=llm_explorer", "llm.replay=/nowhere"], "llm.replay"),
        (["compute.device=tpu"], "compute.device"),
        (["-m", "seed=0,1"], "no flags such as -m"),
        (["seed=0,1"], "seed=0,1"),
    ],
)
def test_check_refuses_what_run_would_refuse(
    llmrl: Callable[..., Done], overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = llmrl("check", *overrides)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_check_tells_the_return_of_the_task_and_not_of_a_suite(tmp_path: Path) -> None:
    rows = [("random", 0.1), ("greedy", 0.2), ("greedy", 0.5), ("greedy on unseen_letters", 0.9)]
    lines = [json.dumps({"policy": policy, "return_mean": value}) + "\n" for policy, value in rows]
    (tmp_path / "eval.jsonl").write_text("".join(lines))
    assert last_return(tmp_path) == "return 0.500 in at most 100 env_steps"


def test_check_finds_an_agent_that_forgets_something(
    llmrl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmrl.agents.dqn import DQN

    remember = DQN.load_state_dict
    monkeypatch.setattr(DQN, "load_state_dict", lambda self, state: remember(self, state | {"updates": 0}))
    done = llmrl("check", *CART_POLE)
    assert done.code == 1
    assert "state.agent.updates differs" in done.err


def test_difference_names_the_first_part_that_differs() -> None:
    def state() -> dict:
        return {"a": [1, {"b": torch.ones(2)}], "c": np.arange(3), "d": None, "e": "text"}

    assert difference(state(), state()) == ""
    other = state()
    other["a"][1]["b"][1] = 0
    assert difference(state(), other) == "state.a.1.b"
    assert difference(state(), state() | {"c": np.arange(4)}) == "state.c"
    assert difference(state(), state() | {"d": 0}) == "state.d"
    assert difference(state(), state() | {"f": 0}) == "state"


# --- status ---------------------------------------------------------------------------------------------------------


def a_run(root: Path, name: str, told: dict | str | None, *, commit: str = "aaaa", study: str = "study") -> Path:
    """A run directory with as much in it as `status` reads."""
    path = root / "outputs" / study / "vanilla-td3" / "mujoco-hopper" / name
    path.mkdir(parents=True)
    (path / "identity.json").write_text("{}")
    (path / "versions.json").write_text(json.dumps({"starts": [{"code": {"commit": commit, "version": "0.1"}}]}))
    if told is not None:
        (path / "status.json").write_text(told if isinstance(told, str) else json.dumps(told))
    return path


def test_status_shows_every_run_as_it_stands(llmrl: Callable[..., Done], tmp_path: Path) -> None:
    running = {"status": "RUNNING", "env_steps": 1500, "target_env_steps": 20000, "updated": "2020-01-01T00:00:00+0000"}
    alive, killed = a_run(tmp_path, "s0-alive", running), a_run(tmp_path, "s1-killed", running)
    a_run(tmp_path, "s2-damaged", '{"status": "RUN')
    a_run(tmp_path, "s3-strange", "[1, 2]")
    a_run(tmp_path, "s4-new", None)
    a_run(tmp_path, "s5-failed", {"status": "FAILED", "reason": "ValueError: it broke\nand more"})
    a_run(tmp_path, "s6-replaced", running, study=".replaced/study")
    (killed / "eval.jsonl").write_text('{"policy": "greedy", "env_steps": 1600, "return_mean": 321.25}\n{"torn')
    call = {"kind": "call", "purpose": "p", "messages": [], "prompt_tokens": 1, "completion_tokens": 1}
    lines = [json.dumps(call | {"index": str(i), "usd": 0.5}) + "\n" for i in range(3)]
    (killed / "llm.jsonl").write_text("".join(lines))
    with held(alive):
        done = llmrl("status")
    assert done.code == 0, done.err
    rows = {line.split()[3]: line.split() for line in done.out.splitlines()[1:7]}
    assert rows["s0-alive"][4:7] == ["RUNNING", "1,500", "20,000"]
    assert rows["s1-killed"][4:11] == ["INTERRUPTED", "1,600", "20,000", "321.2", "3", "0", "1.50"]
    assert rows["s1-killed"][12] == "d"
    assert [rows[name][4] for name in ("s2-damaged", "s3-strange", "s5-failed")] == ["DAMAGED", "DAMAGED", "FAILED"]
    assert "NO STATUS" in done.out and "s6-replaced" not in done.out
    assert "6 runs: 2 DAMAGED, 1 FAILED, 1 INTERRUPTED, 1 NO STATUS, 1 RUNNING" in done.out
    assert "s5-failed: FAILED, ValueError: it broke" in done.out and "and more" not in done.out


def test_status_marks_a_study_that_mixes_code(llmrl: Callable[..., Done], tmp_path: Path) -> None:
    for name, commit in (("s0-a", "aaaa"), ("s1-b", "aaaa"), ("s2-c", "bbbb")):
        a_run(tmp_path, name, {"status": "PAUSED"}, commit=commit, study="mixed")
    a_run(tmp_path, "s0-d", {"status": "PAUSED"}, commit="cccc", study="pure")
    out = llmrl("status", "outputs").out
    assert "* mixed: runs of different code: aaaa (2 runs), bbbb (1 runs)" in out
    assert out.count("aaaa*") == 2 and out.count("bbbb*") == 1 and "cccc*" not in out and "* pure" not in out


def test_the_last_greedy_row_is_found_from_the_end_of_a_long_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "TAIL", 50)
    rows = [{"policy": "greedy", "n": n, "filler": "x" * 40} for n in range(9)] + [{"policy": "random", "y": "x" * 300}]
    file = tmp_path / "eval.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert status.last_greedy(file)["n"] == 8
    file.write_text(json.dumps(rows[-1]) + "\n")
    assert status.last_greedy(file) == status.last_greedy(tmp_path / "nothing") == {}


def test_status_where_nothing_is(llmrl: Callable[..., Done], tmp_path: Path) -> None:
    assert llmrl("status").code == 2
    (tmp_path / "outputs").mkdir()
    assert llmrl("status").out == "No run below outputs/ yet.\n"


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_tells_what_is_here_and_shows_no_key(
    llmrl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    monkeypatch.setattr(doctor, "packages", lambda: iter([(doctor.OK, "torch", "here")]))
    done = llmrl("doctor")
    assert done.code == 0, done.out
    for word in ("torch", "CPU cores", "Atari ROMs", "MUJOCO_GL=egl", "wandb", "free space"):
        assert word in done.out
    assert "OPENAI_API_KEY             set" in done.out and "secret" not in done.out
    assert "clock of its server        +0.0 s" in done.out or "clock of its server        -0.0 s" in done.out


def test_doctor_fails_where_something_required_is_missing(
    llmrl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in ("litellm", "imageio"):
            raise metadata.PackageNotFoundError
        return {"mujoco": "99.0"}.get(name, "50.0")

    needs = ["litellm>=1.80", "mujoco<3.11", 'imageio[ffmpeg]>=2.36; extra == "video"', "rich>=13"]
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    monkeypatch.setattr(metadata, "version", version)
    found = {what: (mark, told) for mark, what, told in doctor.packages()}
    assert found["litellm"] == (doctor.MISSING, "not installed: pip install 'litellm>=1.80'")
    assert found["mujoco"] == (doctor.MISSING, "99.0, but <3.11 is needed: pip install 'mujoco<3.11'")
    assert found["extra video"] == (doctor.OPTIONAL, "missing: imageio. Get them: pip install 'llmrl[video]'")
    assert found["rich"][0] == doctor.OK
    monkeypatch.setattr(doctor, "rendering", lambda: iter([]))
    assert llmrl("doctor").code == 1


def test_doctor_says_what_to_install_where_nothing_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DRAW", "raise RuntimeError('no display')")
    monkeypatch.delenv("DISPLAY", raising=False)
    egl, osmesa, advice = doctor.rendering()
    assert egl == (doctor.OPTIONAL, "MUJOCO_GL=egl", "RuntimeError: no display") and osmesa[0] == doctor.OPTIONAL
    assert "apt-get install libegl1" in advice[2]


def test_doctor_says_where_clocks_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now + 3600)
    found = {what: (mark, text) for mark, what, text in doctor.files(tmp_path / "outputs")}
    assert found["clock of its server"][0] == doctor.OPTIONAL and "set the clocks" in found["clock of its server"][1]
    assert "will be made" in found["write access"][1] and not list(tmp_path.iterdir())


def test_doctor_reads_wandbs_login_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert (doctor.OPTIONAL, "wandb") in [(mark, what) for mark, what, _ in doctor.key_variables()]
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password hidden\n")
    assert (doctor.OK, "wandb", "logged in (netrc)") in list(doctor.key_variables())


def test_a_key_with_nothing_in_it_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    assert (doctor.OPTIONAL, "OPENAI_API_KEY", "not set") in list(doctor.key_variables())
