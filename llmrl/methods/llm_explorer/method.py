"""LLM-Explorer (Hao et al. 2025, arXiv 2505.15293): between episodes an LLM shapes the exploration.

Every K episodes two chained calls turn (task text, return of the last episode, M of its actions) into
- discrete actions: a distribution p(a) that replaces the uniform one of epsilon-greedy;
- continuous actions: a bias b of the Gaussian noise, N(b, sigma²) in place of N(0, sigma²).
Nothing else of the agent changes. docs/papers/llm_explorer.md compares with the paper and the authors' code.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, Positive, Probability, Whole
from llmrl.contracts.explorer import Clock, EpisodeSummary, Explorer, Policy
from llmrl.contracts.method import Method, Reads
from llmrl.llm.client import LLM
from llmrl.llm.job import Job
from llmrl.llm.parse import ParseError, Parser, Reason, parse_biases, parse_probabilities
from llmrl.llm.tries import REPEATED, Tries, why
from llmrl.methods.llm_explorer.prompts import Asker, task_text
from llmrl.runs import seeding

if TYPE_CHECKING:
    from llmrl.context import RunContext
    from llmrl.contracts.env import Task

Sampler = Literal["random", "linspace", "authors_stride"]
Answer = Literal["llm", "uniform", "constant", "shuffled", "last_frequencies"]
WITHOUT_LLM = ("uniform", "last_frequencies")  # controls that need neither an LLM nor its key


@dataclass(frozen=True)
class Config:
    """conf/method/llm_explorer.yaml"""

    k: Count
    m: Count
    calls: Annotated[Literal[1, 2], Whole]
    prompt: Literal["full", "name"]
    tell: Literal["authors", "reward"]
    analysis: bool
    sampler: Sampler
    parser: Parser
    floor: Probability
    bias_limit: Positive | None
    max_tries: Count
    on_failure: Literal["uniform", "keep_last"]
    answer: Answer = field(metadata={"neutral": "llm"})  # runs from before this key keep their ids
    asynchronous: bool = field(metadata={"neutral": False})

    def __post_init__(self) -> None:
        if self.asynchronous and self.answer in WITHOUT_LLM:
            raise ValueError(f"asynchronous: method.answer={self.answer} makes no LLM call to wait for; use false")


class LLMExplorerMethod(Method[Config]):
    """Plain training, with the agent's own explorer wrapped."""

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        """What of the configuration matters beside method, agent and env."""
        return () if config.answer in WITHOUT_LLM else ("llm", "env.task")

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        """Trains and returns the result. Raises ConfigError where agent or task text does not fit the method."""
        agent = ctx.agent()
        config = ctx.cfg.method
        llm = ctx.llm if self.reads(config) else None
        explorer = LLMExplorer(agent.explorer(), llm, config, ctx.cfg.env.task, agent.action_space, seed=ctx.cfg.seed)
        try:
            result = ctx.train(agent, explorer)
            explorer.on_training_end(result["env_steps"])
        finally:
            if llm is not None:
                llm.close()
        return result | {"llm_explorer": explorer.usage()}


METHOD = LLMExplorerMethod


