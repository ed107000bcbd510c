"""`llmrl probe method=explorllm`: the prompts for its programs, on tables of the simulator, and those for sentences."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from llmrl.config import Config as Run
from llmrl.contracts.probe import Earlier, MakeEnv, Message, Question, Unusable
from llmrl.envs.pick_place import PickPlace
from llmrl.llm.client import Reply
from llmrl.llm.tries import why
from llmrl.methods.explorllm import language
from llmrl.methods.explorllm.examples import score, sealing, seen_tables
from llmrl.methods.explorllm.program import Programs, Rejected, checked
from llmrl.methods.explorllm.program_policy import check_task
from llmrl.methods.explorllm.programs import PURPOSES, canonical
from llmrl.methods.explorllm.prompts import Asker
from llmrl.methods.explorllm.words import PURPOSES as SENTENCES
from llmrl.methods.explorllm.words import READ
from llmrl.runs import seeding


def questions(run: Run, make_env: MakeEnv) -> list[Question]:
    """The calls for a planner, an affordance map and a place map; and for a sentence that method=explorllm/words asks
    about, which is no part of the run."""
    own = getattr(run.method, "programs", run.method)
    check_task(run.env)
    env = canonical(run.env)
    asker = Asker(env, images=own.images, seed=own.seed)
    seen, crops = seen_tables(env, own.tables, own.seed), sealing(env, own.crops, own.seed)
    messages = {"planner": asker.planner(), "affordance": asker.affordance(), "place_map": asker.place_map()}

    def check(function: str, number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        try:
            if fault:
                raise Rejected(fault, why(fault, reply))
            code = checked(reply.text, function, seen)
        except Rejected as error:
            raise Unusable(error.name, error.detail) from None
        if function != "affordance":
            return {}
        with Programs(None, code, None) as programs:
            return {"score": score(programs, *crops)["stochastic"]}

    def ask(function: str, needed: int, limit: int | None) -> Question:
        asked = messages[function]
        return Question(PURPOSES[function], lambda number, earlier: asked, partial(check, function), needed, limit)

    programs = [ask("planner", 1, own.max_tries), ask("affordance", own.n, None), ask("place_map", 1, own.max_tries)]
    return [*programs, _sentences(env)]


def _sentences(env: Any) -> Question:
    """One sentence for each table: its goal or, on the long horizon, the plan."""
    task = {"short": "goal", "long": "plan"}[env.horizon]
    table = PickPlace(env)

    def scene(number: int) -> Any:
        table.reset(seed=seeding.integer(0, "sentences", number))
        return table.scene

    def messages(number: int, earlier: Earlier) -> list[Message]:
        of = scene(number)
        sentence = language.sentence_for(of, number) if task == "goal" else language.EVERYTHING
        return language.question(task, of, sentence)

    def check(number: int, reply: Reply, fault: str) -> Mapping[str, Any]:
        if fault:
            raise Unusable(fault, why(fault, reply))
        try:
            found = READ[task](reply.text)
        except language.Unreadable as error:
            raise Unusable(error.name, str(error)) from None
        meant = scene(number).goal if task == "goal" else [(slot, slot) for slot in range(3)]
        right = found == meant if task == "goal" else sorted(found) == meant
        return {"right": right}

    return Question(SENTENCES[task], messages, check, needed=0, schema=language.FORMS[task])
