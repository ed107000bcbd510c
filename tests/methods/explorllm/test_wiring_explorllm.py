"""Every key of ExploRLLM's methods does what it says: another value, another object or another number."""

import dataclasses
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import compose
from replies import reply
from test_explorllm_programs import PLANNER, UNIFORM, Answers, settings
from wiring import unwired, wires

from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.contracts.explorer import Clock
from llmrl.envs.pick_place.scene import FRAME, Scene
from llmrl.gymnasium_ids import pick_place
from llmrl.methods.explorllm import examples
from llmrl.methods.explorllm import method as explorllm
from llmrl.methods.explorllm import policy as explorllm_policy
from llmrl.methods.explorllm import programs as explorllm_programs
from llmrl.methods.explorllm import words as explorllm_words
from llmrl.methods.explorllm.words import Planned, Reader
from llmrl.runs.evaluate import Case, cases
from llmrl.runs.files import write_json
from llmrl.runs.stop import Stop

SHORT = pick_place(horizon="short").config


def test_every_key_has_a_test():
    assert unwired("explorllm", "explorllm/programs", "explorllm/policy", "explorllm/words") == set()


@cache
def composed(method):
    return from_node(compose(["agent=sac_crops", "env=pick_place/short_horizon", f"method={method}",
                              "budget.env_steps=1000"]))  # fmt: skip


def changed(method, **changes):
    config = composed(method)
    return dataclasses.replace(config, method=dataclasses.replace(config.method, **changes))


def peak(row, column, low=0.0):
    """A map that is 1 at a pixel, and low elsewhere."""
    return (f"import numpy as np\ndef affordance(crop):\n    m = np.full((28, 28), {low})\n    m[{row}, {column}] = 1\n"
            "    return m\n")  # fmt: skip


FOUND = {
    "planner": PLANNER,
    "affordance": [peak(20, 10), peak(14, 16), None],
    "place_map": None,
    "scores": [{"stochastic": 0.2, "argmax": 0.9}, {"stochastic": 0.6, "argmax": 0.5}, None],
    "rejected": {"explorllm.affordance 2": "syntax"},
}
OFFSETS = {0: (6, -4), 1: (0, 2)}  # of the candidates' peaks from the crop's middle, in its pixels


class Made:
    """What a method has in hand, with programs that are made already; `train` hands the explorer to `look`."""

    def __init__(self, config, directory, look=None, found=FOUND):
        self.cfg, self.dir, self.look, self.found, self.asked, self.rows = config, directory, look, found, [], []
        self.stop, self.log = Stop(), SimpleNamespace(evaluation=self.rows.append)
        self.rehearsed = False

    def rehearse(self):
        assert not self.asked  # before anything is asked or trained
        self.rehearsed = True

    def agent(self):
        inner = SimpleNamespace(propose=lambda obs, policy, *rest: policy(), metrics=lambda: {"own": 1})
        return SimpleNamespace(actions="continuous", explorer=lambda: inner)

    def artifact(self, run, product):
        self.asked.append(run)
        write_json(self.dir / product, self.found)
        return self.dir

    def train(self, agent, explorer):
        self.seen = self.look(explorer)
        return {"env_steps": 1000}

    def env(self, role):
        from llmrl.build import make_env

        return make_env(self.cfg, role)


@cache
def some_obs(n):
    env = pick_place(horizon="short")
    observations = [env.reset(seed=i)[0] for i in range(n)]
    return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}


def guided(explorer, env_steps, n=1):
    """Actions in n environments at this time; the agent's own have 9 in every place."""
    own = lambda: np.full((n, 9), 9.0)  # noqa: E731
    return explorer.propose(some_obs(n), own, Clock(env_steps=env_steps), [{}] * n, np.random.default_rng(0))


def run(directory, look, **changes):
    context = Made(changed("explorllm", **changes), directory, look)
    result = explorllm.ExploRLLM().run(context)
    assert context.rehearsed is bool(context.asked)
    return context, result


