"""The Question contract: what a paper asks an LLM, for `llmrl probe`, which tries the answers without any training.

A paper whose prompts can be tried has a file llmrl/methods/<paper>/probe.py with

    def questions(run: Run, make_env: MakeEnv) -> list[Question]

which raises ConfigError where the paper's method would.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium as gym

    from llmrl.config import Config as Run
    from llmrl.contracts.env import Role

Message = dict[str, Any]
Earlier = Mapping[str, Sequence[str]]  # purpose -> the accepted answers to the questions before
MakeEnv = Callable[["Run", "Role"], "gym.Env"]


class Unusable(Exception):
    """An answer that the method would reject: the `name` of the reason, and a `detail`."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}")
        self.name, self.detail = name, detail


@dataclass(frozen=True)
class Question:
    """One kind of call.

    Args:
        purpose: as in the runs' transcripts, such as "lesr.sample".
        messages: of the n-th try; None where it cannot be asked, since nothing before it was accepted.
        check: what the method finds of an answer, as facts for the record: (n, reply, fault), where `fault` says why
            the reply is not to be read, or "". Raises Unusable.
        accepted: is called with every accepted answer, also of an interrupted probe, in order.
        needed: accepted answers that a whole run needs; 0: it asks no such question.
        limit: calls that a run makes at most; None: it asks `needed` times, whatever comes.
        beside: further calls of a run, as long as these, whose prompts need a training's results.
        schema: of the answer's form (llm/forms.py).
        assumes: what `needed` supposes, such as "episodes of 20 env_steps, as a random policy's".
    """

    purpose: str
    messages: Callable[[int, Earlier], list[Message] | None]
    check: Callable[[int, Any, str], Mapping[str, Any]]
    needed: float
    limit: float | None = None
    beside: float = 0
    accepted: Callable[[Any], object] = lambda reply: None
    schema: Any = None
    assumes: str = ""
