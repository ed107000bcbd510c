"""ExploRLLM by words: an LLM reads a user's sentence, and a trained agent of the short horizon carries it out.

Evaluation only (Ma et al. 2025, arXiv 2403.09583; docs/papers/explorllm.md).

goal: one sentence, one object, one bowl; tested with many wordings. plan: the Socratic planner; the LLM splits "put all
letters …" into steps, each of which the agent is given as its goal until it seems done, or its limit is reached.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, PathText, Positive
from llmrl.contracts.method import Method, Reads
from llmrl.envs.pick_place.scene import FRAME
from llmrl.llm.tries import REPEATED, Tries, why
from llmrl.methods.explorllm import language
from llmrl.methods.explorllm.language import EVERYTHING, Goal, Unreadable
from llmrl.methods.explorllm.program_policy import table_of
from llmrl.runs.evaluate import cases, evaluate

if TYPE_CHECKING:
    from llmrl.context import RunContext

PURPOSES = {"goal": "explorllm.goal", "plan": "explorllm.plan"}
READ: dict[str, Callable[[str], Any]] = {"goal": language.read_goal, "plan": language.read_plan}
FALLBACK: Goal = (0, 0)


@dataclass(frozen=True)
class Config:
    """conf/method/explorllm/words.yaml"""

    run: PathText = field(metadata={"identity": "content", "key": "method.run", "file": "agent.pt"})
    task: Literal["goal", "plan"]
    max_tries: Count
    step_limit: Count
    near_px: Positive


class ExploRLLMWords(Method[Config]):
    suites = ("pick_place",)
    trains = False

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return ("llm",)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, settings = ctx.cfg.method, ctx.cfg.env
        horizon = {"goal": "short", "plan": "long"}[own.task]
        if getattr(settings, "suite", None) != "pick_place" or settings.horizon != horizon:
            raise ConfigError(f"method.task={own.task} needs env=pick_place/{horizon}_horizon")
        reader = Reader(ctx.llm, own)
        env = {"goal": Instructed, "plan": Planned}[own.task](ctx.env("eval"), reader, own)
        agent, clock = ctx.trained(Path(own.run), env)
        act = ctx.policy(agent, env)
        evaluation_set = cases(ctx.cfg.eval.seed, "eval", ctx.cfg.eval.episodes)
        scores = evaluate(act, env, evaluation_set, ctx.cfg.eval.max_steps, ctx.stop)
        ctx.log.evaluation({**asdict(clock), "policy": "greedy", **scores.row()})
        unreadable = dict(sorted(reader.unreadable.items()))
        summary = {"run": own.run, "sentences": reader.asked, "right": reader.right, "unreadable": unreadable}
        return {"env_steps": 0, "updates": 0, "episodes": 0, "words": summary}


METHOD = ExploRLLMWords


class Reader:
    """Asks the LLM what a sentence means, and counts right and unreadable answers."""

    def __init__(self, llm: Any, config: Config) -> None:
        self._llm, self._task, self._tries = llm, config.task, config.max_tries
        self.asked = self.right = 0
        self.unreadable: Counter[str] = Counter()  # answers by what was wrong with them

    def read(self, scene: Any, sentence: str, meant: Any) -> Any:
        """The goal or the plan of a sentence; FALLBACK where no answer can be read. `meant`: the true one, to count."""
        purpose, number = PURPOSES[self._task], self.asked
        self.asked += 1
        messages = language.question(self._task, scene, sentence)
        tries = Tries()
        for attempt in range(self._tries):
            index = f"{number}/{attempt}"
            reply = self._llm.ask(messages, purpose=purpose, index=index, schema=language.FORMS[self._task])
            try:
                if fault := tries.fault(messages, reply):
                    raise Unreadable(fault, why(fault, reply))
                found = READ[self._task](reply.text)
            except Unreadable as error:
                self.unreadable[error.name] += 1
                self._llm.event(purpose, index, "rejected", reason=error.name, detail=str(error)[:300])
                if error.name == REPEATED:
                    break
                continue
            right = found == meant if self._task == "goal" else sorted(found) == sorted(meant)
            self.right += right
            self._llm.event(purpose, index, "accepted", found=found, right=right)
            return found
        return FALLBACK if self._task == "goal" else [FALLBACK]


class Instructed(gym.Wrapper):
    """The agent observes the goal that the LLM read in a sentence; reward and success are the true goal's."""

    def __init__(self, env: gym.Env, reader: Reader, config: Config) -> None:
        super().__init__(env)
        self._reader = reader

    def reset(self, **kwargs: Any) -> tuple[dict[str, NDArray], dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        scene = table_of(self.env).scene
        sentence = language.sentence_for(scene, self._reader.asked)
        self._goal = np.array(self._reader.read(scene, sentence, scene.goal), np.float32)
        return obs | {"goal": self._goal}, info | {"sentence": sentence}

    def step(self, action: NDArray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs | {"goal": self._goal}, reward, terminated, truncated, info


class Planned(gym.Wrapper):
    """The long horizon for an agent of the short one: its goal is the plan's current step."""

    def __init__(self, env: gym.Env, reader: Reader, config: Config) -> None:
        super().__init__(env)
        self._reader, self._limit, self._near = reader, config.step_limit, config.near_px
        goal = gym.spaces.Box(0, 2, (2,), np.float32)
        assert isinstance(env.observation_space, gym.spaces.Dict)
        self.observation_space = gym.spaces.Dict({**env.observation_space, "goal": goal})

    def reset(self, **kwargs: Any) -> tuple[dict[str, NDArray], dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        scene = table_of(self.env).scene
        self._plan = self._reader.read(scene, EVERYTHING, [(slot, slot) for slot in range(3)])
        self._at = self._env_steps = 0
        return self._seen(obs), info | {"sentence": EVERYTHING}

    def step(self, action: NDArray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._env_steps += 1
        if (self._done(obs) or self._env_steps == self._limit) and self._at + 1 < len(self._plan):
            self._at, self._env_steps = self._at + 1, 0
        return self._seen(obs), reward, terminated, truncated, info

    def _seen(self, obs: dict[str, NDArray]) -> dict[str, NDArray]:
        return obs | {"goal": np.array(self._plan[self._at], np.float32)}

    def _done(self, obs: dict[str, NDArray]) -> bool:
        """Whether the step's object is detected at its bowl, and the hand is empty."""
        item, bowl = self._plan[self._at]
        apart = FRAME * np.linalg.norm(obs["position"][item] - obs["position"][3 + bowl])
        return bool(apart < self._near and obs["in_hand"][0] == 0)
