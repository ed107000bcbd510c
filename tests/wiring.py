"""Which test shows that a key of a Config does something: `@wires("lesr.control")` stands above the test that gives it
a value other than its default and sees another object or another number; `unwired` tells which keys have no such test.

A key is named by its dataclass' module: those of `method.search` are `lesr/search.…`, wherever they are nested.
"""

import dataclasses
from typing import Any, get_args, get_type_hints

from llmrl.config import module_of

WIRED: set[str] = set()


def wires(*keys: str) -> Any:
    """Marks a test as the one that would fail if these keys were ignored."""
    WIRED.update(keys)
    return lambda test: test


def keys_of(cls: type, name: str) -> set[str]:
    """The keys of a Config, and of the dataclasses in it that are no method's own Config."""
    found = set()
    for key, hint in get_type_hints(cls).items():
        found.add(f"{name}.{key}")
        inner = [part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)]
        found |= {key for part in inner if part.__name__ != "Config" for key in keys_of(part, part.__name__)}
    return found


def unwired(*methods: str) -> set[str]:
    """Keys of these methods without a test, and tests of keys that there are not."""
    keys = set().union(*(keys_of(module_of("method", name).Config, name) for name in methods))
    own = {*methods, *(key.partition(".")[0] for key in keys)}
    return keys ^ {key for key in WIRED if key.partition(".")[0] in own}
