"""`llmrl probe method=llm_explorer`: its calls, on episodes of a random policy."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.config import Config as Run
from llmrl.contracts.probe import Earlier, MakeEnv, Message, Question, Unusable
from llmrl.llm.client import Reply
from llmrl.llm.parse import ParseError, Reason, parse_biases, parse_probabilities
from llmrl.llm.tries import why
from llmrl.methods.llm_explorer.method import WITHOUT_LLM, asker_of, read_text, sample_actions
from llmrl.runs import seeding
from llmrl.runs.evaluate import uniform_policy

MOST_STEPS = 5000  # of an episode that is played here


def questions(run: Run, make_env: MakeEnv) -> list[Question]:
    """The description of an episode and the strategy that follows from it; or the one call that the configuration has
    in their place."""
    own = run.method
    if own.answer in WITHOUT_LLM:
        raise ConfigError(f"method.answer={own.answer} asks no LLM, so there is nothing to probe")
    env = make_env(run, "train")
    asker = asker_of(own, run.env.task, env.action_space)

    @cache
    def episode(number: int) -> tuple[NDArray, float]:
        return _random_episode(env, seeding.integer(run.seed, "probe", number))

    def situation(number: int) -> str:
        actions, episode_return = episode(number)
        sampled = sample_actions(actions, own.m, own.sampler, seeding.generator(run.seed, "probe", number))
        return asker.situation(sampled, episode_return)

    def strategy(number: int, earlier: Earlier) -> list[Message] | None:
        described = earlier.get("llm_explorer.status", ())
        return asker.strategy(asker.described(described[number % len(described)])) if described else None

    def numbers(number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        parse = parse_probabilities if asker.discrete else parse_biases
        found = _read(lambda text: parse(text, asker.n, own.parser), reply, fault)
        return {"probabilities" if asker.discrete else "biases": found.round(6).tolist()}

    def text(number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        return {"characters": len(_read(read_text, reply, fault))}

    form = asker.form if own.parser == "json" else None
    if own.answer == "constant":
        return [
            Question("llm_explorer.constant", lambda n, _: asker.strategy(None), numbers, 1, own.max_tries, schema=form)
        ]
    length = len(episode(0)[0])
    needed, supposed = run.budget.length / length / own.k, f"episodes of {length:,} env_steps, as a random policy's"

    def ask(name: str, messages: Any, check: Any, schema: Any = None) -> Question:
        limit = needed * own.max_tries
        return Question(f"llm_explorer.{name}", messages, check, needed, limit, schema=schema, assumes=supposed)

    if own.calls == 1:
        return [ask("strategy_directly", lambda n, _: asker.strategy(situation(n)), numbers, form)]
    return [
        ask("status", lambda n, _: asker.status(situation(n)), text),
        ask("strategy", strategy, numbers, form),
    ]


def _read(read: Any, reply: Reply, fault: str) -> Any:
    try:
        if fault:
            raise ParseError(cast(Reason, fault), why(fault, reply))
        return read(reply.text)
    except ParseError as error:
        raise Unusable(error.reason, str(error)) from None


def _random_episode(env: gym.Env, seed: int) -> tuple[NDArray, float]:
    """The actions of an episode, and its return."""
    act, rng = uniform_policy(env.action_space), seeding.generator(seed, "actions")
    obs, _ = env.reset(seed=seed)
    actions: list[NDArray] = []
    total, over = 0.0, False
    while not over and len(actions) < MOST_STEPS:
        action = act(None, rng)[0]
        obs, reward, terminated, truncated, _ = env.step(action)
        actions.append(np.asarray(action))
        total, over = total + float(reward), terminated or truncated
    return np.array(actions), total
