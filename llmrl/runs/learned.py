"""What a run has learned so far, read from its directory; nothing in it is touched."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.runs.files import read_json


def composed(run: Path) -> Any:
    """The run's configuration as it was composed. Raises ConfigError."""
    return whole_json(run / "config.json")


def whole_json(path: Path) -> Any:
    """What the file of a run holds. Raises ConfigError where it cannot be read."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: it cannot be read ({error})") from None


def learned(run: Path) -> tuple[str, dict[str, int], dict]:
    """(where it is from, env_steps and updates so far, the agent's state) of what the run has learned, only reading.
    Raises ConfigError."""
    import torch

    if (run / "agent.pt").exists() and (run / "result.json").exists():
        result = whole_json(run / "result.json")
        try:
            clock = {key: result[key] for key in ("env_steps", "updates")}
        except (KeyError, TypeError):
            raise ConfigError(f"{run / 'result.json'} is damaged: it does not say how long the run trained") from None
        try:
            return "agent.pt", clock, torch.load(run / "agent.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 (torch's, pickle's and zipfile's own ones)
            told = str(error).partition("\n")[0]
            raise ConfigError(f"{run / 'agent.pt'} is damaged: torch cannot read it ({told})") from None
    numbered = [d for d in (run / "checkpoint").glob("*") if d.name.isdigit()]
    for directory in sorted(numbered, key=lambda d: int(d.name), reverse=True):
        try:
            whole = (directory / "state.pt").read_bytes()
            if sha256(whole).hexdigest() == read_json(directory / "manifest.json")["state"]:
                saved = torch.load(directory / "state.pt", map_location="cpu", weights_only=False)["state"]
                clock = {key: saved["clock"][key] for key in ("env_steps", "updates")}
                return f"checkpoint/{directory.name}", clock, saved["agent"]
        except (OSError, ValueError, KeyError):
            continue  # damaged, or replaced by a newer one just now
    raise ConfigError(f"{run} holds nothing to evaluate: neither agent.pt nor a whole checkpoint. It has none so far, "
                      "or its method trains nothing, and its evaluations are in eval.jsonl")  # fmt: skip
