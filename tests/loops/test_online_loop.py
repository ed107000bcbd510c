"""The online loop by absolute values: a scripted environment, and spies for agent, replay buffer, explorer and log."""

import copy
import math
import signal

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from llmrl.contracts.explorer import Clock
from llmrl.loops import training
from llmrl.loops.online import EnvSlot, OnlineTraining
from llmrl.loops.training import Schedule, TrainingDiverged
from llmrl.runs import seeding
from llmrl.runs.checkpoint import Loaded
from llmrl.runs.stop import Stop, Stopped

GO, END, LIMIT = (False, False), (True, False), (False, True)  # terminated, truncated


class Scripted(gym.Env):
    """Plays episodes as they are written down, each a list of (reward, terminated, truncated, info) steps. It observes
    [its own number, the episode, the step]."""

    observation_space, action_space = spaces.Box(-99, 99, (3,), np.float32), spaces.Discrete(5)

    def __init__(self, *episodes, number=0):
        self.number, self.episodes = number, [list(e) for e in episodes]
        self.seeds, self.actions, self.t = [], [], 0

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.t = 0
        return self._seen(), {"start": len(self.seeds) - 1}

    def step(self, action):
        self.actions.append(action)
        reward, *ends, info = self.episodes[len(self.seeds) - 1][self.t]
        self.t += 1
        return self._seen(), reward, *ends, dict(info)

    def _seen(self):
        return np.array([self.number, len(self.seeds) - 1, self.t], np.float32)


def steps_of(*rewards, end=END):
    """An episode that pays these rewards, its last step ending it."""
    return [(r, *(end if i == len(rewards) - 1 else GO), {}) for i, r in enumerate(rewards)]


class SpyReplay:
    """Keeps every step as it came. Batches are numbers, and `updates` says how many a clock asks for."""

    def __init__(self, updates=lambda clock: 0):
        self.updates, self.steps, self.clocks, self.after_calls, self.drawn = updates, [], [], [], 0

    def add(self, step):
        self.steps.append(step)

    def num_updates(self, clock):
        self.clocks.append((len(self.steps), clock.env_steps, clock.updates, clock.episodes))
        return self.updates(clock)

    def batches(self, n, rng, agent):
        self.asked = (rng, agent)
        for _ in range(n):
            self.drawn += 1
            yield self.drawn

    def after(self, batch, out):
        self.after_calls.append((batch, float(out["loss"])))

    def rings(self):
        return {}

    def state_dict(self):
        return {"drawn": self.drawn}


class SpyAgent:
    """Its loss is ten times the batch's number; every third update also tells `actor_loss`."""

    clips_actions, action_space = False, Scripted.action_space

    def __init__(self, replay, loss=lambda batch: 10.0 * batch):
        self.replay, self.loss, self.acts, self.learned = replay, loss, [], []

    def replay_buffer(self):
        return self.replay

    def act(self, obs, *, explore, gen):
        self.acts.append((obs, explore, gen.initial_seed()))
        return np.full(len(obs), 4)

    def update(self, batch):
        self.learned.append(batch)
        out = {"loss": torch.tensor(self.loss(batch)), "priority": torch.ones(2)}
        return out | ({"actor_loss": torch.tensor(-float(batch))} if batch % 3 == 0 else {})

    def state_dict(self):
        return {"learned": len(self.learned)}


class SpyExplorer:
    """Counts its actions 0, 1, 2, …, and asks the policy only where `asks`."""

    def __init__(self, asks=False):
        self.asks, self.starts, self.calls = asks, [], []

    def on_episode_start(self, clock, number, last):
        self.starts.append((number, clock.env_steps, clock.episodes, last))

    def propose(self, obs, policy, clock, info, rng):
        self.calls.append((obs.tolist(), clock.env_steps, [dict(i) for i in info]))
        return policy() if self.asks else np.arange(len(info)) + (len(self.calls) - 1) % 3

    def metrics(self):
        return {"epsilon": len(self.calls) / 100}

    def state_dict(self):
        return {"calls": len(self.calls)}


class SpyLog:
    def __init__(self):
        self.rows, self.times, self.flushed, self.was_cut = [], [], [], []

    def metrics(self, row):
        self.rows.append(row)

    def timing(self, row):
        self.times.append(row)

    def flush(self):
        self.flushed.append(len(self.rows))

    def offsets(self):
        return {"metrics": len(self.rows)}

    def cut(self, offsets):
        self.was_cut.append(offsets)


