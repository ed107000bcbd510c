"""Our environments by their Gymnasium ids: importing this module registers them, and so does importing llmrl after
gymnasium. They are made from the values of conf/ and what the call says otherwise."""

from typing import Any

import gymnasium as gym

from llmrl.checks import ConfigError
from llmrl.conf_files import conf_root


def pick_place(
    *, role: str = "eval", render_mode: str | None = None, objects: str = "letters", **values: Any
) -> gym.Env:
    """`llmrl/PickPlace-v0`. values: keys of conf/env/pick_place/, such as mode and horizon; objects: "letters" or
    "blocks"; role: "train" leaves hopeless actions out. Raises ConfigError for a wrong value."""
    import yaml
    from pydantic import ValidationError

    from llmrl.config import checked
    from llmrl.envs.pick_place import Config, PickPlace

    folder = conf_root() / "env" / "pick_place"
    name = f"{values.get('horizon', 'short')}_horizon"
    files = [folder / "_base.yaml", folder / f"{name}.yaml"]
    if objects != "letters":
        files.append(folder / f"{objects}_{name}.yaml")
    node: dict[str, Any] = {}
    for file in files:
        if not file.exists():
            raise ConfigError(f"llmrl/PickPlace-v0: there is no {file.name} in {folder}")
        node |= yaml.safe_load(file.read_text())
    del node["defaults"]
    nothing = dict.fromkeys(("description", "actions", "reward", "end", "goal", "observation"))
    try:
        config = checked(Config, node | {"task": nothing | {"name": name}} | values)
    except ValidationError as error:
        raise ConfigError(f"llmrl/PickPlace-v0: {error}") from error
    return PickPlace(config, role=role, render_mode=render_mode)


def clevr_robot(*, render_mode: str | None = None, goals: str = "base", **values: Any) -> gym.Env:
    """`llmrl/ClevrRobot-v0`. goals: "base", "easy", "hard" or "google"; values: keys of conf/env/clevr_robot/, such as
    obs_velocity. Raises ConfigError for a wrong value."""
    import yaml
    from pydantic import ValidationError

    from llmrl.config import checked
    from llmrl.envs.clevr_robot import ClevrRobot, Config

    folder = conf_root() / "env" / "clevr_robot"
    if goals not in ("base", "easy", "hard", "google"):
        raise ConfigError(f"llmrl/ClevrRobot-v0: goals is base, easy, hard or google, not {goals!r}")
    node: dict[str, Any] = {}
    for file in ("_base.yaml", f"{goals}.yaml"):
        node |= yaml.safe_load((folder / file).read_text())
    del node["defaults"]
    nothing = dict.fromkeys(("description", "actions", "reward", "end", "goal", "observation"))
    try:
        config = checked(Config, node | {"task": nothing | {"name": goals}} | values)
    except ValidationError as error:
        raise ConfigError(f"llmrl/ClevrRobot-v0: {error}") from error
    return ClevrRobot(config, render_mode=render_mode)


for name, maker in {"PickPlace": "pick_place", "ClevrRobot": "clevr_robot"}.items():
    if f"llmrl/{name}-v0" not in gym.registry:
        gym.register(f"llmrl/{name}-v0", entry_point=f"llmrl.gymnasium_ids:{maker}")