@wires("explorllm.offset_scale", "explorllm.sampling", "explorllm.affordance")
@pytest.mark.parametrize(
    "changes, number, scale",
    [
        ({}, 1, 1),  # the best one as it is drawn
        ({"sampling": "argmax"}, 0, 1),  # the best one at its highest pixel
        ({"affordance": "worst"}, 0, 1),
        ({"affordance": "worst", "sampling": "argmax"}, 1, 1),
        ({"affordance": 0}, 0, 1),
        ({"offset_scale": 2.0}, 1, 2),
        ({"affordance": 0, "offset_scale": 2.0}, 0, 2),
    ],
    ids=str,
)
def test_how_programs_act_in_a_run(tmp_path, changes, number, scale):
    context, result = run(tmp_path, partial(guided, env_steps=0), epsilon=1.0, **changes)
    np.testing.assert_allclose(context.seen[0, 7:], scale * np.array(OFFSETS[number]) / 14, rtol=1e-6)
    told = result["explorllm"]
    assert (told["affordance"], told["guided_env_steps"], told["failures"]) == (number, 1, {})
    assert told["rejected"] == FOUND["rejected"] and told["scores"] == FOUND["scores"]


@wires("explorllm.sampling")
def test_a_pixel_is_drawn_or_the_highest(tmp_path):
    found = FOUND | {"affordance": [peak(20, 10, low=0.5)] * 3}
    for sampling, different in (("stochastic", 8), ("argmax", 1)):
        look = lambda explorer: np.concatenate([guided(explorer, 0, 8)[:, 7:]])  # noqa: E731
        config = changed("explorllm", epsilon=1.0, sampling=sampling, affordance=0)
        context = Made(config, tmp_path, look, found)
        explorllm.ExploRLLM().run(context)
        assert len(np.unique(context.seen, axis=0)) == different


@wires("explorllm.epsilon", "explorllm.epsilon_schedule")
@pytest.mark.parametrize(
    "epsilon, schedule, expected",
    [(0.3, "constant", [0.3, 0.3, 0.3]), (0.8, "linear", [0.8, 0.6, 0.0]), (1.0, "linear", [1, 0.75, 0])],
)
def test_how_often_programs_act(tmp_path, epsilon, schedule, expected):
    def look(explorer):
        found = []
        for env_steps in (0, 250, 1000):  # of 1,000
            actions = [guided(explorer, env_steps, 40) for _ in range(10)]
            share = np.mean([action[:, 0] != 9 for action in actions])
            found.append((explorer.metrics()["epsilon"], share, explorer.metrics()["guided_env_steps"]))
        return found

    context, _ = run(tmp_path, look, epsilon=epsilon, epsilon_schedule=schedule)
    now, shares, counts = zip(*context.seen)
    np.testing.assert_allclose(now, expected, atol=1e-12)
    np.testing.assert_allclose(shares, expected, atol=0.09)
    assert counts == tuple(np.rint(400 * np.cumsum(shares)).astype(int))


@wires("explorllm.epsilon")
def test_without_epsilon_nobody_is_asked(tmp_path):
    context, result = run(tmp_path, lambda explorer: guided(explorer, 0), epsilon=0.0)
    assert context.asked == [] and (context.seen == 9).all() and "explorllm" not in result
    assert explorllm.ExploRLLM.reads(context.cfg.method) == () and explorllm.ExploRLLM.stages(context.cfg) == []


@wires("explorllm.programs", "explorllm/programs.seed")
@pytest.mark.parametrize("method", ["explorllm", "explorllm/policy"])
def test_the_programs_that_are_asked_for(tmp_path, method):
    programs = dataclasses.replace(composed(method).method.programs, n=5, seed=4)
    config = changed(method, programs=programs)
    cls = {"explorllm": explorllm.ExploRLLM, "explorllm/policy": explorllm_policy.ExploRLLMPolicy}[method]
    (stage,) = cls.stages(config)
    assert stage.method == programs and stage.seed == 4 and stage.choices["method"] == "explorllm/programs"
    context = Made(
        dataclasses.replace(config, eval=dataclasses.replace(config.eval, episodes=1)), tmp_path, lambda e: 0
    )
    cls().run(context)
    assert context.asked == [stage]
    with pytest.raises(ValueError, match="affordance: unknown candidate 5"):
        changed(method, programs=programs, affordance=5)
    assert changed(method, programs=programs, affordance=4).method.affordance == 4


