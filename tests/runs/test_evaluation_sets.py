"""Evaluation sets: which a task has, and the rows that they leave."""

import pytest
from conftest import compose, only_run

from llmrl.build import evaluation_set
from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.envs.pick_place import PickPlace
from llmrl.runs.evaluate import cases
from llmrl.runs.files import read_jsonl

SMALL = ["method=vanilla", "agent=sac_crops", "env=pick_place/short_horizon", "agent.batch_size=4", "agent.hidden=[8]",
         "agent.replay_size=50", "agent.learning_starts=10", "agent.random_steps=10", "budget.env_steps=12",
         "eval.every=6", "eval.episodes=2", "eval.sets=[unseen_colours,unseen_letters]"]  # fmt: skip


@pytest.mark.parametrize(("at", "evaluations"), [("end", [12]), ("every", [0, 6, 12])])
def test_evaluation_sets_have_rows_of_their_own(llmrl_run, tmp_path, at, evaluations):
    done = llmrl_run(*SMALL, f"eval.sets_at={at}", "eval.set_episodes=3")
    assert done.code == 0, done.err
    rows = read_jsonl(only_run(tmp_path / "outputs") / "eval.jsonl")
    for name in ("unseen_colours", "unseen_letters"):
        mine = [row for row in rows if row["policy"] == f"greedy on {name}"]
        assert [row["env_steps"] for row in mine] == evaluations
        assert all(len(row["returns"]) == len(row["success"]) == 3 for row in mine)
    assert [row["env_steps"] for row in rows if row["policy"] == "greedy"] == [0, 6, 12]


@pytest.mark.parametrize("workers", [1, 2])
def test_both_evaluations_have_rows_and_the_sampled_one_is_what_evaluate_sample_plays(llmrl_run, tmp_path, workers):
    rows = {}
    for which in ("both", "sample"):
        root = f"compute.outputs={tmp_path}/{which}"
        done = llmrl_run(*SMALL, f"agent.evaluate={which}", f"eval.workers={workers}", root)
        assert done.code == 0, done.err
        rows[which] = read_jsonl(only_run(tmp_path / which) / "eval.jsonl")
    sampled = {row["policy"]: row for row in rows["sample"]}  # the last of each
    both = {row["policy"]: row for row in rows["both"]}
    for name in ("", " on unseen_colours", " on unseen_letters"):
        assert both[f"sampled{name}"]["returns"] == sampled[f"greedy{name}"]["returns"]
        assert both[f"sampled{name}"]["returns"] != both[f"greedy{name}"]["returns"]
    assert not [policy for policy in sampled if policy.startswith("sampled")]
    assert [row["env_steps"] for row in rows["both"] if row["policy"] == "sampled"] == [0, 6, 12]


def test_other_crops_are_those_of_another_scene_and_all_else_is_true():
    env = PickPlace(from_node(compose(SMALL)).env)
    own, _ = env.reset(seed=3)
    other, _ = env.reset(seed=3, options={"crops": "other"})
    assert all((own[key] == other[key]).all() for key in ("position", "in_hand", "goal"))
    assert (own["rgb"] != other["rgb"]).any() and (own["height"] != other["height"]).any()
    after = env.step(env.action_space.sample())[0]
    assert (after["rgb"] == other["rgb"]).all()
    assert (env.reset(seed=3)[0]["rgb"] == own["rgb"]).all()
    with pytest.raises(ConfigError, match='the option crops is "own" or "other"'):
        env.reset(options={"crops": "none"})


def test_a_sets_cases_show_what_their_name_says():
    config = from_node(compose(SMALL))
    env = PickPlace(config.env)
    shown = {
        name: [env.reset(seed=c.seed, options=c.options)[1]["truth"] for c in evaluation_set(config, name)]
        for name in ("unseen_colours", "unseen_letters")
    }
    assert {letter for truth in shown["unseen_colours"] for letter in truth["letters"]} == {"O", "R", "V"}
    assert {letter for truth in shown["unseen_letters"] for letter in truth["letters"]} == {"O", "T", "G"}
    seeds = [case.seed for case in cases(config.eval.seed, "eval", 2)]
    assert not set(seeds) & {case.seed for case in evaluation_set(config, "unseen_colours")}


@pytest.mark.parametrize("method", [[], ["method=explorllm"]], ids=["plain", "explorllm"])
def test_an_unknown_evaluation_set_is_refused_before_anything_is_asked_or_trained(llmrl_run, tmp_path, method):
    done = llmrl_run(*SMALL, *method, "eval.sets=[unseen_colours,unseen]", "eval.sets_at=end")
    assert done.code == 2 and "no evaluation set `unseen`" in done.err
    assert not (tmp_path / "outputs").exists()


def test_an_unknown_evaluation_set_is_refused_with_those_that_there_are():
    config = from_node(compose(SMALL))
    with pytest.raises(
        ConfigError, match="no evaluation set `unseen`. There are: seen, unseen_colours, unseen_letters, other_crops"
    ):
        evaluation_set(config, "unseen")
    with pytest.raises(ConfigError, match="It has none"):
        evaluation_set(from_node(compose(["method=vanilla", "agent=td3", "env=mujoco/hopper"])), "unseen")
