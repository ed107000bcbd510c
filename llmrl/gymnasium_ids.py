"""Our environments by their Gymnasium ids: importing this module registers them, and so does importing llmrl after
gymnasium. They are made from the values of conf/ and what the call says otherwise."""

from typing import Any, Literal

import gymnasium as gym

from llmrl.checks import ConfigError
from llmrl.conf_files import conf_root


def pick_place(
    *, role: Literal["train", "eval"] = "eval", render_mode: str | None = None, objects: str = "letters", **values: Any
) -> gym.Env:
    """`llmrl/PickPlace-v0`. values: keys of conf/env/pick_place/, such as mode and horizon; objects: "letters" or
    "blocks"; role: "train" leaves hopeless actions out. Raises ConfigError for a wrong value."""
    from llmrl.envs.pick_place import Config, PickPlace

    name = f"{values.get('horizon', 'short')}_horizon"
    files = ["_base", name] if objects == "letters" else ["_base", name, f"{objects}_{name}"]
    config = _config(Config, "llmrl/PickPlace-v0", "pick_place", files, name, values)
    return PickPlace(config, role=role, render_mode=render_mode)


def clevr_robot(
    *, render_mode: str | None = None, goals: str = "base", steps: int | None = None, **values: Any
) -> gym.Env:
    """`llmrl/ClevrRobot-v0`. goals: "base", "easy", "hard" or "google"; values: keys of conf/env/clevr_robot/, such as
    obs_velocity; steps: max_episode_steps, a name that gym.make keeps for itself and can only shorten an episode
    with. Raises ConfigError for a wrong value."""
    from llmrl.envs.clevr_robot import ClevrRobot, Config

    if goals not in ("base", "easy", "hard", "google"):
        raise ConfigError(f"llmrl/ClevrRobot-v0: goals is base, easy, hard or google, not {goals!r}")
    if steps is not None:
        values["max_episode_steps"] = steps
    config = _config(Config, "llmrl/ClevrRobot-v0", "clevr_robot", ["_base", goals], goals, values)
    return ClevrRobot(config, render_mode=render_mode)


def _config(cls: type, env_id: str, suite: str, files: list[str], task: str, values: dict[str, Any]) -> Any:
    """The suite's Config: of these files of conf/env/<suite>/, each over those before it, and `values` over all. The
    task has its name alone, since nobody is told of it. Raises ConfigError."""
    import yaml
    from pydantic import ValidationError

    from llmrl.config import checked

    folder = conf_root() / "env" / suite
    node: dict[str, Any] = {}
    for file in files:
        if not (folder / f"{file}.yaml").exists():
            raise ConfigError(f"{env_id}: there is no {file}.yaml in {folder}")
        node |= yaml.safe_load((folder / f"{file}.yaml").read_text())
    del node["defaults"]
    nothing = dict.fromkeys(("description", "actions", "reward", "end", "goal", "observation"))
    try:
        return checked(cls, node | {"task": nothing | {"name": task}} | values)
    except ValidationError as error:
        raise ConfigError(f"{env_id}: {error}") from error


for name, maker in {"PickPlace": "pick_place", "ClevrRobot": "clevr_robot"}.items():
    if f"llmrl/{name}-v0" not in gym.registry:
        gym.register(f"llmrl/{name}-v0", entry_point=f"llmrl.gymnasium_ids:{maker}")