wires("explorllm/policy.programs")(test_the_programs_that_are_asked_for)


# --- policies alone -------------------------------------------------------------------------------------------------


@wires("explorllm/policy.policy", "explorllm/policy.offset_scale", "explorllm/policy.affordance")
@pytest.mark.parametrize(
    "changes, number, offset",
    [
        ({"policy": "program"}, 1, (0, 2)),
        ({"policy": "program", "offset_scale": 2.0}, 1, (0, 4)),
        ({"policy": "program", "affordance": "worst"}, 0, (6, -4)),
        ({"policy": "argmax"}, 0, (6, -4)),
        ({"policy": "centre"}, 1, (0, 0)),
        ({"policy": "centre", "affordance": 0}, 0, (0, 0)),
        ({"policy": "random"}, None, None),
        ({"policy": "oracle"}, None, None),
    ],
    ids=str,
)
def test_a_policy_alone(tmp_path, monkeypatch, changes, number, offset):
    acted = {}

    def evaluate(act, env, suite, max_steps, stop):
        obs, _ = env.reset(seed=0)
        one = {key: value[None] for key, value in obs.items()}
        acted.update(evaluation_set=suite, max_steps=max_steps, action=act(one, np.random.default_rng(0))[0])
        return SimpleNamespace(row=lambda: {"returns": [1.0]})

    monkeypatch.setattr(explorllm_policy, "evaluate", evaluate)
    config = dataclasses.replace(changed("explorllm/policy", **changes), seed=3)
    context = Made(config, tmp_path)
    result = explorllm_policy.ExploRLLMPolicy().run(context)["explorllm"]
    assert result["policy"] == changes["policy"] and result.get("affordance") == number
    assert len(context.asked) == (number is not None)
    assert acted["evaluation_set"] == cases(config.eval.seed + 3, "eval", config.eval.episodes)
    assert context.rows == [{"env_steps": 0, "updates": 0, "policy": "greedy", "returns": [1.0]}]
    if offset is not None:
        np.testing.assert_allclose(acted["action"][7:], np.array(offset) / 14, rtol=1e-6)
    elif changes["policy"] == "oracle":  # it knows where the wanted object is
        assert set(acted["action"][:7].tolist()) == {0, 1}
    else:
        assert acted["action"][1:7].min() > 0 and acted["action"][1:7].max() < 1


# --- the search -----------------------------------------------------------------------------------------------------


class Counting(Answers):
    """Every planner and place map is bad. No answer is there twice: that would end the tries."""

    def __init__(self, folder):
        bad = [f"none {n}" for n in range(9)]
        super().__init__(folder, planner=bad, place=bad, affordance=[f"{UNIFORM}# {n}\n" for n in range(9)])
        self.asked = []

    def ask(self, messages, *, purpose, index, **form):
        self.asked.append((purpose.removeprefix("explorllm."), index, messages))
        return super().ask(messages, purpose=purpose, index=index)


