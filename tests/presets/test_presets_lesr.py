"""Each column of LESR's tables differs from its base in the one thing that it is about: in the run's identity, and in
what the LLM is asked, what is trained, or what the agent sees and is paid. (Prompts, feedback:
tests/methods/lesr/test_lesr_searches.py.)"""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import compose
from llm_server import Server
from numpy.testing import assert_allclose
from test_lesr import asked, children
from test_presets_llm_explorer import cell, difference

from llmrl.build import make_agent, make_env
from llmrl.commands.cells import table_of
from llmrl.config import from_node
from llmrl.context import RunContext
from llmrl.contracts.replay import Step
from llmrl.methods.lesr import method as lesr
from llmrl.methods.lesr import scripted as scripted_lesr
from llmrl.methods.lesr import search as lesr_search
from llmrl.methods.search import candidates
from llmrl.runs.children import outcome_of
from llmrl.runs.files import read_json, read_jsonl, write_json, write_text
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop

cell = cache(cell)


# --- in the run's identity --------------------------------------------------------------------------------------------


REWARD_ALONE = {"method.search.w": 1.0, "method.search.writes": "reward"}
BASES = {"ablations": "LESR", "sensitivity": "base", "llm_choice": "GPT-4 (1106)"}
DIFFERENT = {
    "ablations": {
        "without reward": {"method.search.w": 0.0},
        "without features": {"method.search.state": "source"},
        "without feedback": {"method.search.feedback": False},
        "without Lipschitz": {"method.search.tell_lipschitz": False},
        "without chain of thought": {"method.search.chain_of_thought": False},
        "random features": {"method.control": "random_features"},
        "duplicated dimensions": {"method.control": "duplicated_dimensions"},
        "reward alone, added": REWARD_ALONE,
        "reward alone, in place": REWARD_ALONE | {"method.search.reward": "replace"},
        "discounted return": {"method.search.lipschitz": "discounted_return"},
        "spectral norm": {"method.search.lipschitz": "spectral_norm"},
        "authors' constants": {"method.search.lipschitz": "cumulative"},
        "scaled constants": {"method.search.scaled": True},
    },
    "sensitivity": {
        **{f"K={k}": {"method.search.k": k} for k in (2, 4)},
        **{f"I={i}": {"method.search.iterations": i} for i in (1, 2, 5)},
        **{f"w={w:g}": {"method.search.w": w} for w in (0.0, 0.001, 0.01, 0.1)},
        **{f"T={t:g}": {"llm.temperature": t} for t in (0.0, 0.7)},
    },
    "llm_choice": {
        "GPT-4o": {"llm.model": "gpt-4o-2024-08-06"},
        "GPT-4o mini": {"llm.model": "gpt-4o-mini"},
        "Llama 3.1 70B": {"llm.model": "deepinfra/meta-llama/Meta-Llama-3.1-70B-Instruct"},
        "scripted": {"llm.kind": "scripted", "llm.model": "scripted"},
    },
}


@pytest.mark.parametrize("table", DIFFERENT)
def test_a_column_differs_from_its_base_in_its_own_keys(table):
    name, base = f"lesr/{table}", BASES[table]
    assert {*table_of(name).columns} - {"TD3"} == {base, *DIFFERENT[table]}
    for column, expected in DIFFERENT[table].items():
        found = difference(cell(name, column).identity, cell(name, base).identity)
        assert {key: mine for key, (mine, _) in found.items()} == expected, column


def test_raw_td3_differs_in_the_method_alone():
    found = difference(cell("lesr/ablations", "TD3").identity, cell("lesr/ablations", "LESR").identity)
    assert {key.partition(".")[0] for key in found} == {"method", "name", "llm", "env"}
    assert [key for key in found if key.startswith(("name", "env"))] == ["env.task", "name.method"]


