"""What a run has learned so far, read from its directory; nothing in it is touched."""

from hashlib import sha256
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.runs.files import read_json


def learned(run: Path) -> tuple[str, dict[str, int], dict]:
    """(where it is from, env_steps and updates so far, the agent's state) of what the run has learned, only reading."""
    import torch

    if (run / "agent.pt").exists() and (run / "result.json").exists():
        result = read_json(run / "result.json")
        state = torch.load(run / "agent.pt", map_location="cpu", weights_only=True)
        return "agent.pt", {"env_steps": result["env_steps"], "updates": result["updates"]}, state
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
    raise ConfigError(f"{run} holds nothing to evaluate yet: neither agent.pt nor a whole checkpoint.")