@wires(*(f"explorllm/programs.{key}" for key in ("n", "max_tries", "images", "tables", "crops", "seed")))
def test_what_a_search_asks_and_tries(tmp_path, monkeypatch):
    tried = []
    sealing = lambda env, n, seed: (tried.append((n, seed)), examples.sealing(env, 1, seed))[1]  # noqa: E731
    monkeypatch.setattr(explorllm_programs, "sealing", sealing)
    searches, found = {}, {}
    for name, changes in {"plain": {}, "other": {"n": 3, "max_tries": 4, "tables": 5, "crops": 6, "seed": 7}}.items():
        (tmp_path / name).mkdir()
        llm = Counting(tmp_path / name)
        searches[name] = explorllm_programs.Search(settings(**{"n": 1, "max_tries": 2} | changes), SHORT, llm)
        found[name] = searches[name].find()
        counts = {kind: sum(asked[0] == kind for asked in llm.asked) for kind in ("planner", "affordance", "place")}
        n, tries = (3, 4) if changes else (1, 2)
        assert counts == {"planner": tries, "affordance": n, "place": tries}
        assert len(found[name]["affordance"]) == len(found[name]["scores"]) == n
        assert len(searches[name].seen.held) == (5 if changes else 4)
    assert tried == [(3, 0), (6, 7)]
    assert found["plain"]["scores"][0] != found["other"]["scores"][0]  # other crops
    assert not np.array_equal(searches["plain"].seen.position[:4], searches["other"].seen.position[:4])
    shown = explorllm_programs.Search(settings(images=True), SHORT, llm).asker.affordance()[0]["content"]
    assert isinstance(shown, list) and isinstance(searches["plain"].asker.affordance()[0]["content"], str)


def test_a_score_is_the_probability_that_a_pick_holds():
    """Two crops, on which the left half and nothing hold; a map with 1 on the left's first pixel, 3 on the right's."""
    maps = np.zeros((2, 28, 28))
    maps[:, 0, 0], maps[:, 0, 20] = 1, 3
    holds = np.zeros((2, 28, 28), bool)
    holds[0, :, :14] = True
    programs = SimpleNamespace(maps_of=lambda crops: (maps, ["", "raised"]))
    found = examples.score(programs, np.zeros((2, 28, 28, 3), np.uint8), holds)
    assert found == {"stochastic": 0.125, "argmax": 0.0, "failures": {"raised": 1}}
    maps[0, 0, 0] = 9
    found = examples.score(programs, np.zeros((2, 28, 28, 3), np.uint8), holds)
    assert found["stochastic"] == pytest.approx(0.375) and found["argmax"] == 0.5


# --- words ----------------------------------------------------------------------------------------------------------


def words(**changes):
    values = {"run": "somewhere", "task": "goal", "max_tries": 3, "step_limit": 5, "near_px": 15.0}
    return explorllm_words.Config(**values | changes)


class Says:
    """A language model that gives these answers one after the other."""

    def __init__(self, *answers):
        self.answers, self.events, self.asked = list(answers), [], []

    def ask(self, messages, *, purpose, index, **form):
        self.asked.append((purpose, index))
        return reply(self.answers.pop(0))

    def event(self, purpose, index, kind, **facts):
        self.events.append((index, kind, facts))


SCENE = Scene(("R", "L", "V"), ("yellow", "green", "blue") * 2, np.zeros((6, 2)), np.zeros(3), 1.0, (1, 2))
GOOD = '{"pick": 1, "place": 5}'


@wires("explorllm/words.max_tries", "explorllm/words.task")
def test_an_answer_is_asked_for_again_until_it_can_be_read():
    for tries, read, right in ((3, (1, 2), 1), (2, (0, 0), 0)):
        llm = Says("what?", '{"pick": 1, "place": 1}', GOOD)
        reader = Reader(llm, words(max_tries=tries))
        assert reader.read(SCENE, "a sentence", (1, 2)) == read and reader.right == right
        assert llm.asked == [("explorllm.goal", f"0/{i}") for i in range(tries)]
        assert reader.unreadable == {"no_json": 1, "no_such_object": 1}
    reader = Reader(Says(GOOD, GOOD), words())
    assert reader.read(SCENE, "a sentence", (1, 1)) == (1, 2)  # wrong, and so it is what is done
    reader.read(SCENE, "a sentence", (1, 2))
    assert (reader.asked, reader.right) == (2, 1)
    llm = Says(f"[{GOOD}, {GOOD}]", "?")
    reader = Reader(llm, words(task="plan", max_tries=1))
    assert reader.read(SCENE, "all", [(1, 2), (1, 2)]) == [(1, 2)] * 2 and reader.right == 1
    assert reader.read(SCENE, "all", []) == [(0, 0)] and llm.asked[0][0] == "explorllm.plan"


