"""Every key of method=lesr and of its search does what it says: another value, another object or another number."""

from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from conftest import compose
from made_search import FEATURES, SMALL, Checked, Search, evaluations, search_config
from wiring import unwired, wires

from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.context import RunContext
from llmrl.methods.lesr import checker as lesr_checker
from llmrl.methods.lesr import method as lesr
from llmrl.methods.lesr import program
from llmrl.methods.lesr import search as lesr_search
from llmrl.methods.lesr import wrapper as lesr_wrapper
from llmrl.runs import seeding
from llmrl.runs.files import write_json, write_text
from llmrl.runs.stop import Stop

wires("lesr/search.score", "lesr/search.score_window", "lesr/search.score_evaluations")(None)  # test_lesr_selection.py


def test_every_key_has_a_test():
    assert unwired("lesr", "lesr/search") == set()


@pytest.fixture
def search(tmp_path, monkeypatch):
    def searched(**changes):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        trained = lambda name: (evaluations(1, 2, 3, 4, 5), [1.25] * 5)  # noqa: E731
        return Search(directory, monkeypatch, trained, **{"k": 1, "iterations": 1} | changes)

    return searched


@wires("lesr/search.k", "lesr/search.iterations", "lesr/search.seeds")
def test_how_many_candidates_are_trained(search):
    names = {place.name for place in search(k=3, iterations=2, seeds=2).places()}
    assert names == {f"{i}-{k}{seed}" for i in range(2) for k in range(3) for seed in ("", "-seed1")}


@wires(*(f"lesr/search.{key}" for key in ("w", "state", "reward", "form", "lipschitz", "scaled")))
@pytest.mark.parametrize(
    "change, trained",
    [
        ({"w": 0.25}, {"w": 0.25}),
        ({"state": "source"}, {"state": "source"}),
        ({"reward": "replace"}, {"reward": "replace"}),
        ({"form": "potential"}, {"form": "potential"}),
        ({"lipschitz": "cumulative"}, {"record": "cumulative"}),
        ({"lipschitz": "discounted_return"}, {"record": "discounted_return"}),
        ({"scaled": True}, {"scaled": True}),
    ],
    ids=str,
)
def test_what_a_candidate_trains_with(search, change, trained):
    (child,) = search(**change).children()
    plain = {"w": 0.02, "state": "augmented", "reward": "add", "form": "state", "record": "episode", "scaled": False}
    wrapper = child["wrapper"]
    assert {key: wrapper[key] for key in plain} == plain | trained and wrapper["drop"] == []
    assert child["choices"]["wrapper"] == "lesr" and child["choices"]["method"] == "vanilla"


@wires(*(f"lesr/search.{key}" for key in ("writes", "tell", "feedback", "tell_lipschitz", "chain_of_thought")))
def test_what_is_asked(search):
    plain, reward = search(), search(writes="reward")
    assert "revise_state" in plain.llm.prompts("lesr.sample")[0]
    assert plain.llm.prompts("lesr.sample") != reward.llm.prompts("lesr.sample")
    purposes = {
        key: [purpose for purpose, *_ in search(iterations=2, **{key: False}).llm.asked]
        for key in ("tell_lipschitz", "chain_of_thought", "feedback")
    }
    assert purposes["tell_lipschitz"] == ["lesr.sample", "lesr.feedback", "lesr.sample"]
    assert purposes["chain_of_thought"] == purposes["feedback"] == ["lesr.sample", "lesr.sample"]
    weight = "added to the task's reward with the weight 0.02"
    for tell, told in (("authors", False), ("reward", True)):
        assert (weight in search(tell=tell).llm.prompts("lesr.sample")[0]) is told
    for tell in (True, False):
        told = search(iterations=2, tell_lipschitz=tell).llm.prompts("lesr.feedback")[0]
        assert ("1.25" in told) is tell
    first, second = search(iterations=2, chain_of_thought=False).llm.prompts("lesr.sample")
    assert first != second  # it is told the scores
    first, second = search(iterations=2, feedback=False).llm.prompts("lesr.sample")
    assert first == second


@wires("lesr/search.tell_rejections")
@pytest.mark.parametrize("tell", [True, False])
def test_a_rejection_is_told_if_asked_for(search, tell):
    rejected = {"0/0/0": ("odd_name", "because of that")}
    first, second = search(tell_rejections=tell, rejected=rejected).llm.prompts("lesr.sample")
    assert (first == second) is not tell and "odd_name" not in first
    assert ("odd_name" in second) is ("because of that" in second) is tell


