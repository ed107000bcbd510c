"""Composing conf/ in any thread. What Hydra keeps for the whole process is left as it was: two runs may be composed at
once, and a program around them may use Hydra itself."""

import copy
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra import version
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmrl.checks import ConfigError
from llmrl.conf_files import conf_root
from llmrl.hydra_search import look_there_too

LOCK = threading.RLock()  # around all that reads or changes Hydra's state
HYDRAS = "hydra/"  # Hydra's own part of conf
LOADED: dict[tuple[str, str], tuple[Any, ConfigResult]] = {}  # (source, config) -> its file's stamp, what was in it


@contextmanager
def session() -> Iterator[ConfigLoaderImpl]:
    """A Hydra of our own, which reads conf/ and LLMRL_PATH."""
    look_there_too()
    with LOCK:
        held, base = GlobalHydra.instance(), version.getbase()
        outer, held.hydra = held.hydra, None
        try:
            with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_root())):
                yield GlobalHydra.instance().config_loader()  # type: ignore[misc]
        finally:
            GlobalHydra.set_instance(held)  # hydra.initialize_config_dir puts a copy there
            held.hydra = outer
            version.VersionBase.instance().version_base = base


def composed(overrides: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The node of conf/run.yaml with `overrides`, and what is chosen in each group. Raises what Hydra and OmegaConf
    raise."""
    with session() as loader:
        try:
            return _quickly(loader, list(overrides))
        except Exception:  # noqa: BLE001 (whatever is wrong, and what stands of Hydra's own in `overrides`, it knows best)
            node = hydra.compose("run", list(overrides), return_hydra_config=True)
    chosen = dict(node.hydra.runtime.choices)
    OmegaConf.set_struct(node, False)
    del node["hydra"]
    OmegaConf.set_struct(node, True)
    return node, chosen


def with_hydras(overrides: Sequence[str]) -> Any:
    """The node with Hydra's own part, node.hydra."""
    with session():
        return hydra.compose("run", list(overrides), return_hydra_config=True)


def _quickly(loader: ConfigLoaderImpl, overrides: list[str]) -> tuple[Any, dict[str, Any]]:
    """As hydra.compose does, without what belongs to Hydra itself, and without reading a file again that is the same:
    in a third of the time (scripts/bench_sweep.py)."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    loader.validate_sweep_overrides_legal(parsed, RunMode.RUN, from_shell=False)
    repository = Repository(loader.config_search_path)
    with _maps_where_needed():
        found = defaults_list.create_defaults_list(repository, "run", parsed, prepend_hydra=True, skip_missing=False)
    repository.merged = True
    ours = [default for default in found.defaults if not str(default.config_path).startswith(HYDRAS)]
    node = loader._compose_config_from_defaults_list(ours, repository)
    node.pop("hydra", None)
    OmegaConf.set_struct(node, True)
    ConfigLoaderImpl._apply_overrides_to_config(found.config_overrides, node)
    return node, dict(found.overrides.known_choices)


@contextmanager
def _maps_where_needed() -> Iterator[None]:
    """Hydra makes a map of all choices for each file, which only a defaults list with `${…}` uses: a third of the time.
    LOCK is held."""
    made = defaults_list._create_interpolation_map

    def make(overrides: Any, defaults: Any, self_added: bool) -> Any:
        if any(default.is_interpolation() for default in defaults if not default.is_self()):
            return made(overrides, defaults, self_added)
        return None

    defaults_list._create_interpolation_map = make  # type: ignore[assignment]
    try:
        yield
    finally:
        defaults_list._create_interpolation_map = made


class Repository(ConfigRepository):
    """Hydra's, which keeps what it has read for as long as the files stay as they are."""

    merged = False  # whether what is loaded is about to be changed

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        key, stamp = (str(source and source.path), config_path), _stamp(source, config_path)
        before, result = LOADED.get(key, (None, None))
        if result is None or stamp is None or before != stamp:
            result = super().load_config(config_path)
            if result is not None:
                LOADED[key] = stamp, result
        if self.merged and result is not None:
            result = copy.copy(result)
            result.config = copy.deepcopy(result.config)
        return result


def _stamp(source: Any, config_path: str) -> Any:
    """What stays as it is as long as the file does; None for what may have changed (api.register)."""
    if config_path.startswith(HYDRAS):
        return HYDRAS
    if source is None or source.scheme() != "file":
        return None
    info = os.stat(os.path.join(source.path, source._normalize_file_name(config_path)))
    return info.st_ino, info.st_size, info.st_mtime_ns


def store(group: str, name: str, values: dict[str, Any]) -> None:
    """Makes `values` a choice of the group, as a yaml would. Raises ConfigError for what no yaml could hold."""
    folder, _, last = f"{group}/{name}".rpartition("/")
    try:
        ConfigStore.instance().store(last, values, group=folder, provider="api.register")
    except OmegaConfBaseException as error:
        raise ConfigError(f"{group}={name}: {str(error).splitlines()[0]}") from error
