"""The wrapper that a run trains with, kept in its directory: whoever plays the agent later needs the same one, though
the method found it, or its file is gone from where it was."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from llmrl.config import Config, checked_at, config_of, file_of, wrapped
from llmrl.runs.files import write_bytes, write_json
from llmrl.runs.learned import whole_json

WRAPPER = "wrapper.json"  # its name and its values; the files that they name lie beside it


def keep(directory: Path, config: Config) -> None:
    """Writes down the wrapper of `config`, if there is one, with its files."""
    if config.wrapper is None:
        return
    values = asdict(config.wrapper)
    for field in _content(type(config.wrapper)):
        if values[field.name] is not None:
            name = field.metadata["file"]
            write_bytes(directory / name, file_of(field, values[field.name]).read_bytes())
            values[field.name] = name
    write_json(directory / WRAPPER, {"name": config.choices["wrapper"], "values": values})


def kept(directory: Path) -> Any | None:
    """The Config of the wrapper that the run in `directory` trains with. Raises ConfigError where it is damaged."""
    if not (directory / WRAPPER).exists():
        return None
    found = whole_json(directory / WRAPPER)
    cls, values = config_of("wrapper", found["name"]), found["values"]
    names = {field.name: values[field.name] for field in _content(cls)}
    paths = {key: None if name is None else str(directory / name) for key, name in names.items()}
    return checked_at("wrapper", cls, values | paths, {"wrapper": found["name"]})


def as_trained(config: Config, directory: Path) -> Config:
    """The configuration with which the run in `directory` trains its agent."""
    wrapper = kept(directory)
    return config if wrapper is None else wrapped(config, wrapper)


def _content(cls: type) -> list[Any]:
    return [field for field in fields(cls) if field.metadata.get("identity") == "content"]
