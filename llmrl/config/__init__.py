"""From a composed Hydra node to checked dataclasses (schema, loading, errors), and from those to the run's identity.

Values live in conf/, types and checks in the dataclass of the module that reads them.
"""

from llmrl.config.identity import file_of, identity, run_id, run_path, shared, without_training
from llmrl.config.loading import check_own, checked, checked_at, from_node
from llmrl.config.plugins import agent_of, config_of, method_of, module_of, suite_of, wrapped, wrapper_of
from llmrl.config.schema import Budget, Compute, Config, Eval, Log

__all__ = [
    "Budget", "Compute", "Config", "Eval", "Log",
    "agent_of", "check_own", "checked", "checked_at", "config_of", "file_of", "from_node", "identity",
    "method_of", "module_of", "run_id", "run_path", "shared", "suite_of", "without_training", "wrapped", "wrapper_of",
]  # fmt: skip
