"""What a user asks wrongly: the key, where it came from, the nearest valid name, exit 2, and nothing left behind."""

import subprocess
import sys

import pytest
from conftest import CART_POLE, ROOT, Process, run_directories, status

import llmrl.conf_files
from llmrl.runs.files import read_json, read_jsonl

HOSTED = [*CART_POLE, "method=llm_explorer", "method.k=1", "llm.retry_wait_s=0.01", "llm.retries=1"]


@pytest.mark.parametrize("args, told", [
    # an unknown key, and what was meant
    (["agent.gama=0.9"], ["agent.gama", "unknown key", "command line", "`agent.gamma`"]),
    (["experiment=kalm/clevr", "method.rollouts.model.model.batchsize=1"],
     ["method.rollouts.model.model.batchsize", "unknown key", "`method.rollouts.model.model.batch_size`"]),
    (["budgt=smoke"], ["budgt", "unknown key", "`budget`"]),
    (["eval.episode=3"], ["eval.episode", "`eval.episodes`"]),
    (["+agent.gama=0.9"], ["agent.gama", "unknown key", "command line", "`gamma`"]),
    # a wrong type or value
    (["agent.gamma=high"], ["agent.gamma", "'high'", "command line"]),
    (["agent.gamma=1.5"], ["agent.gamma", "1.5", "command line"]),
    (["agent.batch_size=-1"], ["agent.batch_size", "-1"]),
    (["agent.loss=hubber"], ["agent.loss", "'hubber'", "huber"]),
    (["budget.env_steps=many"], ["budget.env_steps", "'many'"]),
    (["budget.evaluations=0", "eval.every=null"], ["budget.evaluations", "0"]),
    (["study=../elsewhere"], ["study", "../elsewhere"]),
    (["env.suite=nowhere"], ["env", "nowhere"]),
    (["seed=-1"], ["seed", "-1"]),
    (["seed=first"], ["seed", "first"]),
    (["agent.batch_size=-1", "eval.max_steps=no"], ["agent.batch_size", "eval.max_steps"]),  # all that is wrong at once
    # what does not fit together
    (["agent.epsilon_end=0.5", "agent.epsilon_start=0.1"], ["agent.epsilon_end", "epsilon_start", "command line"]),
    (["~agent.gamma"], ["agent.gamma", "missing"]),
    (["llm.model=gpt-4o-mini"], ["llm.model", "llm=gpt-4o-mini"]),
    # names that do not exist
    (["env=mujoco/hoper"], ["mujoco/hoper", "`mujoco/hopper`", "llmrl list env"]),
    (["agent=dqnn"], ["dqnn", "`dqn`"]),
    (["method=llm_explore"], ["llm_explore", "`llm_explorer`"]),
    (["experiment=quickstrt"], ["quickstrt", "`quickstart`"]),
    # a command line that cannot be read
    (["seed=0,1"], ["seed", "-m"]),
    (["agent.hidden=[16"], ["agent.hidden=[16", "key=value", "no viable alternative at input '[16'"]),
    # what this machine cannot do
    (["compute.device=cuda:99"], ["compute.device", "cuda:99", "compute.device=cpu"]),
    (["compute.device=gpu"], ["compute.device", "`gpu`", "cuda"]),
])  # fmt: skip
def test_a_wrong_command(args, told, llmrl_run, tmp_path):
    done = llmrl_run(*CART_POLE, *args)
    assert done.code == 2, done.err
    for word in told:
        assert word in done.err
    assert "Traceback" not in done.err and done.out == ""
    assert run_directories(tmp_path) == []


def test_a_wrong_budget_is_one_complaint(llmrl_run):
    done = llmrl_run("budget.evaluations=0")
    assert done.code == 2 and len(done.err.splitlines()) == 1, done.err


def test_a_run_too_short_to_learn_says_so(llmrl_run):
    done = llmrl_run(*CART_POLE, "agent.learning_starts=60")
    assert done.code == 0 and "agent.learning_starts=60" in done.err and "no update" in done.err


def test_a_budget_of_dollars_without_a_price_is_refused_before_training(llmrl_run, tmp_path):
    hosted = ["llm=openai_compatible", "llm.model=x", "llm.api_base=http://127.0.0.1:9/v1", "llm.budget_usd=1"]
    done = llmrl_run(*CART_POLE, "method=llm_explorer", *hosted)
    assert done.code == 2 and "llm.usd_per_million_tokens" in done.err
    assert run_directories(tmp_path) == []


@pytest.mark.parametrize("args, told", [
    (["agent=dqn", "env=mujoco/half_cheetah"], ["agent=dqn", "env=mujoco/half_cheetah", "td3"]),
    (["agent=td3", "env=classic/cart_pole"], ["agent=td3", "env=classic/cart_pole", "dqn"]),
    (["agent=td3", "env=atari/freeway"], ["agent=td3", "env=atari/freeway", "dqn"]),
])  # fmt: skip
def test_an_agent_that_cannot_act_there(args, told, llmrl_run, tmp_path):
    done = llmrl_run(*args, "budget=smoke")
    assert done.code == 2
    for word in told:
        assert word in done.err
    assert "Traceback" not in done.err
    assert run_directories(tmp_path) == []