@pytest.mark.parametrize("agent", ["PPO", "SAC"])
def test_transfer_changes_the_agent_and_shares_the_search_of_td3(agent):
    moved = cell("lesr/transfer", f"{agent}, LESR's state")
    assert moved.identity["agent"] == cell("lesr/transfer", agent).identity["agent"]
    found = difference(moved.identity, cell("lesr/ablations", "LESR").identity)
    assert {k for k in found if not k.startswith("agent.")} == {"name.agent", "method.search_agent"}
    assert [s.path for s in moved.stages] == [s.path for s in cell("lesr/ablations", "LESR").stages]


def test_the_controls_share_lesrs_search_and_the_llms_have_their_own():
    searches = {
        c: cell("lesr/ablations", c).stages[0].path for c in ("LESR", "random features", "duplicated dimensions")
    }
    assert len(set(searches.values())) == 1
    models = [cell("lesr/llm_choice", column).stages[0].path for column in table_of("lesr/llm_choice").columns]
    assert len(set(models)) == len(models)


# --- searches whose trainings are made up, on the tables' first row ---------------------------------------------------


SMALL = ["method.search_env_steps=60", "method.search_evaluations=3", "method.search.score_window=30",
         "method.search.states=60", "budget.env_steps=80", "eval.every=40", "log.progress=false"]  # fmt: skip
ONE = ["method.search.k=1", "method.search.iterations=1"]