class SpyCheckpoints:
    """Keeps what was saved; finds nothing."""

    def __init__(self):
        self.saved = []

    def load(self, buffer):
        return Loaded()

    def save(self, state, buffer, offsets):
        self.saved.append((copy.deepcopy(state), buffer, offsets))


def training_of(envs, explorer=None, *, env_steps, replay=None, agent=None, seed=7, evaluate_every=1000, log_every=1000,
                every_s=math.inf, stop=None):  # fmt: skip
    agent = agent or SpyAgent(replay or SpyReplay())
    one = OnlineTraining(
        agent, explorer or SpyExplorer(), envs, seed=seed,
        schedule=Schedule(env_steps, evaluate_every, log_every, every_s),
        evaluate=lambda clock: one.evaluated.append((clock.env_steps, clock.updates, clock.episodes)),
        log=SpyLog(), checkpoints=SpyCheckpoints(), stop=stop or Stop(),
        report=lambda clock, facts: one.reports.append((clock.env_steps, dict(facts))),
    )  # fmt: skip
    one.evaluated, one.reports = [], []
    return one


def trained(envs, explorer=None, **settings):
    one = training_of(envs, explorer, **settings)
    one.run()
    return one


def rows(training, kind):
    return [{k: v for k, v in row.items() if k != "kind"} for row in training.log.rows if row["kind"] == kind]


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_only_ends_and_lost_lives_are_terminal_and_only_ends_and_limits_are_last():
    life = {"life_lost": True}
    env = Scripted(
        [(1, *GO, {"life_lost": False}), (2, *GO, life), (3, *GO, {}), (4, *END, {})],
        [(5, *GO, {}), (6, *LIMIT, {})],
        [(7, True, True, {})],
        [(8, *LIMIT, life)],
        [(9, *GO, {})],
    )
    steps = trained([env], env_steps=9).replay_buffer.steps
    assert [s.reward.tolist() for s in steps] == [[r] for r in range(1, 10)]
    assert [bool(s.terminated[0]) for s in steps] == [False, True, False, True, False, False, True, True, False]
    assert [bool(s.last[0]) for s in steps] == [False, False, False, True, False, True, True, True, False]
    assert {(s.reward.dtype, s.terminated.dtype, s.last.dtype) for s in steps} == {
        (np.dtype(np.float32), *[np.dtype(bool)] * 2)
    }


def test_a_step_leads_from_what_was_seen_to_what_came_also_where_an_episode_ends():
    """Two environments whose episodes end at different steps: neither next_obs is the next episode's first."""
    envs = [
        Scripted(steps_of(1, 2), steps_of(3, 4, 5), number=0),
        Scripted(steps_of(6, 7, 8, end=LIMIT), steps_of(9, 10), number=1),
    ]
    explorer = SpyExplorer()
    steps = trained(envs, explorer, env_steps=10).replay_buffer.steps
    first = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 2]]
    second = [[1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 1, 0], [1, 1, 1]]
    assert [s.obs.tolist() for s in steps] == [list(pair) for pair in zip(first, second)]
    assert [obs for obs, _, _ in explorer.calls] == [s.obs.tolist() for s in steps]
    after = [[[*o[:2], o[2] + 1] for o in pair] for pair in zip(first, second)]
    assert [s.next_obs.tolist() for s in steps] == after
    assert [s.reward.tolist() for s in steps] == [[1, 6], [2, 7], [3, 8], [4, 9], [5, 10]]
    assert [s.last.tolist() for s in steps] == [
        [False, False],
        [True, False],
        [False, True],
        [False, False],
        [True, True],
    ]
    assert [s.terminated.tolist() for s in steps] == [
        [False] * 2,
        [True, False],
        [False] * 2,
        [False] * 2,
        [True, True],
    ]
    assert [s.action.tolist() for s in steps] == [[0, 1], [1, 2], [2, 3], [0, 1], [1, 2]]
    assert [env.actions for env in envs] == [[0, 1, 2, 0, 1], [1, 2, 3, 1, 2]]
    assert [env_steps for _, env_steps, _ in explorer.calls] == [0, 2, 4, 6, 8]
    assert [[set(i) for i in infos] for _, _, infos in explorer.calls][:3] == [
        [{"start"}] * 2,
        [set()] * 2,
        [{"start"}, set()],
    ]


