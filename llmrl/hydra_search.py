"""Where Hydra looks for yaml files beside conf/: the directories of LLMRL_PATH.

A plugin and no override of hydra.searchpath: that one would be read by the grammar of overrides, in which many a
directory's name is none.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from llmrl.conf_files import extra_roots


class OwnDirectories(SearchPathPlugin):
    """Hydra asks it whenever it composes."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in (root / "conf" for root in extra_roots()):
            if folder.is_dir():  # it may hold modules alone
                search_path.append("LLMRL_PATH", f"file://{folder}")


def look_there_too() -> None:
    """To be called before Hydra composes; more than once does no harm."""
    Plugins.instance().register(OwnDirectories)
