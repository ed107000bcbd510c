"""llmrl: the experiment runner for LLM-guided reinforcement learning."""

import sys

from llmrl.conf_files import extend_packages

__version__ = "0.1.0"

extend_packages()

if "gymnasium" in sys.modules:  # then our environments are wanted too; else importing it would slow every command down
    from llmrl import gymnasium_ids  # noqa: F401 (registers them)