def test_observations_may_be_dicts_of_dicts():
    class Nested(Scripted):
        def _seen(self):
            return {"a": np.array([self.t]), "b": {"c": np.array([self.number, self.t])}}

    class Blind(SpyExplorer):
        def propose(self, obs, policy, clock, info, rng):
            return np.zeros(len(info), int)

    for n in (1, 2):
        envs = [Nested(steps_of(0, 0), number=i) for i in range(n)]
        (first, second) = trained(envs, Blind(), env_steps=2 * n).replay_buffer.steps
        assert first.obs["a"].tolist() == [[0]] * n and second.next_obs["a"].tolist() == [[2]] * n
        assert second.obs["b"]["c"].tolist() == [[i, 1] for i in range(n)]


class Clipping(SpyAgent):
    clips_actions, action_space = True, spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))


def test_the_environment_gets_actions_inside_its_box_and_the_replay_those_that_were_proposed():
    env, explorer = Scripted(steps_of(0, 0), steps_of(0)), SpyExplorer()
    explorer.propose = lambda *args: np.array([[-3.0, 5.0]])
    one = trained([env], explorer, env_steps=3, agent=Clipping(SpyReplay()))
    assert [a.tolist() for a in env.actions] == [[-1, 2]] * 3
    assert one.replay_buffer.steps[0].action.tolist() == [[-3, 5]]
    assert explorer.starts[1][3].actions.tolist() == [[-1, 2]] * 2, "an LLM is told what was executed"


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_every_episode_has_a_seed_of_its_own_which_its_number_decides():
    envs = [Scripted(*[steps_of(1, 1)] * 5), Scripted(*[steps_of(1, 1, 1)] * 4)]
    trained(envs, env_steps=20, seed=7)
    number = [[0, 2, 4, 5, 7], [1, 3, 6, 8]]  # in the order in which they began
    assert [env.seeds for env in envs] == [[seeding.integer(7, "env", k) for k in of] for of in number]
    assert len({seed for env in envs for seed in env.seeds}) == 9
    other = Scripted(*[steps_of(1, 1)] * 2)
    trained([other], env_steps=4, seed=8)
    assert other.seeds == [seeding.integer(8, "env", k) for k in range(2)]
    assert not set(other.seeds) & set(envs[0].seeds)


def test_the_return_is_the_environments_own_and_the_learned_reward_is_not():
    env = Scripted(
        [(1, *GO, {"reward_env": 10.0}), (-1, *GO, {"reward_env": -30.0}), (1, *END, {"reward_env": 100.0})],
        [(2, *GO, {}), (3, *LIMIT, {"reward_env": 0.0})],
    )
    one = trained([env], explorer := SpyExplorer(), env_steps=5)
    assert [s.reward[0] for s in one.replay_buffer.steps] == [1, -1, 1, 2, 3]
    assert [(r["return"], r["length"]) for r in rows(one, "episode")] == [(80.0, 3), (2.0, 2)]
    assert [last and (last.number, last.episode_return, last.length, last.actions.tolist())
            for *_, last in explorer.starts] == [None, (0, 80.0, 3, [0, 1, 2])]  # fmt: skip
    assert one.last_episode.episode_return == 2.0 and one.last_episode.actions.tolist() == [0, 1]


def test_episode_rows_carry_the_counters_and_the_number_with_which_the_episode_began():
    envs = [Scripted(*[steps_of(1, 1)] * 3), Scripted(*[steps_of(5, 5, 5)] * 2)]
    one = trained(envs, explorer := SpyExplorer(), env_steps=12)
    assert rows(one, "episode") == [
        {"env_steps": 4, "updates": 0, "episodes": 1, "number": 0, "return": 2.0, "length": 2},
        {"env_steps": 6, "updates": 0, "episodes": 2, "number": 1, "return": 15.0, "length": 3},
        {"env_steps": 8, "updates": 0, "episodes": 3, "number": 2, "return": 2.0, "length": 2},
        {"env_steps": 12, "updates": 0, "episodes": 4, "number": 4, "return": 2.0, "length": 2},
        {"env_steps": 12, "updates": 0, "episodes": 5, "number": 3, "return": 15.0, "length": 3},
    ]
    assert [(*counters, last and last.number) for *counters, last in explorer.starts] == [
        (0, 0, 0, None), (1, 0, 0, None), (2, 4, 1, 0), (3, 6, 2, 1), (4, 8, 3, 2)]  # fmt: skip
    assert one.clock == Clock(env_steps=12, updates=0, episodes=5)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_a_step_is_stored_before_the_updates_that_it_makes_due_and_they_are_counted_one_by_one():
    replay = SpyReplay(updates=lambda clock: {4: 2, 6: 3}.get(clock.env_steps, 0))
    one = trained([Scripted(steps_of(*[0] * 4)), Scripted(steps_of(*[0] * 4))], replay=replay, env_steps=8)
    assert replay.clocks == [(1, 2, 0, 0), (2, 4, 0, 0), (3, 6, 2, 0), (4, 8, 5, 2)]
    assert one.agent.learned == [1, 2, 3, 4, 5] and one.clock.updates == 5
    assert replay.after_calls == [(i, 10.0 * i) for i in (1, 2, 3, 4, 5)]
    assert replay.asked == (one.rng_replay, one.agent)