@wires("lesr/search.max_tries")
def test_a_round_ends_when_its_tries_are_used_up(search):
    rejected = {f"0/{n}/{i}": ("syntax", "?") for n, i in ((0, 0), (1, 1), (0, 3))}
    done = search(k=3, max_tries=4, rejected=rejected)
    assert [index for _, index, _ in done.llm.asked] == ["0/0/0", "0/1/1", "0/2/2", "0/0/3"]
    assert len(done.found["candidates"]) == 1 and done.found["empty"] == 2


def test_a_bad_sample_leaves_the_others_their_calls(search):
    """Of 10 calls it has 3, then what the others left, and the search goes on without it."""
    rejected = {f"0/1/{i}": ("syntax", "?") for i in range(20)}
    done = search(k=3, max_tries=10, iterations=2, rejected=rejected)
    asked = [index for purpose, index, _ in done.llm.asked if purpose == "lesr.sample"]
    assert asked[:5] == ["0/0/0", "0/1/1", "0/1/2", "0/1/3", "0/2/4"] and asked[5:10] == [
        f"0/1/{i}" for i in range(5, 10)
    ]
    assert [c["index"] for c in done.found["candidates"]] == ["0/0/0", "0/2/4", "1/0/0", "1/1/1", "1/2/2"]
    assert done.found["empty"] == 1 and [path.name for path in sorted(done.places())][:2] == ["0-0", "0-2"]


def test_a_told_rejection_is_forgotten_after_it_did_not_help(search):
    rejected = {f"0/0/{i}": (f"name_{i}", "?") for i in range(5)}
    prompts = search(tell_rejections=True, rejected=rejected, max_tries=9).llm.asked
    told = [[m["content"] for m in messages[1:]] for _, _, messages in prompts]
    assert [len(texts) for texts in told] == [0, 2, 0, 2, 0, 2]
    assert ["name_0" in told[1][-1], "name_2" in told[3][-1], "name_4" in told[5][-1]] == [True] * 3


LIMITS = {"max_features": 7, "max_reward": 8.0, "max_real_reward": 8.5, "max_reward_share": 9.0,
          "reject": ("ignores_features",)}  # fmt: skip


@wires(*(f"lesr/search.{key}" for key in (*LIMITS, "states", "seed")))
def test_what_a_program_is_checked_with(search, monkeypatch):
    calls = []

    def validate(code, states, **options):
        calls.append((states, options))
        return program.Facts(**{f: [] if f == "ignored" else FEATURES for f in FACTS})

    FACTS = program.Facts.__annotations__
    monkeypatch.setattr(lesr_checker, "validate", validate)
    search(llm=Checked, **LIMITS, w=0.5, states=11)
    ((states, options),) = calls
    assert {key: options[key] for key in LIMITS} == LIMITS and options["w"] == 0.5 and options["revise"] is True
    assert states.shape == (11, 3) and options["rewards"].shape == (11,)
    search(llm=Checked, writes="reward", states=11, seed=1)
    assert calls[1][1]["revise"] is False and not np.array_equal(calls[1][0], states)


@wires("lesr/search.seed")
def test_the_searchs_seed_is_that_of_its_trainings(search):
    seeds = [search(seed=seed).children()[0]["seed"] for seed in (0, 1)]
    assert seeds == [seeding.integer(seed, "candidate", "0-0", 0) for seed in (0, 1)] and seeds[0] != seeds[1]


def of(*overrides):
    config = from_node(compose([*SMALL, *overrides]))
    return config, lesr.search_of(config)


@wires("lesr.search", "lesr.search_env_steps", "lesr.search_evaluations", "lesr/search.eval_seed", "lesr/search.seed")
def test_the_search_of_a_run():
    config, search = of("seed=5", "method.search_env_steps=70", "method.search_evaluations=2",
                        "method.search.eval_seed=77", "method.search.seed=6",
                        "method.search.k=4", "method.search.seeds=3")  # fmt: skip
    assert (search.budget.env_steps, search.budget.evaluations, search.eval.every) == (70, 2, 35)
    assert (search.eval.seed, search.seed, search.method) == (77, 6, config.method.search) and search.method.k == 4
    assert lesr_search.LESRSearch.work(search) == (2 * 4 * 3 * 70, "env_steps")


