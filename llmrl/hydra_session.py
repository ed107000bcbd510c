"""Composing conf/ in any thread. What Hydra keeps for the whole process is left as it was: two runs may be composed at
once, and a program around them may use Hydra itself."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf.errors import OmegaConfBaseException

from llmrl.checks import ConfigError
from llmrl.conf_files import conf_root
from llmrl.hydra_search import look_there_too

LOCK = threading.RLock()  # around all that reads or changes Hydra's state


@contextmanager
def _hydra_of_our_own() -> Iterator[None]:
    with LOCK:
        held, base = GlobalHydra.instance(), version.getbase()
        outer, held.hydra = held.hydra, None
        try:
            yield
        finally:
            GlobalHydra.set_instance(held)  # hydra.initialize_config_dir puts a copy there
            held.hydra = outer
            version.VersionBase.instance().version_base = base


def composed(overrides: Sequence[str]) -> Any:
    """The node of conf/run.yaml with `overrides`, and Hydra's own part of it. Raises what Hydra and OmegaConf raise."""
    look_there_too()
    with _hydra_of_our_own(), hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_root())):
        return hydra.compose("run", list(overrides), return_hydra_config=True)


def store(group: str, name: str, values: dict[str, Any]) -> None:
    """Makes `values` a choice of the group, as a yaml would. Raises ConfigError for what no yaml could hold."""
    folder, _, last = f"{group}/{name}".rpartition("/")
    try:
        ConfigStore.instance().store(last, values, group=folder, provider="api.register")
    except OmegaConfBaseException as error:
        raise ConfigError(f"{group}={name}: {str(error).splitlines()[0]}") from error
