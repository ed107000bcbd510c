"""From overrides to what `llmrl run` would run."""

from collections.abc import Sequence
from typing import Any

from llmrl.checks import ConfigError
from llmrl.hydra_errors import explain, plain
from llmrl.hydra_session import LOCK, composed


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """What `llmrl run <overrides>` would run, as plain containers with `choices`. Raises ConfigError."""
    with LOCK:
        try:
            node, chosen = composed(overrides)
        except Exception as error:  # also of yaml, and what Hydra itself does not expect
            raise ConfigError(explain(error, overrides)) from error
        return plain(node, chosen)
