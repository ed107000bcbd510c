"""Each table of LLM-Explorer: it composes, its published numbers are found, and a column differs from its base in the
one thing that it is about, in the run's identity and in what the LLM is told or what is made of its answer."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import CART_POLE, only_run
from gymnasium import spaces
from lab_tables import identified
from llm_server import Server
from small_agents import make, vectors
from test_llm_client import client, config, hosted
from test_llm_explorer import BOX, asked, episode, explorer, settings, start

from llmrl.checks import ConfigError
from llmrl.commands.cells import table_of
from llmrl.conf_files import group_file, options
from llmrl.contracts.explorer import Clock, EpisodeSummary
from llmrl.methods.llm_explorer.method import Config as Method
from llmrl.report.published import published
from llmrl.report.tables import grid
from llmrl.report.tables.metrics import Score
from llmrl.runs.files import read_json, read_jsonl

OURS = {"local_llm_freeway", "local_llm_mujoco"}  # of no experiment of the paper
NAMES = [
    name for name in options("table") if name.startswith("llm_explorer/") and "two_cores" not in name
]  # the paper's


def cell(table, column):
    whole = table_of(table)
    row = next(iter(whole.rows))
    return grid.cells(whole, [row], [column], (0,), (), identified)[0].runs[0]


def difference(a, b, prefix=""):
    """{key: (in a, in b)} of two identities."""
    found = {}
    for key in sorted({*a, *b}):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            found |= difference(x, y, f"{prefix}{key}.")
        elif x != y:
            found[prefix + key] = (x, y)
    return found


def test_there_is_a_table_for_every_experiment_of_the_paper():
    assert {name.partition("/")[2] for name in NAMES} == {
        "atari_main", "mujoco_main", "atari_exploration", "atari_algorithms", "mujoco_algorithms", "cost", "llm_choice",
        "workflow", "m_and_k", "model_size", "freeway", "controls_atari", "controls_mujoco", *OURS}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_read_and_its_presets_are_there(name):
    table = table_of(name)
    Score.parse(table.score)
    assert table.score == "train_last_100" and (table.seeds == (0, 1, 2) or name.partition("/")[2] in OURS)
    for line in (*table.rows.values(), *table.columns.values()):
        for override in line.set:
            group, _, choice = override.partition("=")
            if group in ("experiment", "env", "agent", "llm", "method"):
                assert group_file(group, choice), override


@pytest.mark.parametrize("name", NAMES)
def test_every_column_composes(name):
    table = table_of(name)
    cells = grid.cells(table, list(table.rows)[:1], list(table.columns), (0,), (), identified)
    assert len(cells) == len(table.columns)
    runs = {(run.key, line.metric) for run, line in zip([c.runs[0] for c in cells], table.columns.values())}
    assert len(runs) == len(cells)  # no two columns show the same number of the same run


@pytest.mark.parametrize("name", NAMES)
def test_what_a_table_calls_published_is_in_the_csv(name):
    table = table_of(name)
    if table.published is None:
        return
    rows = {line.published or label for label, line in table.rows.items()} | {*(table.summary or {})}
    columns = {line.published or label for label, line in table.columns.items()}
    cells = [key for key in published() if key[:2] == ("llm_explorer", table.published)]
    assert [key for key in cells if key[2] in rows and key[3] in columns]
    for label, line in table.columns.items():
        assert line.published is None or line.published in {key[3] for key in cells}, label


def test_table_4_stands_whole_beside_ours():
    table = table_of("llm_explorer/m_and_k")
    cells = {key[2:] for key in published() if key[:2] == ("llm_explorer", "4")}
    assert cells == {(row, column) for row in table.rows for column in table.columns}


# --- the one thing that differs, in the run's identity ---------------------------------------------------------------


@pytest.mark.parametrize("table, column, base, expected", [
    ("m_and_k", "M=50,K=1", "M=100,K=1", {"method.m": (50, 100)}),
    ("m_and_k", "M=200,K=1", "M=100,K=1", {"method.m": (200, 100)}),
    ("m_and_k", "M=100,K=2", "M=100,K=1", {"method.k": (2, 1)}),
    ("workflow", "no summary", "full", {"method.calls": (1, 2)}),
    ("workflow", "name only", "full", {"method.prompt": ("name", "full")}),
    ("llm_choice", "GPT-4o", "GPT-4o mini", {"llm.model": ("gpt-4o-2024-08-06", "gpt-4o-mini")}),
    ("llm_choice", "GPT-3.5", "GPT-4o mini", {"llm.model": ("gpt-3.5-turbo", "gpt-4o-mini")}),
    ("controls_atari", "constant", "LLM-Explorer", {"method.answer": ("constant", None)}),
    ("controls_mujoco", "shuffled", "LLM-Explorer", {"method.answer": ("shuffled", None)}),
    ("freeway", "constant distribution", "LLM-Explorer", {"method.answer": ("constant", None)}),
])  # fmt: skip
def test_a_column_differs_from_its_base_in_one_key(table, column, base, expected):
    name = f"llm_explorer/{table}"
    assert difference(cell(name, column).identity, cell(name, base).identity) == expected


@pytest.mark.parametrize("table, column, base", [
    ("atari_main", "DQN", "LLM-Explorer"),
    ("mujoco_main", "DDPG", "LLM-Explorer"),
    ("mujoco_algorithms", "TD3", "TD3 + LLM-Explorer"),
    ("atari_algorithms", "Double-Dueling DQN", "Double-Dueling DQN + LLM-Explorer"),
    ("atari_algorithms", "Rainbow", "Rainbow + LLM-Explorer"),
    ("atari_algorithms", "CURL", "CURL + LLM-Explorer"),
    ("controls_atari", "DQN", "LLM-Explorer"),
])  # fmt: skip
def test_the_plain_algorithm_differs_in_the_method_alone(table, column, base):
    name = f"llm_explorer/{table}"
    keys = difference(cell(name, column).identity, cell(name, base).identity)
    assert {key.split(".")[0] for key in keys} <= {"method", "llm", "name", "env"}
    assert [key for key in keys if key.startswith("env") and key != "env.task"] == []
    assert [key for key in keys if key.startswith("name")] == ["name.method"]


def test_double_dueling_is_dqn_with_two_options_more():
    keys = difference(cell("llm_explorer/atari_algorithms", "Double-Dueling DQN").identity,
                      cell("llm_explorer/atari_main", "DQN").identity)  # fmt: skip
    assert keys == {"agent.double": (True, False), "agent.dueling": (True, False)}


@pytest.mark.parametrize("column, size", [("7B (our choice)", "7B"), ("72B (our choice)", "72B")])
def test_the_sizes_of_qwen_are_models_of_one_server(column, size):
    run = cell("llm_explorer/model_size", column)
    assert run.llm == f"Qwen/Qwen2.5-{size}-Instruct"


@pytest.mark.parametrize("name, model, key", [
    ("gpt-3.5-turbo", "gpt-3.5-turbo", "OPENAI_API_KEY"),
    ("gpt-4o-mini", "gpt-4o-mini", "OPENAI_API_KEY"),
    ("gpt-4o", "gpt-4o-2024-08-06", "OPENAI_API_KEY"),
    ("llama-3.1-405b", "deepinfra/meta-llama/Meta-Llama-3.1-405B-Instruct", "DEEPINFRA_API_KEY"),
    ("llama-3.1-70b", "deepinfra/meta-llama/Meta-Llama-3.1-70B-Instruct", "DEEPINFRA_API_KEY"),
])  # fmt: skip
def test_the_five_hosted_models(name, model, key):
    from conftest import compose

    llm = compose([f"llm={name}"])["llm"]
    assert (llm["kind"], llm["model"], llm["key_env"]) == ("litellm", model, key)


# --- in the transcript ------------------------------------------------------------------------------------------------


def prompts(llm):
    return [message["content"] for call in llm.transcript.calls.values() for message in call["messages"]]


def test_m_is_how_many_actions_the_llm_is_shown(tmp_path):
    for m in (50, 100, 150):
        llm = client(tmp_path / str(m), config())
        start(explorer(llm, m=m), 1, episode(0, length=400))
        assert f"{m} were sampled" in prompts(llm)[1]


def test_k_is_how_many_episodes_an_answer_lasts(tmp_path):
    for k, calls in ((1, 4), (2, 2)):
        llm = client(tmp_path / str(k), config())
        wrapped = explorer(llm, k=k)
        for number in range(5):
            start(wrapped, number)
        assert len([purpose for purpose, _ in asked(llm) if purpose == "strategy"]) == calls


def test_without_the_summary_one_call_tells_what_two_told(tmp_path):
    llm = client(tmp_path, config())
    start(explorer(llm, calls=1), 1, episode(0))
    assert asked(llm) == [("strategy_directly", "1/0")]
    assert "total reward of 0.0" in prompts(llm)[1] and "Choose that distribution" in prompts(llm)[1]


def test_the_name_only_prompt_tells_nothing_of_the_task_but_its_name(tmp_path):
    llm = client(tmp_path, config())
    start(explorer(llm, prompt="name"), 1, episode(0))
    assert asked(llm) == [("status", "1/0"), ("strategy", "1/0")]
    assert "toy/corridor" in prompts(llm)[0] and "walk along a corridor" not in "".join(prompts(llm))


def test_the_constant_answer_is_one_call_that_sees_no_episode(tmp_path):
    llm = client(tmp_path, config())
    wrapped = explorer(llm, answer="constant")
    vectors_ = []
    for number in range(4):
        start(wrapped, number)
        vectors_.append(wrapped.inner.distribution)
    assert asked(llm) == [("constant", "1/0")]
    system, user = prompts(llm)
    assert "walk along a corridor" in system and "total reward" not in user and "Choose that distribution" in user
    assert vectors_[0] is None and vectors_[1] is vectors_[3]
    assert vectors_[1].tolist() != [1 / 3] * 3  # else it were no other than plain exploration


def test_a_constant_answer_survives_a_resume_and_is_asked_again_where_none_could_be_used(tmp_path):
    with Server("no numbers", '{"0": 1, "1": 0, "2": 0}') as server:
        llm = client(tmp_path, hosted(server))
        wrapped = explorer(llm, answer="constant", max_tries=1)
        start(wrapped, 1)
        assert wrapped.vector is None and wrapped.failed_refreshes == 1
        start(wrapped, 2)
        assert wrapped.vector.tolist() == [1, 0, 0]
        again = explorer(llm, answer="constant", max_tries=1)
        again.load_state_dict(wrapped.state_dict())
        start(again, 3)
        assert len(server.requests) == 2 and again.vector.tolist() == [1, 0, 0]


def test_the_shuffled_answer_is_the_llms_for_other_actions(tmp_path):
    with Server(*["description", '{"0": 0.7, "1": 0.2, "2": 0.1}'] * 12) as server:
        llm = client(tmp_path, hosted(server))
        wrapped = explorer(llm, answer="shuffled")
        found = []
        for number in range(1, 7):
            start(wrapped, number)
            found.append(tuple(wrapped.inner.distribution))
        assert all(sorted(p) == pytest.approx([0.1, 0.2, 0.7]) for p in found) and len(set(found)) > 2
        twin = explorer(client(tmp_path / "twin", hosted(server)), answer="shuffled")
        start(twin, 1)
        assert tuple(twin.inner.distribution) == found[0]  # seeded by run and refresh
    rows = read_jsonl(llm.transcript.path)
    accepted = [row for row in rows if row.get("event") == "accepted" and "distribution" in row]
    assert [tuple(row["distribution"]) for row in accepted] == found  # the vector in use, not the one answered


@pytest.mark.parametrize("answer", ["uniform", "last_frequencies"])
def test_two_controls_ask_nobody(tmp_path, answer):
    llm = client(tmp_path, config())
    discrete, continuous = explorer(llm, answer=answer), explorer(llm, BOX, answer=answer)
    start(discrete, 1, EpisodeSummary(0, 1.0, 4, np.array([2, 2, 1, 2])))
    start(continuous, 1, EpisodeSummary(0, 1.0, 2, np.array([[0.1, -0.3], [0.3, 0.1]], np.float32)), BOX)
    assert asked(llm) == []
    p, b = {"uniform": ([1 / 3] * 3, [0, 0]), "last_frequencies": ([0, 0.25, 0.75], [0.2, -0.1])}[answer]
    np.testing.assert_allclose(discrete.inner.distribution, p)
    np.testing.assert_allclose(continuous.inner.bias, b, atol=1e-7)


def test_floor_and_limit_hold_for_the_controls_too(tmp_path):
    llm = client(tmp_path, config())
    wrapped = explorer(llm, answer="last_frequencies", floor=0.3)
    start(wrapped, 1, EpisodeSummary(0, 1.0, 2, np.array([1, 1])))
    np.testing.assert_allclose(wrapped.inner.distribution, [0.1, 0.8, 0.1])
    bounded = explorer(llm, BOX, answer="last_frequencies", bias_limit=0.5)
    start(bounded, 1, EpisodeSummary(0, 1.0, 1, np.array([[0.4, -0.4]])), BOX)
    np.testing.assert_allclose(bounded.inner.bias, [0.2, -0.2])


def test_the_key_of_the_controls_left_old_ids_as_they_were():
    answers = next(field for field in dataclasses.fields(Method) if field.name == "answer")
    assert answers.metadata == {"neutral": "llm"} and settings().answer == "llm"
    assert "answer" not in cell("llm_explorer/m_and_k", "M=100,K=1").identity["method"]


# --- in the runs ------------------------------------------------------------------------------------------------------


def returns(text):
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["env_steps"], row["return"]) for row in rows if row["kind"] == "episode"]


def test_the_uniform_control_trains_as_the_plain_agent_does(llmrl_run, tmp_path):
    found = []
    for words in (["method=vanilla"], ["method=llm_explorer", "method.answer=uniform"], ["method=llm_explorer"]):
        place = tmp_path / words[-1].partition("=")[2]
        assert llmrl_run(*CART_POLE, "agent.epsilon_end=1.0", *words, f"compute.outputs={place}").code == 0
        found.append(returns((only_run(place) / "metrics.jsonl").read_text()))
    assert found[0] == found[1] != found[2]


def test_a_control_without_an_llm_makes_no_call(llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE, "method=llm_explorer", "method.answer=last_frequencies").code == 0
    result = read_json(only_run(tmp_path / "outputs") / "result.json")
    assert "llm" not in result and not (only_run(tmp_path / "outputs") / "llm.jsonl").exists()
    assert result["llm_explorer"]["refreshes"] > 0


def test_always_up_is_an_ordinary_run_without_updates(llmrl_run, tmp_path):
    fixed = ["agent=fixed", "agent.probabilities=[0,1]", "env=classic/cart_pole"]
    assert llmrl_run(*fixed, "budget.env_steps=60", "eval.every=30", "eval.episodes=2").code == 0
    path = only_run(tmp_path / "outputs")
    result = read_json(path / "result.json")
    assert (result["env_steps"], result["updates"]) == (60, 0)
    rows = [row for row in read_jsonl(path / "eval.jsonl") if row["policy"] == "greedy"]
    lengths = {length for row in rows for length in row["lengths"]}
    assert lengths <= set(range(8, 12))  # pushed to one side alone, the pole falls at once
    assert cell("llm_explorer/freeway", "always up").identity["agent"]["probabilities"] == [0, 1, 0]


def test_the_fixed_agent_draws_from_its_distribution():
    import torch

    agent = make("fixed", vectors(4), spaces.Discrete(3), probabilities=[0.2, 0, 0.8])
    gen = torch.Generator().manual_seed(0)
    drawn = np.concatenate([agent.act(np.zeros((100, 4)), explore=False, gen=gen) for _ in range(20)])
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 2000, [0.2, 0, 0.8], atol=0.04)
    assert agent.replay_buffer().num_updates(Clock(env_steps=10_000)) == 0
    uniform = make("fixed", vectors(4), spaces.Discrete(3))
    assert set(uniform.act(np.zeros((100, 4)), explore=True, gen=gen)) == {0, 1, 2}


def test_a_fixed_agent_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="2 numbers, but the task has 3 actions"):
        make("fixed", vectors(4), spaces.Discrete(3), probabilities=[0.5, 0.5])
    with pytest.raises(ConfigError, match="Fixed needs actions"):
        make("fixed", vectors(4), BOX)
    with pytest.raises(ValueError, match="sum to 0.5"):
        make("fixed", vectors(4), spaces.Discrete(2), probabilities=[0.5, 0])
