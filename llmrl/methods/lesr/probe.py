"""`llmrl probe method=lesr`: the first prompt of a search, on real states."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llmrl.config import Config as Run
from llmrl.contracts.probe import MakeEnv, Question, Unusable
from llmrl.llm.client import Reply
from llmrl.llm.program_text import Rejected
from llmrl.methods.lesr import prompts
from llmrl.methods.lesr.checker import Checker
from llmrl.methods.lesr.method import search_of
from llmrl.methods.lesr.search import SAMPLE
from llmrl.methods.search.steps import real_steps
from llmrl.methods.search.task import check_sheet, check_task


def questions(run: Run, make_env: MakeEnv) -> list[Question]:
    """The call for a program. The feedback on trained programs needs trainings."""
    search = run if run.choices["method"] == "lesr/search" else search_of(run)
    own = search.method
    check_task(search, "lesr")
    env = make_env(search, "eval")
    steps = real_steps(env, own.states, own.seed)
    env.close()
    check_sheet(search.env.task, steps.states.shape[1])
    checker = Checker(own, steps.states, steps.rewards)
    messages = prompts.Asker(search.env.task, search.env.suite, own).ask([])

    def check(number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        try:
            return asdict(checker.check(reply, fault))
        except Rejected as error:
            raise Unusable(error.name, error.detail) from None

    analyses = own.iterations - 1 if own.feedback and own.chain_of_thought else 0
    return [
        Question(
            SAMPLE, lambda number, earlier: messages, check, needed=own.k * own.iterations,
            limit=own.max_tries * own.iterations, beside=analyses, accepted=checker.accept,
        )
    ]  # fmt: skip
