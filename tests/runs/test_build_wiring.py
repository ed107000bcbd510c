"""What build.py, context.py and evaluation.py hand on: every key, with a value of its own, arrives where it belongs."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import CART_POLE, SHORT, compose

from llmrl import build, context, evaluation
from llmrl.config import from_node
from llmrl.contracts.explorer import Clock
from llmrl.runs import seeding
from llmrl.runs.evaluate import Scores, cases
from llmrl.runs.stop import Stop


class Log:
    def __init__(self):
        self.evaluations, self.times = [], []

    def evaluation(self, row):
        self.evaluations.append(row)

    def timing(self, row):
        self.times.append(row)


def made(directory, *overrides):
    config = from_node(compose([*CART_POLE, *overrides]))
    told = []
    ctx = context.RunContext(
        config, directory, Stop(), Log(), lambda clock, facts: told.append((clock.env_steps, facts))
    )
    ctx.told = told
    return ctx


class Loop:
    """Stands for a training loop, and keeps what it was made with."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs, self.slots = args, kwargs, []
        Loop.last = self

    def run(self):
        return Clock(env_steps=60, updates=9, episodes=2)


SPACE = gym.spaces.Box(0, 1, (1,))
AGENT = SimpleNamespace(
    state_dict=dict, replay_buffer=lambda: SimpleNamespace(rings=dict), observation_space=SPACE, update=None
)


class Evaluations:
    """Stands for the evaluation of a run, and keeps what it was asked for."""

    env = SimpleNamespace(observation_space=SPACE)

    def __init__(self, *args):
        self.seen = []
        Evaluations.last = self

    def evaluate(self, agent, clock, *, end):
        self.seen.append((agent, end))

    def close_pool(self):
        self.seen.append("closed")


def ends(loop, clocks):
    """What the loop's `evaluate` makes of these clocks."""
    seen = Evaluations.last.seen
    assert seen.pop() == "closed" and seen == []
    for clock in clocks:
        loop.kwargs["evaluate"](clock)
    assert all(agent is AGENT for agent, _ in seen)
    return [end for _, end in seen]


def test_an_online_training_gets_its_lengths_seed_and_environments(tmp_path, monkeypatch):
    keys = ["seed=4", "agent.n_envs=3", "eval.every=11", "log.every=13", "compute.checkpoint_every_s=17"]
    ctx = made(tmp_path, *keys)
    roles = []
    monkeypatch.setattr(ctx, "env", lambda role, wrapper: roles.append(role) or SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(context, "OnlineTraining", Loop)
    monkeypatch.setattr(context, "Evaluation", Evaluations)
    assert ctx.train(AGENT, explorer := object()) == {"env_steps": 60, "updates": 9, "episodes": 2}
    agent, explorer_given, envs = Loop.last.args
    assert agent is AGENT and explorer_given is explorer and len({id(env) for env in envs}) == 3
    assert roles == ["train"] * 3 and Loop.last.kwargs["seed"] == 4
    schedule = Loop.last.kwargs["schedule"]
    found = (schedule.length, schedule.evaluate_every, schedule.log_every, schedule.checkpoint_every_s)
    assert found == (60, 11, 13, 17)
    clocks = [Clock(env_steps=n) for n in (0, 59, 60, 62)]
    assert ends(Loop.last, clocks) == [False, False, True, True]
    assert (tmp_path / "agent.pt").exists() and torch.load(tmp_path / "agent.pt") == {}
    for name in ("log", "checkpoints", "stop", "report"):
        assert Loop.last.kwargs[name] is getattr(ctx, name)


def test_an_offline_training_gets_its_lengths_and_seed(tmp_path, monkeypatch):
    keys = ["agent=bc", "method=offline", "method.dataset=d/e-v0", "env=classic/cart_pole", *SHORT, "seed=4"]
    keys += ["budget.updates=50", "eval.every=11", "log.every=13", "compute.checkpoint_every_s=17"]
    ctx = context.RunContext(from_node(compose(keys)), tmp_path, Stop(), Log(), lambda clock, facts: None)
    monkeypatch.setattr(context, "OfflineTraining", Loop)
    monkeypatch.setattr(context, "Evaluation", Evaluations)
    assert ctx.train_offline(AGENT, source := object())["updates"] == 9
    assert Loop.last.args[0] is AGENT and Loop.last.args[1] is source and Loop.last.kwargs["seed"] == 4
    schedule = Loop.last.kwargs["schedule"]
    found = (schedule.length, schedule.evaluate_every, schedule.log_every, schedule.checkpoint_every_s)
    assert found == (50, 11, 13, 17)
    clocks = [Clock(updates=n) for n in (0, 49, 50)]
    assert ends(Loop.last, clocks) == [False, False, True]


@pytest.mark.parametrize(("at", "after"), [("end", ["greedy"]), ("every", ["greedy", "greedy on hard"])])
def test_which_rows_an_evaluation_writes_and_of_which_cases(tmp_path, monkeypatch, at, after):
    ctx = made(tmp_path, f"eval.sets_at={at}", "eval.episodes=3", "eval.seed=5", "eval.max_steps=7")
    ctx.evaluation_sets = {"hard": cases(5, "hard", 2)}
    played = []

    def play(act, env, suite, max_steps, stop):
        played.append((suite, max_steps, stop is ctx.stop))
        return Scores([float(len(played))] * len(suite), [10] * len(suite))

    monkeypatch.setattr(evaluation, "evaluate", play)
    ctx.evaluate(AGENT, Clock(), end=False)
    before = ["random", *after]
    assert [row["policy"] for row in ctx.log.evaluations] == before
    assert [row["return_mean"] for row in ctx.log.evaluations][:2] == [2.0, 1.0], "the agent's own were played first"
    for suite, max_steps, stop in played[:2]:
        assert (suite, max_steps, stop) == (cases(5, "eval", 3), 7, True)
    del ctx.log.evaluations[:], played[:]
    ctx.evaluate(AGENT, Clock(env_steps=20, updates=4), end=False)
    ctx.evaluate(AGENT, Clock(env_steps=0, updates=4), end=True)
    assert [row["policy"] for row in ctx.log.evaluations] == [*after, "greedy", "greedy on hard"]
    assert [(row["env_steps"], row["updates"]) for row in ctx.log.evaluations][0] == (20, 4)
    assert len(ctx.log.evaluations[-1]["returns"]) == 2 and played[-1][0] == cases(5, "hard", 2)
    assert ctx.log.times[-1]["eval_env_steps"] == 50 and ctx.log.times[-1]["env_steps"] == 0
    assert ctx.told[1] == (20, {"eval": 1.0})


class Noted:
    clips_actions, action_space = True, gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))

    def __init__(self):
        self.calls = []

    def act(self, obs, *, explore, gen):
        self.calls.append((obs, explore, gen.initial_seed()))
        return np.array([[-3.0, 5.0]])


