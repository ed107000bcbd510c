"""Environments that write into what they returned, or into the action they are given: nothing that is kept changes."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from command_line import in_process  # noqa: F401
from conftest import CART_POLE, SHORT, TINY, compose
from gymnasium import spaces
from test_online_loop import trained
from test_resume_in_process import CASES, EVALUATE, equal, lives  # noqa: F401

from llmrl.config import from_node
from llmrl.envs import classic, mujoco
from llmrl.envs.history import History
from llmrl.methods.lesr import wrapper as lesr_wrapper
from llmrl.runs.evaluate import Case, evaluate, evaluate_together
from llmrl.runs.play import copied
from llmrl.runs.stop import Stop


class InPlace(gym.Wrapper):
    """Everything that it returns is one buffer, and actions are halved in place; `tidy`: the same with new arrays."""

    def __init__(self, env, *, tidy=False):
        super().__init__(env)
        self.tidy, self.obs, self.reward, self.info = tidy, None, np.zeros(()), {}

    def reset(self, **how):
        obs, info = self.env.reset(**how)
        return self._returned(obs), info

    def step(self, action):
        if isinstance(action, np.ndarray):
            if self.tidy:
                action = action * np.float32(0.5)
            else:
                action *= 0.5
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs = self._returned(obs)
        if self.tidy:
            return obs, reward, terminated, truncated, info
        self.reward[...] = reward
        self.info.clear()
        self.info.update(info)
        return obs, self.reward, terminated, truncated, self.info

    def _returned(self, obs):
        if self.tidy:
            return obs
        if self.obs is None:
            self.obs = copied(obs)
        for to, new in [(self.obs, obs)] if not isinstance(obs, dict) else [(self.obs[k], obs[k]) for k in obs]:
            to[...] = new
        return self.obs


class Parts(gym.ObservationWrapper):
    """The same observation as a dict of two."""

    def observation(self, obs):
        return {"place": obs[:1], "rest": obs[1:]}


def halving(make, tidy):
    return lambda config, role, *, render=False: InPlace(make(config, role, render=render), tidy=tidy)


@pytest.mark.parametrize("case", ["dqn_cart_pole", "td3_half_cheetah"])
def test_training_is_as_with_new_arrays_and_a_resumed_run_as_a_whole_one(case, lives, monkeypatch):  # noqa: F811
    config = from_node(compose([*CASES[case], *EVALUATE]))
    suite = {"dqn_cart_pole": classic, "td3_half_cheetah": mujoco}[case]
    make, left = suite.make, {}
    for name, tidy in (("tidy", True), ("whole", False)):
        monkeypatch.setattr(suite, "make", halving(make, tidy))
        assert lives(config, name).live()
        left[name] = lives(config, name)
    monkeypatch.setattr(suite, "make", halving(make, False))
    for at in (9, 8, 11):  # inside of episodes, one after the other
        assert not lives(config, "stopped", at=at).live()
    assert lives(config, "stopped").live()
    files = [
        {n: (life.directory / n).read_bytes() for n in ("metrics.jsonl", "eval.jsonl")}
        for life in (left["tidy"], left["whole"], lives(config, "stopped"))
    ]
    ended = (*left.values(), lives(config, "stopped"))
    agents = [torch.load(life.directory / "agent.pt", weights_only=False) for life in ended]
    assert files[0]["metrics.jsonl"].count(b"episode") >= 4
    equal(files[1], files[0])
    equal(files[2], files[0])
    equal(agents[1], agents[0])
    equal(agents[2], agents[0])


class Arm(gym.Env):
    """Two numbers of one buffer, continuous actions that are halved in place, an info that holds the buffer."""

    observation_space, action_space = spaces.Box(-99, 99, (2,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
    buffer = np.zeros(2, np.float32)  # of the class: all environments share it

    def __init__(self, number=0, length=3):
        self.number, self.length, self.t, self.received = number, length, 0, []

    def reset(self, *, seed=None, options=None):
        self.t = 0
        self.buffer[:] = self.number, 0
        return self.buffer, {"seen": {"place": self.buffer}}

    def step(self, action):
        self.t += 1
        self.received.append(action.tolist())
        action *= 0.5
        self.buffer[:] = self.number, self.t
        return self.buffer, np.float32(self.t), False, self.t == self.length, {"seen": {"place": self.buffer}}


class Reused:
    """An explorer that gives every action in one array, which it changes afterwards."""

    def __init__(self, n):
        self.array, self.calls, self.infos, self.ended = np.zeros((n, 2), np.float32), 0, [], []

    def on_episode_start(self, clock, number, last):
        if last is not None:
            self.ended.append(last)

    def propose(self, obs, policy, clock, info, rng):
        self.infos.append([i["seen"]["place"].tolist() for i in info])
        self.calls += 1
        self.array[:] = self.calls / 10
        return self.array

    def metrics(self):
        return {}

    def state_dict(self):
        return {}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("parts", [False, True])
def test_every_step_keeps_what_it_was(n, parts):
    envs = [Arm(i) for i in range(n)]
    training = trained([Parts(e) if parts else e for e in envs], explorer := Reused(n), env_steps=7 * n)

    def numbers(obs):
        return np.concatenate([obs["place"], obs["rest"]], 1) if parts else obs

    steps, who = training.replay_buffer.steps, list(range(n))
    assert [numbers(s.obs).tolist() for s in steps] == [[[i, t % 3] for i in who] for t in range(7)]
    assert [numbers(s.next_obs).tolist() for s in steps] == [[[i, t % 3 + 1] for i in who] for t in range(7)]
    told = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert [s.action.tolist() for s in steps] == [[[a, a]] * n for a in told.tolist()]
    assert [env.received for env in envs] == [[[a, a] for a in told.tolist()]] * n
    assert [s.reward.tolist() for s in steps] == [[t % 3 + 1] * n for t in range(7)]
    assert explorer.infos == [[[i, t % 3] for i in who] for t in range(7)]
    assert [e.actions.tolist() for e in explorer.ended[:: n]] == [
        [[a, a] for a in told[i : i + 3].tolist()] for i in (0, 3)]  # fmt: skip
    assert [slot.actions[0].tolist() for slot in training.slots] == [[told[6]] * 2] * n


def test_what_cannot_be_copied_is_passed_on_and_scalars_stay_scalars():
    lock = SimpleNamespace()
    array = np.arange(3)
    found = copied(({"a": array, "b": [array, {"c": array}]}, np.float32(2), lock, (1, array)))
    array[:] = 9
    assert [found[0]["a"].tolist(), found[0]["b"][0].tolist(), found[0]["b"][1]["c"].tolist()] == [[0, 1, 2]] * 3
    assert type(found[1]) is np.float32 and found[2] is lock and found[3][1].tolist() == [0, 1, 2]


class Own:
    """A policy that returns one array of its own, such as a table of actions."""

    def __init__(self):
        self.action, self.seen = np.full((1, 2), 0.8, np.float32), []

    def __call__(self, obs, rng):
        self.seen.append(obs)
        return self.action


def test_an_evaluation_leaves_the_policys_actions_and_what_it_saw_as_they_are():
    act, env = Own(), Arm(5)
    scores = evaluate(act, env, [Case(0), Case(1)], 10, Stop())
    assert scores.returns == [6, 6] and act.action.tolist() == [[np.float32(0.8)] * 2]
    assert env.received == [[np.float32(0.8)] * 2] * 6
    assert [seen.tolist() for seen in act.seen] == [[[5, t]] for t in (0, 1, 2)] * 2


class Together:
    """Episodes side by side that write into the actions."""

    def reset(self, cases):
        self.t = 0
        return np.zeros((len(cases), 1))

    def step(self, actions):
        actions += 1
        self.t += 1
        over = np.full(len(actions), self.t == 3)
        return np.full((len(actions), 1), self.t), np.ones(len(actions)), over, ~over, {"success": over}

    def keep(self, mask):
        return np.full((mask.sum(), 1), self.t)


def test_a_history_of_episodes_side_by_side_holds_the_actions_that_were_chosen():
    history = []

    def remember(obs):
        history.append(History(obs, 4))
        return history[0]

    episodes = Together()
    episodes.step = lambda actions, step=episodes.step: (*step(actions)[:3], np.zeros(len(actions), bool), {
        "success": np.zeros(len(actions), bool)})  # fmt: skip
    evaluate_together(lambda obs, rng: np.array([2, 3]), episodes, [Case(0), Case(1)], 2, Stop(), remember)
    assert history[0].action.tolist() == [[2, 2, 0, 0], [3, 3, 0, 0]]


PROGRAM = "import numpy as np\ndef revise_state(s):\n    return np.append(s, s[1] * 2)\n"
PROGRAM += "def intrinsic_reward(updated_s):\n    return updated_s[2]\n"


def test_lesrs_wrapper_pays_for_the_state_before_the_step(tmp_path):
    (tmp_path / "transform.py").write_text(PROGRAM)
    config = lesr_wrapper.Config(
        str(tmp_path / "transform.py"), 0.5, "augmented", "add", "state", "episode", False, ()
    )  # fmt: skip
    env = lesr_wrapper.LESRWrapper(Arm(4), config, "train", gamma=1.0)
    training = trained([env], Reused(1), env_steps=3)
    steps = training.replay_buffer.steps
    assert [s.obs[0].tolist() for s in steps] == [[4, t, 2 * t] for t in (0, 1, 2)]
    assert [s.reward[0] for s in steps] == [1 + 0, 2 + 1, 3 + 2]  # r + w G(s), G(s) = 2 t
    env.close()


@pytest.mark.parametrize(
    ("suite", "overrides", "told"),
    [
        (classic, CART_POLE, "changes the observation that it returned in place. llmrl copies both"),
        (mujoco, [*TINY["td3"], *SHORT, "env=mujoco/hopper", "budget.env_steps=60"],
         "changes the observation that it returned and the action that it is given in place. llmrl copies both"),
    ],
)  # fmt: skip
def test_check_names_what_an_environment_changes_and_passes(llmrl, monkeypatch, suite, overrides, told):
    monkeypatch.setattr(suite, "make", halving(suite.make, False))
    done = llmrl("check", *overrides)
    assert done.code == 0, done.err
    assert f"arrays: the environment {told}" in done.out


def test_check_says_that_arrays_stay_as_they_are(llmrl):
    assert "arrays: the environment leaves the observations that it returned" in llmrl("check", *CART_POLE).out
