"""llmrl: the experiment runner for LLM-guided reinforcement learning."""

import sys

__version__ = "0.1.0"

if "gymnasium" in sys.modules:  # then our environments are wanted too; else importing it would slow every command down
    from llmrl import gymnasium_ids  # noqa: F401 (registers them)
