"""`llmrl probe method=kalm`: its prompt for further sentences of a goal, which are read back by rule."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrl.checks import ConfigError
from llmrl.config import Config as Run
from llmrl.contracts.probe import Earlier, MakeEnv, Message, Question, Unusable
from llmrl.envs.clevr_robot import language
from llmrl.llm.client import Reply
from llmrl.llm.tries import why
from llmrl.methods.kalm.rollouts import Config
from llmrl.methods.kalm.wording import TRIES

SENTENCES = 5  # asked for where the run asks for none


def questions(run: Run, make_env: MakeEnv) -> list[Question]:
    """The call for sentences, with another goal each time."""
    own = run.method if isinstance(run.method, Config) else getattr(run.method, "rollouts", None)
    if not isinstance(own, Config):
        raise ConfigError("KALM's sentences are written for imagined rollouts: llmrl probe method=kalm/rollouts")
    tier = own.tier
    n, goals = own.written or SENTENCES, np.unique(language.worded(tier).goals, axis=0)
    goals = goals[np.random.default_rng(0).permutation(len(goals))]

    def messages(number: int, earlier: Earlier) -> list[Message]:
        return language.prompt("rephrase" if tier == "base" else tier, goals[number % len(goals)], n)

    def check(number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        if fault:
            raise Unusable(fault, why(fault, reply))
        lines = [line for line in reply.text.splitlines() if line.strip()]
        found = language.read(reply.text, goals[number % len(goals)])[:n]
        if not found:
            raise Unusable("no_sentence", f"none of {len(lines)} lines says what the goal is")
        return {"right": len(found), "share_of_lines": round(len(found) / len(lines), 6)}

    needed = len(goals) if own.written else 0
    return [Question(language.PURPOSE, messages, check, needed=needed, limit=needed * TRIES)]
