"""The evaluations of one run: they leave no trace in training, and their rows go to eval.jsonl."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from llmrl.build import evaluated, evaluation_worker, greedy, make_env
from llmrl.config import Config, module_of
from llmrl.contracts.agent import Agent
from llmrl.contracts.explorer import Clock
from llmrl.envs.history import History
from llmrl.loops.evaluation_pool import EvaluationPool
from llmrl.runs.evaluate import Case, Scores, cases, evaluate, evaluate_together, uniform_policy
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop

Report = Callable[[Clock, dict], None]  # where training stands, and facts worth showing a person


class Evaluation:
    """Plays the cases of eval.seed, and now and then those of the evaluation `sets`, on an environment of its own."""

    def __init__(self, config: Config, sets: Mapping[str, list[Case]], stop: Stop, log: RunLog, report: Report) -> None:
        self.env = make_env(config, "eval")
        self._config, self._sets = config, sets
        self._stop, self._log, self._report = stop, log, report

    @cached_property
    def _pool(self) -> EvaluationPool:
        return EvaluationPool(partial(evaluation_worker, self._config), self._config.eval.workers)

    def close_pool(self) -> None:
        """Ends its processes, if there are any."""
        if (pool := self.__dict__.pop("_pool", None)) is not None:
            pool.close()

    def evaluate(self, agent: Agent, clock: Clock, *, end: bool) -> None:
        """Writes a row of the agent's returns, and before training one of the random policy's on the same cases; where
        it is the last evaluation (`end`), or all want them, also a row for each of eval.sets. An agent whose policy is
        stochastic may have a second row of each, with its actions sampled (agent.evaluate=both)."""
        cfg = self._config.eval
        start = time.perf_counter()
        own = cases(cfg.seed, "eval", cfg.episodes)
        own_scores = self._play(agent, own)
        rows = [{"policy": "greedy", **own_scores.row()}]
        if clock.env_steps == clock.updates == 0:
            random = evaluate(uniform_policy(self.env.action_space), self.env, own, cfg.max_steps, self._stop)
            rows.insert(0, {"policy": "random", **random.row()})
        both = getattr(self._config.agent, "evaluate", None) == "both"
        if both:
            rows.append({"policy": "sampled", **self._play(agent, own, sample=True).row()})
        if end or cfg.sets_at == "every":
            for name, evaluation_set in self._sets.items():
                for policy, sample in [("greedy", False), ("sampled", True)][: 1 + both]:
                    scores = self._play(agent, evaluation_set, sample=sample)
                    rows.append({"policy": f"{policy} on {name}", **scores.row()})
        for row in rows:
            self._log.evaluation({"env_steps": clock.env_steps, "updates": clock.updates, **row})
        took = {"seconds": time.perf_counter() - start, "eval_env_steps": sum(sum(row["lengths"]) for row in rows)}
        self._log.timing({"event": "evaluation", "env_steps": clock.env_steps, **took})
        self._report(clock, {"eval": float(np.mean(own_scores.returns))})

    def _play(self, agent: Agent, evaluation_set: list[Case], *, sample: bool = False) -> Scores:
        cfg, most = self._config, self._config.eval.max_steps
        if (together := self._side_by_side()) is not None:
            episodes, context = together(cfg.env, cfg.eval.workers), getattr(cfg.agent, "context", None)
            history = None if context is None else partial(History, context=context)
            return evaluate_together(greedy(agent, sample=sample), episodes, evaluation_set, most, self._stop, history)
        if cfg.eval.workers > 1:
            return self._pool.evaluate(agent, evaluation_set, self._stop, sample=sample)
        return evaluate(evaluated(agent, cfg, self.env, sample=sample), self.env, evaluation_set, most, self._stop)

    def _side_by_side(self) -> Any | None:
        """The suite's class for episodes in lockstep, where it has one. It knows no wrapper and no random actions."""
        if self._config.eval.epsilon != 0 or self._config.wrapper is not None:
            return None
        return getattr(module_of("env", self._config.env.suite), "SideBySide", None)
