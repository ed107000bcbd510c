"""Sentences of a user: what an LLM reads out of them, and an agent that carries it out."""

import json

import numpy as np
import pytest
from conftest import compose, only_run

from llmrl.config import from_node
from llmrl.envs.pick_place.scene import sample_scene
from llmrl.envs.pick_place.task import thing
from llmrl.llm import scripted
from llmrl.methods.explorllm.language import (
    EVERYTHING,
    FORMS,
    SENTENCES,
    Unreadable,
    question,
    read_goal,
    read_plan,
    sentence_for,
)
from llmrl.runs.files import read_json, read_jsonl


def scene(seed: int, horizon: str = "short"):
    colours = ("yellow", "green", "blue")
    rng = np.random.default_rng(seed)
    return sample_scene(rng, horizon=horizon, letters=("O", "R", "V"), colours=colours, scale=1.0)


@pytest.mark.parametrize("wording", range(len(SENTENCES)))
def test_every_wording_is_read_as_its_goal(wording):
    for seed in range(10):
        table = scene(seed)
        messages = question("goal", table, sentence_for(table, wording))
        assert read_goal(scripted.answer(messages, "explorllm.goal", "0/0")) == table.goal


def test_a_question_names_all_six_things_and_the_sentence():
    table = scene(3)
    (message,) = question("plan", table, EVERYTHING)
    assert all(f"{slot}: the {thing(table, slot)}" in message["content"] for slot in range(6))
    assert EVERYTHING in message["content"]


def test_a_plan_puts_every_letter_into_the_bowl_of_its_colour():
    table = scene(1, "long")
    messages = question("plan", table, EVERYTHING)
    assert sorted(read_plan(scripted.answer(messages, "explorllm.plan", "0/0"))) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("name", "answer"),
    {
        "no_json": "the letter O, of course",
        "no_numbers": '{"pick": "O", "place": 4}',
        "no_such_object": '{"pick": 3, "place": 4}',
        "several": '[{"pick": 0, "place": 3}, {"pick": 1, "place": 4}]',
    }.items(),
)
def test_what_cannot_be_read_has_a_name(name, answer):
    with pytest.raises(Unreadable) as raised:
        read_goal(answer)
    assert raised.value.name == name


def test_an_answer_with_words_around_it_is_read():
    answer = 'First I thought of {"pick": 0, "place": 3}, but it is:\n```json\n{"pick": 2, "place": 5}\n```'
    assert read_goal(answer) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "goals"),
    [
        ('{"reasoning": "The {O} is [yellow].", "pick": 1, "place": 4}', [(1, 1)]),
        ('{"reasoning": "", "steps": [{"pick": 0, "place": 5}, {"pick": 1, "place": 3}]}', [(0, 2), (1, 0)]),
        ('So:\n```json\n{"reasoning": "r", "steps": [{"pick": 0, "place": 5}]}\n```', [(0, 2)]),
        ('(As it was asked for before.) [{"pick": 0, "place": 5}, {"pick": 1, "place": 3}]', [(0, 2), (1, 0)]),
        ('(As it was asked for before.) {"pick": 2, "place": 3}', [(2, 0)]),
    ],
)
def test_reasoning_may_stand_before_the_numbers(answer, goals):
    assert read_plan(answer) == goals


@pytest.mark.parametrize("task", FORMS)
def test_what_the_scripted_llm_answers_has_the_form_that_is_asked_for(task):
    messages = question(task, scene(2, "long"), EVERYTHING if task == "plan" else "Put the letter O in the blue bowl.")
    answer = FORMS[task].model_validate_json(scripted.answer(messages, f"explorllm.{task}", "0/0"))
    assert list(answer.model_dump())[0] == "reasoning"
    assert '{"reasoning": "...", ' in messages[0]["content"]


TRAIN = ["method=vanilla", "agent=sac_crops", "env=pick_place/short_horizon", "agent.batch_size=4",
         "agent.hidden=[8]", "agent.replay_size=200", "agent.learning_starts=20", "agent.random_steps=20",
         "budget.env_steps=24", "eval.episodes=1", "eval.every=24"]  # fmt: skip
