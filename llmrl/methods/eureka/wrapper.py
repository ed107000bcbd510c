"""The reward that an agent learns from: a program with named components, the task's own reward, or the sparse one.

What a policy is judged by is none of these: the task's success where its environment tells of one (Gymnasium-Robotics),
else how far it gets forward (MuJoCo's locomotion), which every evaluation has beside the return.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, PathText
from llmrl.contracts.env import Role, Wrapper
from llmrl.llm.sandbox import Sandbox, SandboxFailure
from llmrl.methods.eureka.measure import PROGRESS, SUCCESS
from llmrl.methods.eureka.program import ENTRY, FUNCTION, harness, names_of
from llmrl.methods.search.purity import Asked

PROGRAM = "reward.py"  # in the directory of an artifact, and of a run that trained with one


@dataclass(frozen=True)
class Config:
    """conf/wrapper/eureka.yaml"""

    program: PathText | None = field(metadata={"identity": "content", "key": "wrapper.program", "file": PROGRAM})
    reward: Literal["program", "human", "sparse"]

    def __post_init__(self) -> None:
        if (self.program is None) == (self.reward == "program"):
            raise ValueError("program: a file with compute_reward for reward=program, else null")


class EurekaWrapper(Wrapper):
    """In training the reward is the chosen one; info["reward_env"] is the environment's own. In evaluation nothing of
    the program runs: only progress is measured.

    Raises ConfigError where the program cannot be used or the task has neither success nor progress, SandboxFailure
    where the program fails on a step or is found impure (search/purity.py).
    """

    def __init__(self, env: gym.Env, config: Config, role: Role, *, gamma: float) -> None:
        super().__init__(env, config, role, gamma=gamma)
        self._config, self._training = config, role == "train"
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ConfigError(f"wrapper=eureka: works on a state vector, but this environment observes {space}")
        state, _ = env.reset(seed=0)
        env.action_space.seed(0)
        action = env.action_space.sample()
        info = env.step(action)[-1]
        if SUCCESS not in info and "x_velocity" not in info:
            raise ConfigError(
                "wrapper=eureka: this environment tells neither of success nor of a velocity forward (x_velocity), so "
                "there is nothing to judge a reward by"
            )
        self._goals = SUCCESS in info
        self.measure = SUCCESS if self._goals else PROGRESS  # what policies are judged by
        body: Any = env.unwrapped
        self._dt = 1.0 if self._goals else float(body.dt)  # seconds of an env_step
        self._sandbox: Sandbox | None = None
        if self._training and config.program is not None:
            self._start(Path(config.program), np.asarray(state, np.float64), np.asarray(action, np.float64))
        self._state: NDArray = np.empty(0)
        self._window: Counter[str] = Counter()  # sums since the metrics were read last
        self._not_finite = 0

    def _start(self, source: Path, state: NDArray, action: NDArray) -> None:
        file = source / PROGRAM if source.is_dir() else source
        try:
            code = file.read_text(encoding="utf-8")
            self._sandbox = Sandbox(code, (FUNCTION,), harness(code, ENTRY))
            self._names = names_of(self._sandbox, state, action, state)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise ConfigError(f"wrapper.program: {file} cannot be read ({why})") from error
        except SandboxFailure as failure:
            raise ConfigError(f"wrapper.program: {file}: {failure.name}: {failure.detail}") from failure
        self._program = Asked(self._sandbox)

    def reset(self, **kwargs: Any) -> tuple[NDArray, dict]:
        self._state, info = self.env.reset(**kwargs)
        return self._state, info

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict]:
        before = self._state
        self._state, reward, terminated, truncated, info = self.env.step(action)
        human = float(info.get("reward_env", reward))
        sparse = float(info[SUCCESS]) if self._goals else float(info["x_velocity"])
        if not self._training:
            measures = {} if self._goals else {PROGRESS: sparse * self._dt}
            return self._state, human, terminated, truncated, info | {"reward_env": human, "measures": measures}
        learned = {"human": float(reward), "sparse": sparse}.get(self._config.reward)
        if learned is None:
            learned = self._generated(before, action, self._state)
        self._window.update({"reward_learned": learned, "reward_human": human, "reward_sparse": sparse, "env_steps": 1})
        return self._state, learned, terminated, truncated, info | {"reward_env": human}

    def _generated(self, *step: NDArray) -> float:
        """R(s, a, s') of the program; 0 where it is no finite number."""
        reward, components = self._program.step(*(np.asarray(part, np.float64) for part in step))
        named = zip(self._names, np.nan_to_num(components, posinf=0, neginf=0).tolist())
        self._window.update({f"component/{name}": value for name, value in named})
        if not np.isfinite(reward):
            self._not_finite += 1
            return 0.0
        return float(reward)

    def metrics(self) -> dict[str, float]:
        """Means per env_step since the last call: of each component, and of the three rewards."""
        window, self._window = self._window, Counter()
        n = window.pop("env_steps", 0)
        return {name: value / n for name, value in sorted(window.items())} if n else {}

    def facts(self) -> dict[str, Any]:
        if self._sandbox is None:
            return {"reward": self._config.reward}
        self._program.look()
        layers = list(self._sandbox.layers)
        return {"reward": "program", "components": self._names, "not_finite": self._not_finite, "sandbox": layers}

    def state_dict(self) -> dict[str, Any]:
        program = self._program.state_dict() if self._sandbox is not None else None
        return {"window": dict(self._window), "not_finite": self._not_finite, "program": program}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._window, self._not_finite = Counter(state["window"]), state["not_finite"]
        if self._sandbox is not None:
            self._program.load_state_dict(state["program"])

    def close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
        super().close()


WRAPPER = EurekaWrapper
