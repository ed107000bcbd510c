"""Writing files so that a reader never sees half of one."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmrl.runs import lease


class DiskError(OSError):
    """A file of ours cannot be written: the disk is full, or it may not be. Its `filename` says which one. No other
    OSError (an environment's, a library's) says anything of a run's own disk."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes whatever the system refuses meanwhile a DiskError of `path`. Raises TakenOver where `path` belongs to a run
    that another process has taken over."""
    lease.check(path)
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(error.errno, error.strerror or str(error), str(path)) from error


def fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary(path: Path) -> Path:
    """A name beside `path` that nobody else has, on whatever machine. What a killed process left under such a name is
    removed by the run's next start."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` whole or not at all."""
    tmp = temporary(path)
    with writing(path):
        try:
            with open(tmp, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(tmp, path)
        except OSError:
            tmp.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """What a file holds. Raises OSError where it cannot be read, ValueError where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: brackets nested too deeply") from None


def read_jsonl(path: Path) -> list[dict]:
    """All whole lines of a jsonl file; a torn last line (a run killed while writing) is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def topmost_missing(path: Path) -> Path | None:
    """What has to be made first for `path` to be there: itself, or a directory above it; None where it is there."""
    return next((p for p in reversed([path, *path.parents]) if not os.path.lexists(p)), None)


def remove_empty(path: Path | None) -> None:
    """Removes the directories at and below `path`, as far as nothing is in them."""
    for folder, _, _ in os.walk(path, topdown=False) if path is not None else ():
        with suppress(OSError):
            os.rmdir(folder)