@wires("explorllm/words.step_limit", "explorllm/words.near_px")
@pytest.mark.parametrize(
    "changes, apart, in_hand, goals",
    [
        ({}, 100, 0, [0, 0, 0, 0, 0, 1, 1, 1]),  # after five env_steps it goes on
        ({"step_limit": 2}, 100, 0, [0, 0, 1, 1, 2, 2, 2, 2]),  # and stays at the last
        ({}, 14, 0, [0, 1, 2, 2, 2, 2, 2, 2]),  # as soon as it is there
        ({}, 16, 0, [0, 0, 0, 0, 0, 1, 1, 1]),
        ({"near_px": 20.0}, 16, 0, [0, 1, 2, 2, 2, 2, 2, 2]),
        ({"near_px": 20.0}, 16, 1, [0, 0, 0, 0, 0, 1, 1, 1]),  # but not with something in the hand
    ],
)  # fmt: skip
def test_a_plans_step_ends_when_it_is_done_or_takes_too_long(monkeypatch, changes, apart, in_hand, goals):
    env = pick_place(horizon="long")
    plan = [(2, 0), (0, 1), (1, 2)]
    planned = Planned(env, SimpleNamespace(read=lambda *told: plan), words(task="plan", **changes))
    obs = env.reset(seed=0)[0]
    position = np.zeros((6, 2), np.float32)
    position[3:] = (apart / FRAME, 0)  # every object is so far from every bowl
    obs = obs | {"position": position, "in_hand": np.array([in_hand], np.float32)}
    monkeypatch.setattr(env, "step", lambda action: (obs, 0.0, False, False, {}))
    seen = [planned.reset(seed=0)[0]["goal"], *(planned.step(None)[0]["goal"] for _ in range(7))]
    assert [tuple(goal) for goal in seen] == [plan[at] for at in goals]
    assert tuple(planned.reset(seed=0)[0]["goal"]) == plan[0] and tuple(planned.step(None)[0]["goal"])


@wires("explorllm/words.run", "explorllm/words.task")
def test_whose_agent_carries_out_what(monkeypatch):
    played = []

    def evaluate(act, env, suite, max_steps, stop):
        played.append((act, type(env).__name__, suite))
        return SimpleNamespace(row=lambda: {"returns": [2.0]})

    monkeypatch.setattr(explorllm_words, "evaluate", evaluate)
    base = composed("explorllm/policy")
    for task, horizon, wrapper in (("goal", "short", "Instructed"), ("plan", "long", "Planned")):
        env = dataclasses.replace(base.env, horizon=horizon)
        rows = []
        context = SimpleNamespace(
            cfg=dataclasses.replace(base, env=env, method=words(task=task, run=f"run/of/{task}")), llm=None,
            env=lambda role, env=env: pick_place(horizon=env.horizon),
            trained=lambda directory, env: (str(directory), Clock(7, 8, 9)),
            policy=lambda agent, env: agent, stop=Stop(), log=SimpleNamespace(evaluation=rows.append),
        )  # fmt: skip
        result = explorllm_words.ExploRLLMWords().run(context)
        assert played[-1][:2] == (f"run/of/{task}", wrapper) and result["words"]["run"] == f"run/of/{task}"
        assert rows == [{"env_steps": 7, "updates": 8, "episodes": 9, "policy": "greedy", "returns": [2.0]}]
        context.cfg = dataclasses.replace(context.cfg, method=words(task={"goal": "plan", "plan": "goal"}[task]))
        with pytest.raises(ConfigError, match="needs env=pick_place/"):
            explorllm_words.ExploRLLMWords().run(context)
    assert isinstance(played[0][2][0], Case) and len(played[0][2]) == base.eval.episodes