def test_an_evaluated_agent_is_greedy_draws_from_the_episode_and_stays_in_its_box():
    agent = Noted()
    act = build.greedy(agent)
    rng, twin = (np.random.default_rng(3) for _ in range(2))
    assert [act("seen", rng).tolist() for _ in range(2)] == [[[-1, 2]]] * 2
    assert agent.calls == [("seen", False, int(twin.integers(2**31))) for _ in range(2)]


def test_the_evaluations_epsilon_is_the_share_of_random_actions(tmp_path):
    env = SimpleNamespace(action_space=gym.spaces.Discrete(2))
    agent = SimpleNamespace(clips_actions=False, act=lambda obs, *, explore, gen: np.array([7]))
    rng = np.random.default_rng(0)
    for epsilon, share in ((0.0, 1.0), (1.0, 0.0), (0.25, 0.75)):
        config = SimpleNamespace(eval=SimpleNamespace(epsilon=epsilon))
        act = build.evaluated(agent, config, env)
        assert np.mean([act(None, rng)[0] == 7 for _ in range(600)]) == pytest.approx(share, abs=0.05)


def test_a_suites_number_of_episodes_is_its_own_or_that_of_all(monkeypatch):
    module = SimpleNamespace(
        EVALUATION_SETS=("a", "b"), case_options=lambda env, name, rng: {"name": name, "draw": rng.random()}
    )
    monkeypatch.setattr(build, "module_of", lambda group, name: module)

    def config(each):
        evaluation = SimpleNamespace(seed=5, episodes=4, set_episodes=each)
        return SimpleNamespace(env=SimpleNamespace(suite="s"), eval=evaluation, choices={"env": "s/t"})

    for each, sizes in (({"a": 2}, [2, 4]), (3, [3, 3]), (None, [4, 4])):
        assert [len(build.evaluation_set(config(each), name)) for name in "ab"] == sizes
    case = build.evaluation_set(config(1), "b")[0]
    assert case.seed == cases(5, "b", 1)[0].seed
    assert case.options == {"name": "b", "draw": seeding.generator(case.seed, "options").random()}


def test_facts_of_several_environments_are_averaged():
    facts = [
        {"features": 2, "lipschitz": [1.0, 3.0], "sandbox": ["a"]},
        {"features": 2, "lipschitz": [3.0, 5.0], "sandbox": ["a"]},
    ]
    assert build.mean_facts(facts) == {"features": 2.0, "lipschitz": [2.0, 4.0], "sandbox": ["a"]}


def test_a_network_starts_from_the_runs_seed(tmp_path):
    def weights(*overrides):
        return next(iter(made(tmp_path, *overrides).agent().q.parameters()))

    assert torch.equal(weights("seed=1"), weights("seed=1")) and not torch.equal(weights("seed=1"), weights("seed=2"))
    ctx = made(tmp_path, "seed=1", "budget.env_steps=77")
    assert ctx.agent().env_steps == 77
    start = seeding.torch_generator(1, "agent")
    assert not torch.equal(ctx.agent().gen.get_state(), start.get_state()), "the networks were drawn from it"
