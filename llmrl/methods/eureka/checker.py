"""Whether the answer to Eureka's prompt may be trained with: the checks of one search."""

from llmrl.llm.client import Reply
from llmrl.llm.program_text import Rejected, fingerprint
from llmrl.llm.tries import why
from llmrl.methods.eureka.program import REJECTIONS, Facts, extract, validate
from llmrl.methods.search.steps import Steps


class Checker:
    """Checks programs on real `steps`. `known` holds the fingerprints of the programs that were accepted."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.known: set[str] = set()

    def check(self, reply: Reply, fault: str) -> Facts:
        """What is known of the program in `reply`; `fault`: why the reply is not to be read, or "". Raises Rejected."""
        if fault:
            raise Rejected(fault, why(fault, reply))
        code = extract(reply.text)
        if fingerprint(code) in self.known:
            raise Rejected("duplicate", REJECTIONS["duplicate"])
        return validate(code, self.steps)

    def accept(self, reply: Reply) -> str:
        """The program of an accepted reply, which is known from now on."""
        code = extract(reply.text)
        self.known.add(fingerprint(code))
        return code
