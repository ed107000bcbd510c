"""The code as it was when runs were submitted: what is edited while they wait does not change what they run.

outputs/.code/<hash>/llmrl, conf     read-only copies
                    /path/<n>        of each directory of LLMRL_PATH what llmrl reads of it
                    /code.json       what identity.code_state said of the original, which had a .git
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from llmrl.conf_files import conf_root, extra_roots
from llmrl.runs.files import temporary, write_json, writing
from llmrl.runs.identity import CODE_FILE, code_state

OF_A_DIRECTORY = ("agents", "conf", "envs", "methods", "published")  # docs/concepts.md, "Extending it"


def freeze(outputs: Path) -> Path:
    """Makes the copy below `outputs`, or finds an equal one, and returns where it is, absolute."""
    files = dict(_files())
    digest = sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name}\0".encode() + sha256(file.read_bytes()).digest())
    place = outputs.absolute() / ".code" / digest.hexdigest()[:12]
    if place.exists():
        return place
    staging = temporary(place)
    with writing(staging):
        for name, file in files.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(0o444)
        write_json(staging / CODE_FILE, code_state())
        try:
            os.rename(staging, place)
        except OSError:  # another submission was quicker
            shutil.rmtree(staging, ignore_errors=True)
            if not place.exists():
                raise
    return place


def environment(code: Path) -> dict[str, str]:
    """The variables with which a process runs the frozen code, from whatever directory."""
    labs = [str(code / "path" / str(n)) for n in range(len(extra_roots()))]
    path = ":".join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))  # the first one counts
    found = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return found | ({"LLMRL_PATH": ":".join(labs)} if labs else {})


def task_program(environment: Mapping[str, str]) -> Path:
    """clusters/task.py of the code that these variables choose."""
    return Path(environment["PYTHONPATH"].partition(":")[0]) / "llmrl" / "clusters" / "task.py"


def _files() -> Iterator[tuple[str, Path]]:
    """(place in the copy, file) of all that a run may read of the code."""
    import llmrl

    folders = {"llmrl": Path(llmrl.__file__).resolve().parent, "conf": conf_root()}
    for n, root in enumerate(extra_roots()):
        folders |= {f"path/{n}/{name}": root / name for name in OF_A_DIRECTORY}
    for name, folder in folders.items():
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{name}/{file.relative_to(folder)}", file
