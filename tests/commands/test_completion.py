"""Tab completion: what is offered, and that a real bash and a real zsh get it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmrl.commands.completion import SCRIPTS, candidates
from llmrl.conf_files import GROUPS, options

ROOT = Path(__file__).resolve().parents[2]


def after(line: str) -> list[str]:
    """The candidates for the last word of a line that begins behind `llmrl`."""
    words = line.split(" ")
    return candidates(words[:-1], words[-1])


def test_commands_groups_and_choices() -> None:
    assert after("st") == ["status"]
    assert after("run ag") == ["agent.", "agent="]
    assert {f"{group}=" for group in GROUPS} <= set(after("run "))
    assert after("run agent=") == [f"agent={name}" for name in options("agent")]
    assert after("run env=mujoco/hop") == ["env=mujoco/hopper"]
    assert after("list en") == ["env"]
    assert after("completion ") == ["bash", "zsh"]
    assert after("view --") == ["--host", "--port", "--token"]
    assert after("nonsense a") == []


def test_a_list_is_completed_behind_its_last_comma_with_what_is_not_in_it_yet() -> None:
    assert after("run agent=td3,d") == ["agent=td3,ddpg", "agent=td3,decision_transformer", "agent=td3,dqn"]
    assert "agent=td3,td3" not in after("run agent=td3,")


def test_keys_are_those_of_the_chosen_option() -> None:
    assert after("run agent=dqn agent.epsilon_e") == ["agent.epsilon_end="]
    assert after("run agent=td3 agent.epsilon_e") == []
    assert after("run agent.policy") == ["agent.policy_delay="], "td3 is what conf/run.yaml chooses"
    assert after("run experiment=classic/cart_pole agent.policy") == [], "the preset chooses dqn"
    assert after("run experiment=classic/cart_pole agent=td3 agent.policy") == ["agent.policy_delay="]
    assert after("run llm=gpt-4o llm.time") == ["llm.timeout_s="], "gpt-4o builds on gpt-4o-mini, that on scripted"


def test_parts_of_atari_are_offered_with_atari() -> None:
    assert "env/atari/preprocess=" in after("run env=atari/freeway env")
    assert "env/atari/preprocess=" not in after("run env=mujoco/hopper env")
    assert after("run env/atari/preprocess=st") == ["env/atari/preprocess=standard"]
    assert after("run env=atari/freeway env.preprocess.frame_st") == ["env.preprocess.frame_stack="]


def test_values_true_or_false_or_what_it_is_now() -> None:
    assert after("run agent=dqn agent.double=") == ["agent.double=false", "agent.double=true"]
    assert after("run agent.tau=") == ["agent.tau=0.005"]
    assert after("run rerun=t") == ["rerun=true"]


def test_directories_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "outputs" / "study" / "vanilla-td3" / "env" / "s0-12345678"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (tmp_path / "outputs" / ".sweeps").mkdir()
    monkeypatch.chdir(tmp_path)
    assert after("eval ") == ["outputs/study/"]
    assert after("eval outputs/study/vanilla-td3/env/") == ["outputs/study/vanilla-td3/env/s0-12345678"]
    assert after("eval --vi") == ["--video"]
    assert after("status nowhere/") == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH on which `llmrl` is this working tree."""
    program = tmp_path / "bin" / "llmrl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m llmrl "$@"\n')
    program.chmod(0o755)
    return os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}


COMPLETE = """
eval "$(llmrl completion bash)"
complete -p llmrl
try() { COMP_LINE="$1" COMP_POINT=${2:-${#1}}; COMPREPLY=(); _llmrl llmrl; echo "${COMPREPLY[*]}"; }
compopt() { echo -n "no space: "; }   # the real one wants to be called by readline
try "llmrl lis"
try "llmrl run agent=td3,d"
try "llmrl run agent.gam"
try "llmrl run agent.nothing_like_it"
try "llmrl sta --and --more" 9
COMP_WORDBREAKS=" "
try "llmrl run agent=td3,d"
"""


def test_a_real_bash_gets_what_stands_behind_the_equals_sign(environment: dict[str, str]) -> None:
    done = subprocess.run(["bash", "--norc", "-c", COMPLETE], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -F _llmrl llmrl",
        "list",
        "td3,ddpg td3,decision_transformer td3,dqn",
        "no space: agent.gamma=",
        "",
        "status",
        "agent=td3,ddpg agent=td3,decision_transformer agent=td3,dqn",
    ]


ZSH = """
compdef() { :; }
compadd() { [[ $1 == -Q ]] && shift; [[ $1 == -S ]] && shift 2; shift; print -r -- "$@"; }
eval "$(llmrl completion zsh)"
words=(llmrl run agent=td3,d) CURRENT=3; _llmrl
words=(llmrl run agent.gam) CURRENT=3; _llmrl
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_a_real_zsh_gets_whole_words(environment: dict[str, str]) -> None:
    done = subprocess.run(["zsh", "-f", "-c", ZSH], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == ["agent=td3,ddpg", "agent=td3,decision_transformer", "agent=td3,dqn", "agent.gamma="]


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture) -> None:
    from llmrl.cli import main

    assert main(["completion", "fish"]) == 2
    assert ", ".join(SCRIPTS) in capsys.readouterr().err.replace(" or ", ", ")