def test_numbers_are_logged_as_they_were_last_at_the_steps_that_are_due():
    """A row per 3 env_steps; of each metric the newest, also where the newest update did not tell it."""
    replay = SpyReplay(updates=lambda clock: 1 if clock.env_steps > 1 else 0)
    one = trained([Scripted(steps_of(*[0] * 10))], replay=replay, env_steps=10, log_every=3)
    counters = [{"env_steps": t, "updates": t - 1, "episodes": 0} for t in (3, 6, 9)]
    numbers = [
        {"loss": 20.0, "epsilon": 0.03},
        {"loss": 50.0, "actor_loss": -3.0, "epsilon": 0.06},
        {"loss": 80.0, "actor_loss": -6.0, "epsilon": 0.09},
    ]
    assert rows(one, "train") == [c | n for c, n in zip(counters, numbers)]


def test_numbers_that_are_not_finite_end_the_training_and_are_named():
    agent = SpyAgent(SpyReplay(updates=lambda clock: 1), loss=lambda batch: 1.0 if batch < 5 else math.inf)
    one = training_of([Scripted(steps_of(*[0] * 10))], agent=agent, env_steps=10, log_every=4)
    with pytest.raises(TrainingDiverged, match="loss is inf at 8 env_steps"):
        one.run()
    assert [r["env_steps"] for r in rows(one, "train")] == [4]
    assert one.checkpoints.saved == [], "between two passes alone is the state whole"


@pytest.mark.parametrize(("asks", "acts"), [(True, 3), (False, 0)])
def test_the_policy_is_asked_where_the_explorer_wants_it_and_explores(asks, acts):
    one = trained([Scripted(steps_of(0, 0, 0))], SpyExplorer(asks), env_steps=3)
    assert len(one.agent.acts) == acts
    gen = seeding.torch_generator(7, "act").initial_seed()
    assert [(obs.tolist(), explore, seed) for obs, explore, seed in one.agent.acts] == [
        ([[0, 0, t]], True, gen) for t in range(acts)]  # fmt: skip


def test_random_numbers_come_from_the_named_streams_of_the_seed():
    one = training_of([Scripted()], env_steps=0, seed=11)
    for rng, name in ((one.rng_explore, "explore"), (one.rng_replay, "replay")):
        assert rng.random() == seeding.generator(11, name).random()


# --- what is due now and then -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "every", "env_steps", "at"),
    [
        (1, 1, 3, [0, 1, 2, 3]),
        (1, 3, 9, [0, 3, 6, 9]),
        (1, 4, 9, [0, 4, 8, 9]),
        (3, 5, 18, [0, 6, 12, 15, 18]),  # 5, 10 and 15 are reached or passed at 6, 12, 15; 18 is the end
        (2, 5, 10, [0, 6, 10]),
        (4, 2, 12, [0, 4, 8, 12]),
        (2, 100, 6, [0, 6]),
        (3, 4, 8, [0, 6, 9]),  # the budget ends inside a step of all three: 4 at 6, 8 at 9
    ],
)  # fmt: skip
def test_evaluations_and_rows_come_at_the_first_step_that_reaches_a_multiple(n, every, env_steps, at):
    envs = [Scripted(steps_of(*[0] * 20)) for _ in range(n)]
    one = trained(envs, env_steps=env_steps, evaluate_every=every, log_every=every)
    assert [env_steps for env_steps, *_ in one.evaluated] == at
    logged = [row["env_steps"] for row in rows(one, "train")]
    assert logged == [x for x in at[1:] if any(m % every == 0 for m in range(x - n + 1, x + 1))]
    assert one.clock.env_steps == at[-1]


