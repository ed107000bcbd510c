"""Further sentences of goals, written by an LLM and kept where they say what the goal is.

For the goals of a tier that is imagined for (methods/kalm/rollouts), and for those of the data that the language model
is trained on (methods/kalm/model).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from llmrl.envs.clevr_robot import language
from llmrl.llm.tries import REPEATED, Tries, why

if TYPE_CHECKING:
    from llmrl.context import RunContext

TRIES = 3  # calls for the sentences of a goal in a style


def written(ctx: "RunContext", goals: Sequence[NDArray], styles: Sequence[language.Style], n: int) -> list[list[str]]:
    """For each goal up to n sentences of each style: fewer where TRIES calls bring fewer that name the goal."""
    return [[text for i, style in enumerate(styles) for text in _of(ctx, goal, style, n, f"{number * len(styles) + i}")]
            for number, goal in enumerate(goals)]  # fmt: skip


def _of(ctx: "RunContext", goal: NDArray, style: language.Style, n: int, number: str) -> list[str]:
    found: list[str] = []
    messages = language.prompt(style, goal, n)
    tries = Tries()
    for attempt in range(TRIES):
        index = f"{number}/{attempt}"
        reply = ctx.llm.ask(messages, purpose=language.PURPOSE, index=index)
        if fault := tries.fault(messages, reply):
            ctx.llm.event(language.PURPOSE, index, "rejected", reason=fault, detail=why(fault, reply))
            if fault == REPEATED:
                break
            continue
        found = list(dict.fromkeys([*found, *language.read(reply.text, goal)]))[:n]
        if len(found) == n:
            break
    return found
