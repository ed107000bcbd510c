"""The fixture `forgotten`: what a test registers with llmrl.api is gone after it."""

from collections.abc import Iterator

import pytest
from hydra.core.config_store import ConfigStore

from llmrl import registered
from llmrl.config import registering


@pytest.fixture
def forgotten() -> Iterator[None]:
    yield
    for kind, name in registered.MODULES:
        group: dict = ConfigStore.instance().repo
        *folders, last = f"{kind}/{name}.yaml".split("/")
        for folder in folders:
            group = group[folder]
        del group[last]
    registered.MODULES.clear()
    registering.ORIGINS.clear()
