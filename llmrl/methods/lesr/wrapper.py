"""LESR's function pair around an environment: F appends features to the state, G pays an intrinsic reward.

The pair is a program, `revise_state(s)` and `intrinsic_reward(updated_s)`, which a language model or a person wrote. It
runs in the sandbox, with one call per new state: (F(s), G(F(s))) is kept until the step that leaves s is paid.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, NonNegative, NonNegativeInt, PathText
from llmrl.contracts.env import Role, Wrapper
from llmrl.llm.sandbox import Sandbox, SandboxFailure
from llmrl.methods.lesr.lipschitz import Recorder
from llmrl.methods.lesr.program import ENTRY, defined
from llmrl.methods.search.purity import Asked

PROGRAM = "transform.py"  # the function pair in the directory of an artifact, and of a run that trained with one


@dataclass(frozen=True)
class Config:
    """conf/wrapper/lesr.yaml"""

    artifact: PathText = field(metadata={"identity": "content", "key": "wrapper.artifact", "file": PROGRAM})
    w: NonNegative
    state: Literal["augmented", "source"]
    reward: Literal["add", "replace"]
    form: Literal["state", "next_state", "potential"]
    record: Literal["episode", "cumulative", "discounted_return"] | None
    scaled: bool
    drop: tuple[NonNegativeInt, ...]


class LESRWrapper(Wrapper):
    """The state s becomes (s, F(s)); in training the reward r becomes r + w G, and constants are recorded.

    What is the task's own reward stands in info["reward_env"], w G in info["reward_intrinsic"]. Values of a program
    that are not finite count as 0; `facts` says how many there were. Raises ConfigError where the program cannot be
    used, SandboxFailure where it fails on a state or is found impure (purity.py).
    """

    def __init__(self, env: gym.Env, config: Config, role: Role, *, gamma: float) -> None:
        super().__init__(env, config, role, gamma=gamma)
        self._config, self._gamma = config, gamma
        self._training = role == "train"
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ConfigError(f"wrapper=lesr: works on a state vector, but this environment observes {space}")
        source = Path(config.artifact)
        file = source / PROGRAM if source.is_dir() else source
        try:
            code = file.read_text(encoding="utf-8")
            self._sandbox = Sandbox(code, defined(code), ENTRY)
            self._program = Asked(self._sandbox)
            features, _ = self._program.step(np.asarray(env.reset(seed=0)[0], np.float64))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"wrapper.artifact: {file} cannot be read ({why})") from error
        except SandboxFailure as failure:
            raise ConfigError(f"wrapper.artifact: {file}: {failure.name}: {failure.detail}") from failure
        self._n_features = features.size
        d = space.shape[0]
        if beyond := [i for i in config.drop if i >= d]:
            raise ConfigError(f"wrapper.drop: unknown dimension {beyond[0]}; the state has {d}: 0 to {d - 1}")
        seen = range(d + features.size if config.state == "augmented" else d)
        self._kept = np.array([i for i in seen if i not in config.drop])
        low = np.concatenate([space.low, np.full(features.size, -np.inf)])[self._kept].astype(space.dtype)
        high = np.concatenate([space.high, np.full(features.size, np.inf)])[self._kept].astype(space.dtype)
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype)
        self._state: NDArray = np.empty(0)  # (s, F(s)), whatever of it the agent sees
        self._g = 0.0  # G(F(s))
        self._sums = np.zeros(4)  # of ended episodes: env_steps, |r|, |w G|, values that were not finite
        self._episode = np.zeros(4)
        self.recorder = _recorder(config, gamma) if self._training else None

    def reset(self, **kwargs: Any) -> tuple[NDArray, dict]:
        obs, info = self.env.reset(**kwargs)
        self._episode[:] = 0
        self._see(obs)
        return self._state[self._kept], info

    def step(self, action: NDArray) -> tuple[NDArray, SupportsFloat, bool, bool, dict]:
        state, g = self._state, self._g
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._see(obs)
        if not self._training:
            return self._state[self._kept], reward, terminated, truncated, info
        # r + w G(F(s)) (the paper, with s before the step), or one of the two other forms
        paid = {"state": g, "next_state": self._g, "potential": self._gamma * self._g * (not terminated) - g}
        bonus = self._config.w * paid[self._config.form]
        own = float(info.get("reward_env", reward))
        self._episode[:3] += 1, abs(own), abs(bonus)
        if self.recorder is not None:
            self.recorder.add(state, own)
        if terminated or truncated:
            self._sums += self._episode
            self._episode[:] = 0
            if self.recorder is not None:
                self.recorder.end_episode()
        learned = bonus if self._config.reward == "replace" else float(reward) + bonus
        return self._state[self._kept], learned, terminated, truncated, info | {
            "reward_env": own, "reward_intrinsic": bonus}  # fmt: skip

    def _see(self, obs: NDArray) -> None:
        features, g = self._program.step(np.asarray(obs, np.float64))
        if features.size != self._n_features:
            raise SandboxFailure(
                "wrong_length", f"{features.size} features for this state, {self._n_features} for the first one"
            )
        with np.errstate(over="ignore"):  # what is too large for the state's type is not finite there
            features, self._g = features.astype(obs.dtype), float(g)
        if not (np.isfinite(features).all() and np.isfinite(self._g)):
            self._episode[3] += np.sum(~np.isfinite(features)) + (not np.isfinite(self._g))
            features = np.nan_to_num(features, posinf=0, neginf=0)
            self._g = self._g if np.isfinite(self._g) else 0.0
        self._state = np.concatenate([obs, features])

    def facts(self) -> dict[str, Any]:
        """For the run's result: sizes of both rewards per env_step, values that were not finite, the constants, and
        which layers of the sandbox were on. Raises SandboxFailure where the program is found impure at the end."""
        self._program.look()
        env_steps, own, bonus, not_finite = self._sums
        facts: dict[str, Any] = {"features": self._n_features, "not_finite": int(not_finite)}
        facts["sandbox"] = list(self._sandbox.layers)
        if env_steps:
            facts |= {"mean_abs_reward": own / env_steps, "mean_abs_intrinsic": bonus / env_steps}
        if self.recorder is not None:
            facts["lipschitz"] = self.recorder.value().tolist()
        return facts

    def state_dict(self) -> dict:
        """What ended episodes left, and what the program was asked. The episode under way is not in it: a resume plays
        it again."""
        recorder = self.recorder.state_dict() if self.recorder is not None else None
        return {"sums": self._sums.copy(), "recorder": recorder, "program": self._program.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self._sums[:] = state["sums"]
        self._program.load_state_dict(state["program"])
        if self.recorder is not None:
            self.recorder.load_state_dict(state["recorder"])

    def close(self) -> None:
        self._sandbox.close()
        super().close()


WRAPPER = LESRWrapper


def _recorder(config: Config, gamma: float) -> Recorder | None:
    if config.record is None:
        return None
    if config.record == "discounted_return":
        return Recorder("episode", config.scaled, "discounted_return", gamma)
    return Recorder(config.record, config.scaled, "reward", gamma)