def trained(directories, parallel, stop):
    """In place of the trainings: each ends at once, with some score, some constants and the agent as it began."""
    for directory in directories:
        config = from_node(read_json(directory / "config.json"))
        env = make_env(config, "train")
        agent = make_agent(config, env, env_steps=config.budget.env_steps)
        torch.save(agent.state_dict(), directory / "agent.pt")
        facts = env.facts()
        env.close()
        facts["lipschitz"] = [1.5] * (17 + facts["features"])
        write_json(directory / "result.json", {"env_steps": 60, "updates": 50, "episodes": 3, "wrapper": facts})
        rows = [{"policy": "greedy", "env_steps": s, "returns": [float(s)], "lengths": [20]} for s in (20, 40, 60)]
        write_text(directory / "eval.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        write_json(directory / "status.json", {"status": "DONE"})
    return [outcome_of(directory) for directory in directories]


def configured(table, column, *more):
    """The Config of a column's run in the table's first row, small."""
    read = table_of(f"lesr/{table}")
    row = next(iter(read.rows.values()))
    return from_node(compose([*read.base, *row.set, *read.columns[column].set, *SMALL, *more]))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(the Config of a column's run, the directory of its search): each search is made once."""
    made: dict = {}

    def search(table, column, *more):
        if (table, column, more) in made:
            return made[table, column, more]
        config = configured(
            table, column, *([] if "llm_choice" in table or "T=" in column else ["llm=scripted"]), *more
        )
        directory = tmp_path_factory.mktemp("search")
        log = RunLog(directory)
        ctx = RunContext(lesr.search_of(config), directory, Stop(), log, lambda *_: None)
        result = lesr_search.LESRSearch().run(ctx) | {"llm": ctx.llm.usage()}
        write_json(directory / "result.json", result)
        log.close()
        made[table, column, more] = config, directory
        return config, directory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "run_all", trained)
        yield search


@pytest.mark.parametrize("column, k, iterations", [("K=4", 4, 1), ("I=2", 1, 2)])
def test_k_programs_are_trained_in_each_of_i_iterations(searched, column, k, iterations):
    other = "method.search.iterations=1" if column.startswith("K") else "method.search.k=1"
    _, directory = searched("sensitivity", column, other)
    expected = sorted(f"{i}-{s}" for i in range(iterations) for s in range(k))
    assert sorted(path.name for path in (directory / "candidates").iterdir()) == expected
    assert len(asked(directory, "lesr.feedback")) == iterations - 1
    (config,) = {json.dumps(child.budget) for child in children(directory)}
    assert json.loads(config)["env_steps"] == 60


def test_the_intrinsic_rewards_share_is_recorded_and_can_be_limited(searched):
    _, directory = searched("ablations", "LESR", *ONE)
    (told,) = [row for row in read_jsonl(directory / "llm.jsonl") if row.get("event") == "accepted"]
    assert 0 < told["reward_share"] < 1
    with pytest.raises(RuntimeError, match="None of the 0 programs") as error:
        less = f"method.search.max_reward_share={told['reward_share'] / 2}"
        searched("ablations", "LESR", *ONE, less, "method.search.max_tries=1")
    (place,) = [word for word in str(error.value).split() if word.endswith("llm.jsonl")]
    (rejected,) = [row for row in read_jsonl(Path(place)) if row.get("event") == "rejected"]
    assert rejected["reason"] == "reward_too_large" and "times the task's reward" in rejected["detail"]


def test_spectral_norms_are_those_of_the_trained_critic(searched):
    _, directory = searched("ablations", "spectral norm", *ONE)
    (child,) = children(directory)
    assert child.wrapper["record"] is None
    (told,) = [row for row in read_jsonl(directory / "llm.jsonl") if row.get("event") == "trained"]
    state = torch.load(directory / "candidates" / "0-0" / "agent.pt", weights_only=True)
    first, *others = lesr_search.critic_weights(state)
    assert first.shape[1] == len(told["lipschitz"]) + 6 and len(others) == 2  # the six actions have none
    whole = np.prod([np.linalg.svd(w)[1][0] for w in others])
    expected = [np.sqrt(np.sum(column.astype(float) ** 2)) * whole for column in first.T[:-6]]
    assert_allclose(told["lipschitz"], expected, rtol=1e-4)


# --- what the agent sees and is paid ----------------------------------------------------------------------------------


class Final(RunContext):
    """A final run up to its training: what it builds on is there, and nothing is trained."""

    found = None  # the search's directory

    def artifact(self, config, product):
        return self.found

    def train(self, agent, explorer, wrapper):
        self.wrapper = wrapper
        return {"env_steps": 0}


def first_step(config, search, directory):
    """The first transition of a column's final run, as its agent learns from it; and what s, r, F and G are."""
    ctx = Final(config, directory, Stop(), RunLog(directory), lambda *_: None)
    ctx.found = search
    lesr.LESR().run(ctx)
    env, plain, agent = ctx.env("train", ctx.wrapper), make_env(config, "train"), ctx.agent(ctx.wrapper)
    action = np.linspace(-0.5, 0.5, 6, dtype=np.float32)
    (s, _), (seen, _) = plain.reset(seed=3), env.reset(seed=3)
    r = plain.step(action)[1]
    after, paid, terminated, truncated, _ = env.step(action)
    env.close()
    buffer = agent.replay_buffer()
    one = [np.array([value]) for value in (paid, terminated, truncated)]
    buffer.add(Step(seen[None], action[None], one[0], after[None], one[1], one[2]))
    batch = next(buffer.batches(1, np.random.default_rng(0), agent))
    pair = {"revise_state": lambda s: s, "intrinsic_reward": lambda s: 0.0}
    exec((directory / "transform.py").read_text(), pair)  # a program of ours, not a language model's
    x = pair["revise_state"](s.copy())
    return SimpleNamespace(
        obs=batch.obs[0].numpy(),
        reward=float(batch.reward[0]),
        agent=agent,
        s=s,
        r=r,
        x=x,
        g=pair["intrinsic_reward"](x),
    )


@pytest.mark.parametrize(
    "table, column, sees, w",
    [
        ("ablations", "LESR", "augmented", 0.02),
        ("sensitivity", "w=0.1", "augmented", 0.1),
        ("ablations", "without reward", "augmented", 0),
        ("ablations", "without features", "source", 0.02),
        ("ablations", "reward alone, added", "source", 1),
        ("ablations", "reward alone, in place", "source", 1),
    ],
)
def test_what_the_agent_sees_and_is_paid(searched, tmp_path, table, column, sees, w):
    step = first_step(*searched(table, column, *ONE), tmp_path)
    assert step.g != 0 and (len(step.x) > 17) == (not column.startswith("reward alone"))
    assert_allclose(step.obs, step.x if sees == "augmented" else step.s, rtol=1e-6)
    own = 0 if column == "reward alone, in place" else step.r
    assert step.reward == pytest.approx(own + w * step.g, rel=1e-5)


@pytest.mark.parametrize("control", ["random_features", "duplicated_dimensions"])
def test_a_control_is_as_wide_as_lesrs_state_and_pays_nothing(searched, tmp_path, control):
    _, search = searched("ablations", "LESR", *ONE)
    config = configured("ablations", control.replace("_", " "), "llm=scripted", *ONE)
    step, features = first_step(config, search, tmp_path), read_json(search / "result.json")["lesr"]["features"]
    assert step.obs.shape == (17 + features,) and step.reward == pytest.approx(step.r, rel=1e-6)
    added = step.obs[17:]
    if control == "duplicated_dimensions":
        assert_allclose(added, step.s[:features], rtol=1e-6)
    else:
        assert (np.abs(added) < 1).all() and not np.isin(added, step.obs[:17]).any()


@pytest.mark.parametrize("agent", ["PPO", "SAC"])
def test_another_agent_learns_from_the_state_that_td3s_search_found(searched, tmp_path, agent):
    _, search = searched("ablations", "LESR", *ONE)
    one = ["agent.n_steps=1", "agent.batch_size=1", "agent.n_epochs=1"] if agent == "PPO" else []
    config = configured("transfer", f"{agent}, LESR's state", "llm=scripted", *ONE, *one)
    step = first_step(config, search, tmp_path)
    assert type(step.agent).__name__ == agent
    assert_allclose(step.obs, step.x, rtol=1e-6)
    assert len(step.x) > 17


def test_dropped_source_dimensions_are_not_seen_but_count_in_f_and_g(searched):
    _, search = searched("ablations", "LESR", *ONE)
    words = ["agent=td3", "env=mujoco/half_cheetah", "env.version=4", "wrapper=lesr", f"wrapper.artifact={search}"]
    whole, less = (make_env(from_node(compose(more)), "train") for more in (words, [*words, "wrapper.drop=[8,9]"]))
    action = np.full(6, 0.3, np.float32)
    for env in (whole, less):
        env.reset(seed=3)
    (all_of_it, paid, *_), (rest, same, *_) = whole.step(action), less.step(action)
    whole.close(), less.close()
    assert np.array_equal(rest, np.delete(all_of_it, [8, 9])) and same == paid


# --- what the LLM is asked with ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table, column, model, temperature",
    [
        ("sensitivity", "T=0", "gpt-4-1106-preview", 0.0),
        ("sensitivity", "T=0.7", "gpt-4-1106-preview", 0.7),
        ("llm_choice", "GPT-4 (1106)", "gpt-4-1106-preview", 1.0),
        ("llm_choice", "GPT-4o", "gpt-4o-2024-08-06", 1.0),
        ("llm_choice", "Llama 3.1 70B", "meta-llama/Meta-Llama-3.1-70B-Instruct", 1.0),
    ],
)
def test_model_and_temperature_stand_in_the_request(searched, monkeypatch, table, column, model, temperature):
    for key in ("OPENAI_API_KEY", "DEEPINFRA_API_KEY"):
        monkeypatch.setenv(key, "no-real-key")
    code = scripted_lesr.program(scripted_lesr.TASKS["HalfCheetah"][:3], 17)
    with Server(f"```python\n{code}```") as server:
        searched(table, column, f"llm.api_base={server.url}", *ONE)
    (request,) = server.requests
    assert (request["model"], request["temperature"]) == (model, temperature)
    assert [message["role"] for message in request["messages"]] == ["user"]
