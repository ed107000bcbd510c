"""`llmrl probe method=eureka`: the first prompt of a search, on real steps."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llmrl.config import Config as Run
from llmrl.contracts.probe import MakeEnv, Question, Unusable
from llmrl.llm.client import Reply
from llmrl.llm.program_text import Rejected
from llmrl.methods.eureka import prompts
from llmrl.methods.eureka.checker import Checker
from llmrl.methods.eureka.method import search_of
from llmrl.methods.eureka.search import SAMPLE, context_of
from llmrl.methods.search.steps import real_steps
from llmrl.methods.search.task import check_sheet, check_task


def questions(run: Run, make_env: MakeEnv) -> list[Question]:
    """The call for a reward. A rejected answer is not asked for again."""
    search = run if run.choices["method"] == "eureka/search" else search_of(run)
    own = search.method
    check_task(search, "eureka")
    env = make_env(search, "eval")
    steps = real_steps(env, own.states, own.seed)
    messages = prompts.first(search.env.task, context_of(search, env))
    env.close()
    check_sheet(search.env.task, steps.states.shape[1])
    checker = Checker(steps)

    def check(number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        try:
            return asdict(checker.check(reply, fault))
        except Rejected as error:
            raise Unusable(error.name, error.detail) from None

    calls = own.k * own.iterations * own.restarts
    return [Question(SAMPLE, lambda number, earlier: messages, check, needed=calls, accepted=checker.accept)]
