"""Where code written by a language model runs: in a child process with nothing to reach. See docs/sandbox.md.

    with Sandbox(code, ["revise_state", "intrinsic_reward"]) as sandbox:
        (features,) = sandbox.call("revise_state", state)

The gate (gate.py) reads the source first. The child (child.py) locks itself in (locks.py) before it sees the program.
Arrays cross as bytes (wire.py). What goes wrong has a name (limits.py).
"""

from llmrl.llm.sandbox.gate import check_source
from llmrl.llm.sandbox.limits import FAILURES, Limits, SandboxFailure
from llmrl.llm.sandbox.process import Sandbox, layers_available

__all__ = ["FAILURES", "Limits", "Sandbox", "SandboxFailure", "check_source", "layers_available"]