def test_a_task_without_a_text_is_refused_where_the_llm_needs_it(llmrl_run, tmp_path):
    untold = [f"env.task.{part}=null" for part in ("description", "actions", "reward", "end", "goal")]
    done = llmrl_run(*HOSTED, "env=atari/krull", "budget=smoke", *untold)
    assert done.code == 2
    assert "method.prompt=full" in done.err and "method.prompt=name" in done.err
    assert run_directories(tmp_path) == []


def test_a_wrong_key_in_a_yaml_names_the_file(tmp_path):
    folder = tmp_path / "lab" / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /agent: dqn\n  - override /env: classic/cart_pole\n"
        "agent:\n  gamma: 2\n  learningrate: 0.1\n"
    )
    done = Process(["experiment=mine"], tmp_path, {"LLMRL_PATH": str(tmp_path / "lab")}).end()
    assert done.code == 2, done.err
    lines = done.err.splitlines()
    assert any("agent.gamma" in line and "mine.yaml" in line for line in lines)
    assert any("agent.learningrate" in line and "mine.yaml" in line and "`learning_rate`" in line for line in lines)
    assert run_directories(tmp_path) == []


def test_a_package_that_is_not_installed(tmp_path):
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'mujoco':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from llmrl.cli import main\n"
        "sys.exit(main(['run', 'budget=smoke', 'env=mujoco/hopper']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "mujoco" in done.stderr and "pip install" in done.stderr and "Traceback" not in done.stderr
    assert run_directories(tmp_path) == []


def test_a_hosted_model_without_its_key(llmrl_run, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = llmrl_run(*HOSTED, "llm=gpt-4o-mini")
    assert done.code == 2
    assert "OPENAI_API_KEY" in done.err and "llm=scripted" in done.err
    assert run_directories(tmp_path) == []


def test_a_missing_transcript(llmrl_run, tmp_path):
    done = llmrl_run(*HOSTED, "llm.replay=nowhere")
    assert done.code == 2
    assert "llm.replay" in done.err and "nowhere" in done.err
    assert run_directories(tmp_path) == []


def test_an_unreachable_server_pauses_the_run_and_loses_nothing(llmrl_run, tmp_path, monkeypatch):
    """Nobody listens on port 9 of this machine. Later somebody does: the run goes on from where it paused."""
    from llmrl.llm import scripted
    from llmrl.llm.client import LLM, Reply

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    args = [*HOSTED, "llm=openai_compatible", "llm.model=some/model", "llm.api_base=http://127.0.0.1:9/v1"]
    done = llmrl_run(*args)
    assert done.code == 75, done.err
    assert "some/model at http://127.0.0.1:9/v1" in done.err and "connection" in done.err
    assert "paused" in done.err and "Traceback" not in done.err
    (directory,) = run_directories(tmp_path)
    assert status(directory) == "PAUSED"
    assert "127.0.0.1:9" in read_json(directory / "status.json")["reason"]
    rows = (directory / "metrics.jsonl").read_bytes()
    assert b'"episode"' in rows
    assert {row["kind"] for row in read_jsonl(directory / "llm.jsonl")} == {"failure"}

    def listens(self, messages, purpose, index, json):
        return Reply(scripted.answer(messages, purpose), "some/model", 1, 1, 0.0)

    monkeypatch.setattr(LLM, "_ask_model", listens)
    again = llmrl_run(*args)
    assert again.code == 0, again.err
    assert status(directory) == "DONE"
    assert (directory / "metrics.jsonl").read_bytes().startswith(rows)


def test_bad_input_in_a_directory_that_was_there_before_leaves_it_alone(llmrl_run, tmp_path, monkeypatch):
    """A run that was interrupted keeps its checkpoint and its status when it cannot be continued now."""
    from llmrl.agents.dqn import DQN
    from llmrl.checks import ConfigError

    with monkeypatch.context() as patch:
        patch.setattr(DQN, "update", lambda self, batch: 1 / 0)
        assert llmrl_run(*CART_POLE).code == 1
    (directory,) = run_directories(tmp_path)

    def refuses(self):
        raise ConfigError("not today")

    with monkeypatch.context() as patch:
        patch.setattr(DQN, "replay_buffer", refuses)
        done = llmrl_run(*CART_POLE)
    assert done.code == 2 and "not today" in done.err
    assert status(directory) == "FAILED"
    assert llmrl_run(*CART_POLE).code == 0


def test_every_choice_is_offered_by_its_name():
    """`nearest` and `llmrl list` work on these names."""
    assert {"classic/cart_pole", "mujoco/hopper", "atari/freeway"} <= set(llmrl.conf_files.options("env"))
    assert not any(part.startswith("_") for name in llmrl.conf_files.options("env") for part in name.split("/"))
