"""Whether the answer to LESR's prompt for a program may be trained with: the checks of one search."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmrl.llm.client import Reply
from llmrl.llm.program_text import Rejected, fingerprint
from llmrl.llm.tries import why
from llmrl.methods.lesr.program import Facts, extract, validate

if TYPE_CHECKING:
    from llmrl.methods.lesr.search import Config


class Checker:
    """Checks programs on real `states` (n, d), with the `rewards` (n,) of the steps that left them. `known` holds the
    fingerprints of the programs that were accepted."""

    def __init__(self, config: "Config", states: NDArray[np.float64], rewards: NDArray[np.float64]) -> None:
        self.config, self.states, self.rewards = config, states, rewards
        self.known: set[str] = set()

    def check(self, reply: Reply, fault: str) -> Facts:
        """What is known of the program in `reply`; `fault`: why the reply is not to be read, or "". Raises Rejected."""
        own = self.config
        if fault:
            raise Rejected(fault, why(fault, reply))
        code = extract(reply.text)
        if "duplicate" in own.reject and fingerprint(code) in self.known:
            raise Rejected("duplicate", "the same program was proposed before")
        limits = ("w", "max_features", "max_reward", "max_real_reward", "max_reward_share", "reject", "seed")
        asked = {key: getattr(own, key) for key in limits}
        return validate(code, self.states, rewards=self.rewards, revise=own.writes != "reward", **asked)

    def accept(self, reply: Reply) -> str:
        """The program of an accepted reply, which is known from now on."""
        code = extract(reply.text)
        self.known.add(fingerprint(code))
        return code