def test_an_evaluation_sees_the_updates_and_episodes_that_came_before_it():
    replay = SpyReplay(updates=lambda clock: 2)
    one = trained([Scripted(*[steps_of(0, 0)] * 3)], replay=replay, env_steps=6, evaluate_every=2)
    assert one.evaluated == [(0, 0, 0), (2, 4, 1), (4, 8, 2), (6, 12, 3)]


class Clocked:
    """A clock that goes one second further at each env_step."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1e9 + self.now


@pytest.fixture
def seconds(monkeypatch):
    clock = Clocked()
    monkeypatch.setattr(training, "time", clock)
    step = Scripted.step
    monkeypatch.setattr(Scripted, "step", lambda self, a: (setattr(clock, "now", clock.now + 1), step(self, a))[1])
    return clock


def test_checkpoints_are_made_when_their_time_has_come(seconds):
    one = trained([Scripted(*[steps_of(0, 0)] * 6)], env_steps=11, every_s=3.0)
    assert [state["clock"]["env_steps"] for state, *_ in one.checkpoints.saved] == [3, 6, 9]
    state, buffer, offsets = one.checkpoints.saved[1]
    assert buffer is one.replay_buffer and offsets == {"metrics": 3}  # rows of three episodes
    assert state["clock"] == {"env_steps": 6, "updates": 0, "episodes": 3}
    assert (state["next_episode"], state["evaluated_at"]) == (3, 0)
    assert (state["agent"], state["explorer"]) == ({"learned": 0}, {"calls": 6})
    (slot,) = state["slots"]
    assert (slot["number"], slot["over"], slot["return"], slot["env"]) == (2, True, 0.0, None)
    assert one.checkpoints.saved[0][0]["slots"][0]["actions"].tolist() == [2]


def test_a_person_hears_of_it_once_a_second_at_most_and_at_evaluations_and_the_end(seconds):
    one = trained([Scripted(steps_of(1, 1, 1), steps_of(*[2] * 9))], env_steps=8, evaluate_every=5)
    assert [env_steps for env_steps, _ in one.reports] == [0, 2, 4, 5, 7, 8, 8]  # more than one second after the last
    assert one.reports[0] == (0, {"epsilon": 0.0}) and one.reports[2] == (4, {"return": 3.0, "epsilon": 0.04})
    speeds = [row["env_steps_per_s"] for row in one.log.times]
    assert speeds[:6] == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [row["env_steps"] for row in one.log.times] == [0, 2, 4, 5, 7, 8, 8]
    assert one.log.times[1]["time"] == 1e9 + 2
    assert len(one.log.flushed) == 8 and one.log.flushed[-1] == 1, "and once more at the end"


class StopAt(Stop):
    """A signal comes before pass `at`."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def poll(self):
        self.at -= 1
        if self.at < 0:
            raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize("at", [0, 3])
def test_a_stop_leaves_a_checkpoint_of_the_pass_that_was_about_to_begin(at):
    one = training_of([Scripted(steps_of(*[0] * 9))], env_steps=9, stop=StopAt(at))
    with pytest.raises(Stopped):
        one.run()
    assert [state["clock"]["env_steps"] for state, *_ in one.checkpoints.saved] == [at]
    if at == 0:
        (slot,) = one.checkpoints.saved[0][0]["slots"]
        assert (slot["number"], slot["over"], slot["return"]) == (-1, True, 0.0)
    assert one.log.was_cut == [{}]


@pytest.mark.parametrize(("error", "saved"), [(ValueError("no"), 0), (RuntimeError("no"), 0)])
def test_what_fails_inside_a_step_saves_nothing(error, saved):
    def failing(clock):
        raise error

    one = training_of([Scripted(steps_of(0, 0))], env_steps=2, replay=SpyReplay(updates=failing))
    with pytest.raises(type(error)):
        one.run()
    assert len(one.checkpoints.saved) == saved


def test_what_an_explorer_raises_between_episodes_saves_the_state_before():
    explorer = SpyExplorer()

    def start(clock, number, last):
        if number == 2:
            raise RuntimeError("the server is away")

    explorer.on_episode_start = start
    one = training_of([Scripted(*[steps_of(0, 0)] * 5)], explorer, env_steps=9)
    with pytest.raises(RuntimeError, match="the server is away"):
        one.run()
    ((state, *_),) = one.checkpoints.saved
    assert state["clock"]["env_steps"] == 4 and state["next_episode"] == 2 and state["slots"][0]["over"]


# --- going on ---------------------------------------------------------------------------------------------------------