class LLMExplorer(Explorer):
    """Wraps the agent's explorer, whose `distribution` or `bias` an LLM sets every K episodes."""

    def __init__(
        self, inner: Explorer, llm: LLM | None, config: Config, task: "Task", action_space: gym.Space, *, seed: int
    ) -> None:
        """`llm` may be None for the answers in WITHOUT_LLM."""
        self.inner = inner
        self.vector: NDArray[np.float64] | None = None  # p (n_actions,) or b (action dimensions,); None: plain
        self.pending: tuple[int, EpisodeSummary] | None = None  # ended episodes and the last one, of what is in flight
        self.refreshed_at = 0  # ended episodes at the latest refresh
        self.refreshes = 0
        self.failed_refreshes = 0  # refreshes after which no answer could be used
        self.rejected: Counter[str] = Counter()  # answers that could not be used, by reason
        self._config, self._seed = config, seed
        if llm is not None:
            self._llm = llm
        self._job: Job | None = None  # at work on `pending`
        self._discrete = isinstance(action_space, gym.spaces.Discrete)
        self._attribute = "distribution" if self._discrete else "bias"
        if inner.shaped_by != self._attribute:
            kind = "epsilon-greedy (agent=dqn)" if self._discrete else "Gaussian noise (agent=td3, agent=ddpg)"
            raise ConfigError(
                f"method=llm_explorer shapes exploration by {kind}, but this agent explores with "
                f"{type(inner).__name__}, which has no {self._attribute}. Choose such an agent, give agent=rainbow an "
                "agent.epsilon_schedule, or use method=vanilla"
            )
        if not inner.explores:
            raise ConfigError(
                "method=llm_explorer shapes an agent's exploration, but this agent does not explore: set "
                + ("agent.epsilon_end above 0" if self._discrete else "agent.exploration_noise above 0")
            )
        self._asker = asker_of(config, task, action_space)
        self._n = self._asker.n
        if isinstance(action_space, gym.spaces.Box):
            self._half_range = (action_space.high - action_space.low).ravel() / 2

    def on_episode_start(self, clock: Clock, number: int, last: EpisodeSummary | None) -> None:
        """Asks the LLM every K ended episodes. The state changes once all of its answers are there.

        Asynchronous: a refresh only starts here; one that falls due while another is in flight starts after it.
        """
        if self._job is not None:
            self._job.raise_failure()  # not in propose: here the loop saves a checkpoint to resume from
        elif last is not None and self._due(clock.episodes):
            if self._config.asynchronous:
                self._begin(clock.episodes, last)
            else:
                self._apply(clock.episodes, *self._refresh(clock.episodes, last))
        self.inner.on_episode_start(clock, number, last)

    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict], rng: np.random.Generator
    ) -> NDArray:
        if self._job and self.pending and (refresh := self._job.ready(clock.env_steps)) is not None:
            self._apply(self.pending[0], *refresh)
        return self.inner.propose(obs, policy, clock, info, rng)

    def on_training_end(self, env_steps: int) -> None:
        """Drops the refresh in flight, if there is one."""
        if self._job is not None:
            self._job.drop(env_steps)

    def metrics(self) -> dict[str, float]:
        """The inner explorer's, and: refreshes, how many failed, the entropy (nats) of p or the norm of b."""
        counts = {"llm_refreshes": self.refreshes, "llm_failed_refreshes": self.failed_refreshes}
        return self.inner.metrics() | counts | self._shape()

    def usage(self) -> dict[str, Any]:
        """For the run's result: refreshes, failed ones, rejected answers by reason."""
        rejected = dict(sorted(self.rejected.items()))
        return {"refreshes": self.refreshes, "failed_refreshes": self.failed_refreshes, "rejected": rejected}

    def state_dict(self) -> dict:
        return {
            "inner": self.inner.state_dict(), "vector": None if self.vector is None else self.vector.copy(),
            "refreshed_at": self.refreshed_at, "pending": self.pending, **self.usage(),
        }  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        self.inner.load_state_dict(state["inner"])
        self.refreshed_at = state["refreshed_at"]
        self.refreshes, self.failed_refreshes = state["refreshes"], state["failed_refreshes"]
        self.rejected = Counter(state["rejected"])
        self._set(state["vector"])
        if (pending := state.get("pending")) is not None:  # begun again; paid answers are in llm.jsonl
            self._begin(*pending)

    def _due(self, episodes: int) -> bool:
        if self._config.answer == "constant" and self.vector is not None:
            return False  # asked once, and kept
        return episodes // self._config.k > self.refreshed_at // self._config.k

    def _begin(self, episode: int, last: EpisodeSummary) -> None:
        self._job = Job(self._llm, "llm_explorer.refresh", str(episode), partial(self._refresh, episode, last))
        self.pending = episode, last

    def _apply(self, episode: int, vector: NDArray[np.float64] | None, rejected: Counter[str]) -> None:
        if vector is None:
            self.failed_refreshes += 1
        if vector is not None or self._config.on_failure == "uniform":
            self._set(vector)
        self.rejected += rejected
        self.refreshes += 1
        self.refreshed_at = episode
        self.pending = self._job = None

    def _set(self, vector: NDArray[np.float64] | None) -> None:
        self.vector = vector
        setattr(self.inner, self._attribute, vector)

    def _shape(self) -> dict[str, float]:
        if self.vector is None:
            return {"exploration_entropy": float(np.log(self._n))} if self._discrete else {"bias_norm": 0.0}
        if not self._discrete:
            return {"bias_norm": float(np.linalg.norm(self.vector))}
        p = self.vector[self.vector > 0]
        return {"exploration_entropy": float(-(p * np.log(p)).sum())}  # H(p) = -sum p log p

    def _refresh(self, episode: int, last: EpisodeSummary) -> tuple[NDArray[np.float64] | None, Counter[str]]:
        """The new vector, or None where no answer could be used, and the rejected answers by reason."""
        rejected: Counter[str] = Counter()
        if self._config.answer in WITHOUT_LLM:
            return self._without_llm(last), rejected
        if self._config.answer == "constant":  # one call, whose prompt has nothing of the training
            return self._strategy("llm_explorer.constant", episode, None, rejected), rejected
        rng = seeding.generator(self._seed, "llm", episode)
        sampled = sample_actions(last.actions, self._config.m, self._config.sampler, rng)
        situation = self._asker.situation(sampled, last.episode_return)
        if self._config.calls == 1:
            return self._strategy("llm_explorer.strategy_directly", episode, situation, rejected), rejected
        # call 1: d = LLM(task, return, actions)
        description = self._ask("llm_explorer.status", episode, self._asker.status(situation), read_text, rejected)
        if description is None:
            return None, rejected
        # call 2: p or b = LLM(task, d); it sees the episode through call 1 alone
        return self._strategy("llm_explorer.strategy", episode, self._asker.described(description), rejected), rejected

    def _strategy(
        self, purpose: str, episode: int, situation: str | None, rejected: Counter[str]
    ) -> NDArray[np.float64] | None:
        """The call for the numbers."""
        messages = self._asker.strategy(situation)
        return self._ask(purpose, episode, messages, partial(self._read, episode=episode), rejected)

    def _ask(
        self, purpose: str, episode: int, messages: list[dict], read: Callable[[str], Any], rejected: Counter[str]
    ) -> Any:
        """The first answer that `read` accepts, as it reads it; None after `max_tries` answers or a repeated one."""
        numeric = purpose != "llm_explorer.status"
        schema = self._asker.form if numeric and self._config.parser == "json" else None
        tries = Tries()
        for attempt in range(self._config.max_tries):
            index = f"{episode}/{attempt}"
            reply = self._llm.ask(messages, purpose=purpose, index=index, schema=schema)
            try:
                if fault := tries.fault(messages, reply):
                    raise ParseError(cast(Reason, fault), why(fault, reply))
                value = read(reply.text)
            except ParseError as error:
                self._llm.event(purpose, index, "rejected", reason=error.reason, detail=str(error)[:300])
                rejected[error.reason] += 1
                if error.reason == REPEATED:
                    return None
                continue
            self._llm.event(purpose, index, "accepted", **({self._attribute: value.tolist()} if numeric else {}))
            return value
        return None

    def _read(self, answer: str, *, episode: int) -> NDArray[np.float64]:
        parse = parse_probabilities if self._discrete else parse_biases
        vector = parse(answer, self._n, self._config.parser)
        if self._config.answer == "shuffled":  # the same numbers, for other actions
            vector = seeding.generator(self._seed, "llm", "shuffle", episode).permutation(vector)
        return self._bounded(vector)

    def _without_llm(self, last: EpisodeSummary) -> NDArray[np.float64]:
        """The controls without an LLM: plain exploration, or the last episode's action frequencies (mean action)."""
        if self._config.answer == "uniform":
            return np.full(self._n, 1 / self._n) if self._discrete else np.zeros(self._n)
        if self._discrete:
            return self._bounded(np.bincount(last.actions, minlength=self._n) / last.length)
        return self._bounded(last.actions.reshape(last.length, -1).mean(axis=0, dtype=np.float64))

    def _bounded(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._discrete:
            return (1 - self._config.floor) * vector + self._config.floor / self._n  # p' = (1 - f) p + f uniform
        if self._config.bias_limit is None:
            return vector
        limit = self._config.bias_limit * self._half_range
        return np.clip(vector, -limit, limit)


def asker_of(config: Config, task: "Task", action_space: gym.Space) -> Asker:
    """Whoever asks about this task. Raises ConfigError where its text is missing, or describes other actions."""
    discrete = isinstance(action_space, gym.spaces.Discrete)
    assert isinstance(action_space, gym.spaces.Discrete | gym.spaces.Box)  # what agents act in
    n = int(action_space.n) if isinstance(action_space, gym.spaces.Discrete) else action_space.low.size
    with_reward = discrete or config.tell == "reward"  # the authors' texts of continuous tasks do not
    told = "" if config.answer in WITHOUT_LLM else task_text(task, config.prompt, with_reward=with_reward)
    if told and config.prompt == "full" and (described := len(task.actions or ())) != n:
        raise ConfigError(
            f"env.task.actions describes {described} actions of {task.name}, but the environment has {n}: correct the "
            "environment's yaml, or use method.prompt=name"
        )
    return Asker(told, discrete=discrete, n=n, analysis=config.analysis)


def sample_actions(actions: NDArray, m: int, sampler: Sampler, rng: np.random.Generator) -> NDArray:
    """At most m of an episode's actions (length, *action), in the order of time; all of them where it is shorter.

    random: uniformly without replacement, as the paper says. authors_stride: as their code does it, which always
    leaves out the first (length mod m) actions.
    """
    length = len(actions)
    if length <= m:
        return actions
    if sampler == "random":
        return actions[np.sort(rng.choice(length, size=m, replace=False))]
    if sampler == "linspace":
        return actions[np.linspace(0, length - 1, m).round().astype(int)]
    return actions[length % m :: length // m]


def read_text(answer: str) -> str:
    if not answer.strip():
        raise ParseError("empty", "the answer has no text")
    return answer.strip()
