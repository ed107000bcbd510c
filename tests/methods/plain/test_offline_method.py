"""method=offline: whole runs on a Minari dataset that the test records."""

import json

import gymnasium as gym
import numpy as np
import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import only_run
from test_dataset import recorded

from llmrl.runs.files import read_json, read_jsonl

ID = "cart_pole/turns-v0"
RUN = ["method=offline", f"method.dataset={ID}", "env=classic/cart_pole", "budget.updates=60", "eval.every=20",
       "eval.episodes=2", "eval.max_steps=20", "log.every=15", "log.progress=false"]  # fmt: skip
TINY = {
    "bc": ["agent.hidden=[8]", "agent.batch_size=8"],
    "decision_transformer": ["agent.width=8", "agent.layers=1", "agent.context=3", "agent.batch_size=8"],
}


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    return recorded(tmp_path / "minari", monkeypatch, gym.make("CartPole-v1"), 3, ID)


@pytest.mark.parametrize("agent", TINY)
def test_a_run_learns_from_the_dataset_and_is_evaluated_on_the_task(agent, dataset, llmrl_run, llmrl, tmp_path):
    command = [*RUN, f"agent={agent}", *TINY[agent]]
    done = llmrl_run(*command)
    assert done.code == 0, done.err
    run = only_run(tmp_path / "outputs")
    rows = [row for row in read_jsonl(run / "eval.jsonl") if row["policy"] == "greedy"]
    assert [(row["env_steps"], row["updates"]) for row in rows] == [(0, 0), (0, 20), (0, 40), (0, 60)]
    assert all(len(row["returns"]) == 2 for row in rows)
    assert [row["updates"] for row in read_jsonl(run / "metrics.jsonl")] == [15, 30, 45, 60]
    result = read_json(run / "result.json")
    returns = [float(np.sum(e.rewards)) for e in dataset.iterate_episodes()]
    assert (result["env_steps"], result["updates"]) == (0, 60)
    expected = {"dataset": ID, "transitions": dataset.total_steps, "episodes": 3, "return_mean": np.mean(returns)}
    assert result["offline"] == pytest.approx(expected)
    again = llmrl_run(*command)
    assert again.code == 0 and (run / "agent.pt").exists() and len(list(run.parent.iterdir())) == 1
    assert "at 60 updates" in llmrl("eval", str(run)).out


def test_a_dataset_that_has_changed_is_not_learnt_from_unnoticed(dataset, llmrl_run, tmp_path):
    command = [*RUN, "agent=bc", *TINY["bc"]]
    assert llmrl_run(*command).code == 0
    run = only_run(tmp_path / "outputs")
    (run / "status.json").write_text(json.dumps(read_json(run / "status.json") | {"status": "INTERRUPTED"}))
    file = tmp_path / "minari" / ID / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes() + b" ")
    done = llmrl_run(*command)
    assert done.code == 2 and "is not what this run began with" in done.err


@pytest.mark.parametrize(
    "change, told",
    [
        (["agent=dqn"], "agent=dqn learns by acting, not from a dataset: use agent=bc, cql, bcq"),
        (
            ["agent=bc", "method=vanilla", "budget.updates=null", "~method.dataset"],
            "BC learns from a dataset, not by acting: use method=",
        ),
        (["agent=bc", "method.dataset=nobody/knows-v0"], "there is no Minari dataset nobody/knows-v0"),
        (["agent=bc", "env=classic/acrobot"], "its observations have 4 numbers, those of the task 6"),
        (["agent=cql", "env=classic/pendulum"], "agent=cql acts in discrete actions, but env=classic/pendulum"),
        (["agent=bc", "budget.updates=null"], "budget.updates"),
    ],
    ids=lambda x: "_".join(x) if isinstance(x, list) else "",
)
def test_what_cannot_be_is_said_before_anything_is_trained(change, told, dataset, llmrl_run, tmp_path):
    kept = [x for x in RUN if "~method.dataset" not in change or not x.startswith("method")]
    done = llmrl_run(*kept, *(x for x in change if not x.startswith("~")))
    assert done.code == 2 and told in done.err, done.err