PLAY = ["agent=sac_crops", "agent.hidden=[8]", "budget.env_steps=1", "eval.episodes=3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from llmrl import run

    outputs = tmp_path_factory.mktemp("trained")
    assert run.main([*TRAIN, f"compute.outputs={outputs}"]) == 0
    return only_run(outputs)


@pytest.mark.parametrize(("task", "horizon"), [("goal", "short"), ("plan", "long")])
def test_an_agent_carries_out_what_the_llm_read(trained, llmrl_run, tmp_path, task, horizon):
    words = ["method=explorllm/words", f"method.run={trained}", f"method.task={task}",
             f"env=pick_place/{horizon}_horizon", *PLAY]  # fmt: skip
    assert llmrl_run(*words).code == 0
    made = only_run(tmp_path / "outputs")
    told = read_json(made / "result.json")["words"]
    assert told == {"run": str(trained), "sentences": 3, "right": 3, "unreadable": {}}
    (row,) = read_jsonl(made / "eval.jsonl")
    assert len(row["returns"]) == len(row["success"]) == 3
    asked = [json.loads(line) for line in (made / "llm.jsonl").read_text().splitlines()]
    assert sum("messages" in call for call in asked) == 3  # one call an episode


def test_the_sentence_decides_and_not_the_goal(trained):
    """What the agent sees as its goal is what was read, right or wrong; the reward is the true goal's."""
    from llmrl.build import make_env
    from llmrl.methods.explorllm.words import Instructed

    class Wrong:
        asked = 0

        def read(self, scene, sentence, meant):
            return (meant[0] + 1) % 3, meant[1]

    config = from_node(compose(["method=vanilla", "agent=sac_crops", "env=pick_place/short_horizon"]))
    env = Instructed(make_env(config, "eval"), Wrong(), None)
    obs, info = env.reset(seed=0)
    assert tuple(obs["goal"]) == ((info["truth"]["goal"][0] + 1) % 3, info["truth"]["goal"][1])
    obs, *_ = env.step(env.action_space.sample())
    assert tuple(obs["goal"]) == ((info["truth"]["goal"][0] + 1) % 3, info["truth"]["goal"][1])


def test_a_trained_agent_is_played_elsewhere(trained, llmrl_run, tmp_path):
    """On the evaluation sets too, however much longer than its training this run's own budget is."""
    longer = [word for word in PLAY if not word.startswith("budget")]
    done = llmrl_run("method=pretrained", f"method.run={trained}", "env=pick_place/short_horizon",
                     "env.position_noise_px=0", "eval.sets=[unseen_colours]", "eval.set_episodes=2",
                     *longer)  # fmt: skip
    assert done.code == 0
    made = only_run(tmp_path / "outputs")
    row, suite = read_jsonl(made / "eval.jsonl")
    assert suite["policy"] == "greedy on unseen_colours" and len(suite["returns"]) == 2
    assert row["policy"] == "greedy" and row["env_steps"] == 24 and len(row["returns"]) == 3
    assert read_json(made / "artifact.json")["path"].endswith("agent.pt")


def test_an_agent_that_is_still_in_training_is_refused(trained, llmrl_run, monkeypatch):
    counters = {"env_steps": 12, "updates": 0}
    monkeypatch.setattr("llmrl.context.learned", lambda directory: ("checkpoint/3", counters, {}))
    done = llmrl_run("method=pretrained", f"method.run={trained}", "env=pick_place/short_horizon", *PLAY)
    assert done.code == 2 and f"method.run: {trained} is not finished" in done.err


def test_an_agent_of_another_environment_is_refused(trained, llmrl_run):
    done = llmrl_run("method=pretrained", f"method.run={trained}", "env=mujoco/hopper", "agent=sac")
    assert done.code == 2
    assert f"method.run: {trained} was trained for another environment" in done.err