class Found(SpyCheckpoints):
    def __init__(self, state, offsets):
        super().__init__()
        self.found = Loaded(state, offsets, ["the newest was damaged"])

    def load(self, buffer):
        return self.found


def test_a_resumed_training_plays_its_episodes_again_and_goes_on_with_every_counter(seconds):
    def envs(*first):
        return [Scripted(*first, steps_of(3, 4, 5, 6), number=0), Scripted(steps_of(*range(10, 20)), number=1)]

    class Kept(SpyAgent):
        def load_state_dict(self, state):
            self.loaded = state

    class KeptExplorer(SpyExplorer):
        def load_state_dict(self, state):
            self.calls = [None] * state["calls"]

    first = training_of(envs(steps_of(1, 2)), env_steps=12, stop=StopAt(3), evaluate_every=4)
    with pytest.raises(Stopped):
        first.run()
    ((state, *_),) = first.checkpoints.saved
    again = envs()
    one = training_of(again, KeptExplorer(), env_steps=12, agent=Kept(SpyReplay()), evaluate_every=4)
    one.checkpoints = Found(state, {"metrics": 1})
    one.run()
    assert one.reports[0] == (6, {"warning": "the newest was damaged"}) and one.log.was_cut == [{"metrics": 1}]
    assert one.agent.loaded == {"learned": 0}
    assert [env.seeds for env in again] == [[seeding.integer(7, "env", k)] for k in (2, 1)]
    assert [env.actions for env in again] == [[2, 0, 1, 2], [1, 2, 3, 1, 2, 3]]  # the first 1 and 3 are played again
    assert [s.obs.tolist() for s in one.replay_buffer.steps] == [[[0, 0, t], [1, 0, t + 2]] for t in (1, 2, 3)]
    assert [s.reward.tolist() for s in one.replay_buffer.steps] == [[4, 13], [5, 14], [6, 15]]
    assert rows(one, "episode") == [
        {"env_steps": 12, "updates": 0, "episodes": 2, "number": 2, "return": 18.0, "length": 4}]  # fmt: skip
    assert one.evaluated == [(8, 0, 1), (12, 0, 2)]
    assert one.next_episode == 3 and one.explorer.starts == []
    # two env_steps in the four seconds of the replay and their own two; those of the first life do not count
    assert one.log.times[0]["env_steps_per_s"] == 0.3


def test_an_evaluation_that_was_made_before_a_stop_is_not_made_again():
    class Kept(SpyAgent):
        def load_state_dict(self, state):
            pass

    first = training_of([Scripted(steps_of(*[0] * 9))], env_steps=9, stop=StopAt(6), evaluate_every=3)
    with pytest.raises(Stopped):
        first.run()
    assert [at for at, *_ in first.evaluated] == [0, 3, 6]
    explorer = SpyExplorer()
    explorer.load_state_dict = lambda state: None
    one = training_of([Scripted(steps_of(*[0] * 9))], explorer, env_steps=9, agent=Kept(SpyReplay()), evaluate_every=3)
    one.checkpoints = Found(first.checkpoints.saved[0][0], {})
    one.run()
    assert [at for at, *_ in one.evaluated] == [9]


def test_an_environment_that_counts_across_episodes_is_put_back_after_the_replay():
    class Counting(Scripted):
        count = 0

        def step(self, action):
            self.count += 1
            return super().step(action)

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    slot = EnvSlot(Counting(steps_of(0, 0, 0)))
    saved = {"number": 0, "over": False, "return": 1.5, "actions": np.array([3, 4]), "env": {"count": 17}}
    slot.restore(saved, seed=5)
    assert slot.env.seeds == [5] and slot.env.actions == [3, 4] and slot.env.count == 17
    assert slot.obs.tolist() == [0, 0, 2] and (slot.number, slot.over, slot.episode_return) == (0, False, 1.5)
    assert slot.state_dict()["env"] == {"count": 17} and slot.state_dict()["actions"].tolist() == [3, 4]
    over = EnvSlot(Counting())
    over.restore(saved | {"over": True}, seed=5)
    assert over.env.seeds == [] and over.env.count == 17


def test_streams_of_random_numbers_are_what_they_always_were():
    """Who runs an old command anew gets the old run."""
    assert seeding.integer(3, "env", 17) == 1201808263
    assert seeding.generator(3, "env", 17).integers(1000, size=3).tolist() == [85, 618, 300]
    assert seeding.torch_generator(3, "act").initial_seed() == seeding.integer(3, "act") == 674521423