@wires("lesr.search_agent")
def test_the_search_may_train_another_agent():
    config, search = of()
    assert search.agent == config.agent and search.choices["agent"] == "td3"
    config, search = of("+agent@method.search_agent=sac", "method.search_agent.batch_size=9")
    assert (search.choices["agent"], search.agent.batch_size, config.choices["agent"]) == ("sac", 9, "td3")


@wires("lesr.control")
@pytest.mark.parametrize("control", ["none", "random_features", "duplicated_dimensions"])
def test_what_the_final_training_sees(tmp_path, control):
    """As many features as the search's program adds: its own, or a control's."""
    changes = ["w=0.5", "state=source", "reward=replace", "form=next_state", "seed=9"]
    config, _ = of(f"method.control={control}", *(f"method.search.{change}" for change in changes))
    found = {"features": FEATURES, "chosen": "0/1/2"}
    write_json(tmp_path / "result.json", {"env_steps_total": 400, "llm": {"calls": 3}, "lesr": found})
    write_text(tmp_path / "transform.py", "the program found")
    (tmp_path / "run").mkdir()
    order = []
    agent = SimpleNamespace(explorer=lambda: "its explorer")
    context = SimpleNamespace(
        cfg=config, dir=tmp_path / "run", rehearse=lambda: order.append("rehearsed"),
        artifact=lambda run, product: order.append("searched") or tmp_path,
        agent=lambda wrapper: agent if order.append(wrapper) is None else None,
        train=lambda *all_of_it: {"env_steps": 80, "trained": all_of_it},
        env=lambda role: SimpleNamespace(observation_space=gym.spaces.Box(-1, 1, (3,))),
    )  # fmt: skip
    result = lesr.LESR().run(context)
    given, explorer, wrapper = result["trained"]
    assert order == ["rehearsed", "searched", wrapper] and (given, explorer) == (agent, "its explorer")
    expected = "the program found" if control == "none" else lesr.CONTROLS[control](3, FEATURES, 9)
    assert (tmp_path / "run" / "transform.py").read_text() == Path(wrapper.artifact).read_text() == expected
    assert (wrapper.w, wrapper.state, wrapper.reward, wrapper.form) == (0.5, "source", "replace", "next_state")
    assert (wrapper.record, wrapper.scaled, wrapper.drop) == (None, False, ())
    assert result["env_steps_total"] == 480 and result["llm"] == {"calls": 3}
    assert result["lesr"] == found | {"search": str(tmp_path), "search_env_steps": 400}


def test_an_agent_is_for_the_wrapper_that_it_is_asked_for_with_whatever_was_asked_before(tmp_path):
    context = RunContext(of()[0], tmp_path, Stop(), SimpleNamespace(timing=None), lambda *_: None)
    context.rehearse()
    (tmp_path / "pair.py").write_text(lesr.duplicated_dimensions(3, 4, 0))
    wrapper = lesr_wrapper.Config(
        str(tmp_path / "pair.py"), w=0.0, state="augmented", reward="add", form="state", record=None, scaled=False,
        drop=(),
    )  # fmt: skip
    shapes = [context.agent(given).observation_space.shape for given in (None, wrapper, None)]
    assert shapes == [(3,), (7,), (3,)]
    agent = context.agent()
    with pytest.raises(ConfigError, match="`agent` and `train` need the same wrapper"):
        context.train(agent, agent.explorer(), wrapper)
    assert not (tmp_path / "wrapper.json").exists()


def test_controls_of_equal_width_are_what_they_say():
    code = lesr.duplicated_dimensions(3, 4, 0)
    space: dict = {}
    exec(code, space)
    assert space["revise_state"](np.array([1.0, 2, 3])).tolist() == [1, 2, 3, 1, 2, 3, 1]
    exec(lesr.random_features(100, 100, 0), space)
    s = np.random.default_rng(0).normal(size=100)
    features = space["revise_state"](s)
    assert features.shape == (200,) and np.array_equal(features[:100], s) and np.abs(features[100:]).max() < 1
    weights = np.arctanh(features[100:])  # W s with W ~ N(0, 1/d): deviation |s| / sqrt(d), which is about 1
    assert abs(weights.std() - np.linalg.norm(s) / 10) < 0.2 and abs(weights.mean()) < 0.3
    assert lesr.random_features(3, 2, 0) != lesr.random_features(3, 2, 1)


def test_search_config_has_the_searchs_own_keys():
    assert search_config().method.score_window == 40
