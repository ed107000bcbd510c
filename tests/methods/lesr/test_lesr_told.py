"""What LESR's LLM is told of a task: what the authors' prompt tells, or the reward, the end and the weight besides."""

import re

import pytest
from conftest import compose
from test_lesr_parts_prompts import DESCRIBED, asker, candidates, config_of, text

from llmrl.config import from_node
from llmrl.methods.lesr.prompts import Round

HOPPER = """\
Help a reinforcement learning agent by what you compute from its state.

A reinforcement learning agent learns this task: the Hopper locomotion task in the MuJoCo simulator.
A one-legged robot moves in a vertical plane, on flat ground. From top to bottom it consists of a torso, a thigh, a \
leg and a foot, joined by three hinges. It starts nearly upright. An action lasts 0.008 seconds.
Goal: To hop forward as fast as possible without falling.

Its state is a one-dimensional NumPy array `s` of 11 dimensions. What they mean, and their units:
- s[0]: height of the torso (m)
"""
CONTRACT = """
1. `revise_state(s)` is called for every state. It returns a new array: first the 11 dimensions of s, unchanged, then \
the dimensions that you add. Their number is the same for every state.
2. `intrinsic_reward(updated_s)` is called with what revise_state returned. It gives one number, which is {use}.
3. It is recommended that the intrinsic reward uses the source dimensions updated_s[0] to updated_s[10].
4. It must use the added dimensions, from updated_s[11] to the end.
"""
WEIGHT = "added to the task's reward with the weight 0.02"


def test_the_default_is_what_the_authors_tell():
    assert compose(["method=lesr"])["method"]["search"]["tell"] == "authors"
    assert from_node(compose(["experiment=lesr/mujoco"])).method.search.tell == "authors"


def test_the_authors_prompt_in_our_words():
    prompt = text(asker().ask([]))
    assert prompt.startswith(HOPPER)
    assert CONTRACT.format(use="an intrinsic reward for the task") in prompt


def test_with_the_reward_its_formula_the_end_and_the_weight_are_told_too():
    task = config_of("mujoco/hopper").env.task
    more = f"Reward: {task.reward.strip()}\nEnd of an episode: {task.end.strip()}\nGoal: "
    prompt = text(asker(tell="reward").ask([]))
    assert prompt.startswith(HOPPER.replace("Goal: ", more))
    assert CONTRACT.format(use=WEIGHT) in prompt


@pytest.mark.parametrize("env", DESCRIBED)
def test_no_prompt_of_a_search_holds_reward_end_or_weight_unless_asked(env):
    task, ask = config_of(env).env.task, asker(env)
    everything = text(ask.ask([])) + text(ask.feedback(candidates())) + text(ask.ask([Round(candidates(), "More.")]))
    for part in (task.description, task.goal, *task.observation):
        assert part.strip() in everything
    for part in (task.reward, task.end, WEIGHT, "weight"):
        assert part.strip() not in everything
    assert not re.search(r"\$\w|\{\w+\}", everything)


@pytest.mark.parametrize(
    ("options", "use"),
    [
        ({"reward": "add", "w": 1.0}, "an intrinsic reward for the task"),
        ({"reward": "add", "w": 1.0, "tell": "reward"}, "added to the task's reward with the weight 1"),
        ({"reward": "replace", "w": 1.0}, "the whole reward that the agent learns from"),
        ({"reward": "replace", "w": 1.0, "tell": "reward"}, "the whole reward that the agent learns from"),
    ],
)
def test_a_reward_alone_is_told_what_becomes_of_it(options, use):
    prompt = text(asker(writes="reward", **options).ask([]))
    assert f"`intrinsic_reward(s)` is called for every state. It gives one number, which is {use}.\n" in prompt
