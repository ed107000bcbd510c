"""The weights of `llm=local`: which file, its sha256, what it says of itself, and the memory it takes to serve it."""

import json
import os
import struct
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from llmrl.checks import ConfigError
from llmrl.runs.stop import Paused

HUB = "hf:"  # hf:<owner>/<repository>/<file>, of huggingface.co
# the sha256 of what `make local-model` brings, by the file's name: tables with it can be shown before it is there
PINNED = {
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    "smollm2-135m-instruct-q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
MISSING_EXTRA = "pip install 'llmrl[local]'"
GGUF_VERSIONS = (2, 3)
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
MOST_ENTRIES = 100_000  # of a GGUF header's table, and more than any has
MOST_CHARS = 10_000_000  # of a text in it
BATCH = 512  # tokens that llama.cpp computes at once
BESIDE = 400_000_000  # bytes: the process, and buffers that we do not compute
UNKNOWN = 1 << 62
CGROUPS = Path("/sys/fs/cgroup")
CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


class WeightsUnavailable(Paused):
    """The weights cannot be had now: no network, or too little free memory. Another time they may."""


@dataclass(frozen=True)
class Model:
    """What a GGUF file says of itself, as far as memory follows from it."""

    size: int  # bytes of the file
    blocks: int
    kv_width: int  # numbers of a token's keys and values in one block
    vocabulary: int

    def memory(self, context: int, gpu_layers: int = 0) -> int:
        """Bytes of main memory that serving it takes: the file, 16-bit keys and values of `context` tokens, buffers."""
        kv = 2 * self.blocks * self.kv_width * context
        on_cpu = max(0.0, 1 - gpu_layers / (self.blocks + 1))
        return round(on_cpu * (self.size + kv)) + 4 * BATCH * self.vocabulary + BESIDE


def find(weights: str) -> Path:
    """The file, which is brought from the hub where `weights` names one there. Raises ConfigError, or
    WeightsUnavailable where the hub cannot be reached."""
    if weights.startswith(HUB):
        return _from_hub(weights)
    path = Path(weights)
    if not path.is_file():
        what = "is a directory; name a file in it" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"llm.weights: {path} {what}. Give a GGUF file, or {HUB}<repository>/<file> of huggingface.co; "
            "`make local-model` brings one into outputs/models/"
        )
    return path.resolve()


def digest(weights: str) -> str:
    """The sha256 of the weights, in hex. A file on the hub is not brought for it, and of a pinned one that is not there
    it is known. Raises as `find`."""
    if weights.startswith(HUB) and _cached(weights) is None:
        etag = _about_hub_file(weights).etag or ""
        if len(etag) == 64:  # the hub's name for a large file is its sha256
            return etag
    if (pinned := PINNED.get(Path(weights).name)) is not None and not Path(weights).exists():
        return pinned
    return digest_of(find(weights))


def digest_of(path: Path) -> str:
    """The sha256 of a file. A gigabyte takes seconds, so it is kept with the path, time and size that it belongs to."""
    about = path.stat()
    now = [about.st_mtime_ns, about.st_size]
    known = _known_digests()
    if (found := known.get(str(path))) is not None and found[:2] == now:
        return found[2]
    hashed = sha256()
    try:
        with path.open("rb") as file:
            for block in iter(partial(file.read, 1 << 20), b""):
                hashed.update(block)
    except OSError as error:
        raise ConfigError(f"llm.weights: {path} cannot be read: {error.strerror}") from error
    _keep_digests(known | {str(path): [*now, hashed.hexdigest()]})
    return hashed.hexdigest()


def read(path: Path) -> Model:
    """What the header of a GGUF file says. Raises ConfigError where it is none, or the file is cut short."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            said = _header(file)
            if (least := said["least_size"]) > size:
                raise ValueError(f"the file has {size:,} bytes, and its tensors end behind {least:,}")
        blocks = int(said["block_count"])
        heads = said["attention.head_count"]
        width = int(said["embedding_length"]) / max(_list(heads))
        kv_heads = _list(said.get("attention.head_count_kv", heads))
        keys, values = (said.get(f"attention.{name}_length", width) for name in ("key", "value"))
        per_block = sum(kv_heads) / len(kv_heads)
        return Model(size, blocks, round(per_block * (keys + values)), int(said["vocabulary"]))
    except OSError as error:
        raise ConfigError(f"llm.weights: {path} cannot be read: {error.strerror}") from error
    except _NoGguf as error:
        raise ConfigError(
            f"llm.weights: {path} is no GGUF file: {error}. Give a file that llama.cpp can load (…-Q4_K_M.gguf, say); "
            "weights for transformers (safetensors) have to be converted, or found as GGUF on huggingface.co"
        ) from None
    except (KeyError, TypeError, ValueError, ZeroDivisionError, struct.error) as error:
        raise ConfigError(
            f"llm.weights: {path} is damaged: its header cannot be read ({type(error).__name__}: {error}). Bring it "
            "anew; an interrupted download looks like this"
        ) from None


def memory() -> tuple[int, int]:
    """Bytes that this machine, or the process's control group, has, and how many a new process can have now."""
    known = _meminfo()
    all_, free = [known.get("MemTotal", UNKNOWN)], [known.get("MemAvailable", UNKNOWN)]
    for limit, used, stat in CGROUP_FILES:
        try:
            most, now = (int((CGROUPS / name).read_text()) for name in (limit, used))
            rows = dict(line.split() for line in (CGROUPS / stat).read_text().splitlines())
        except (OSError, ValueError):  # no such group, or no limit
            continue
        pages_of_files = int(rows.get("inactive_file", 0)) + int(rows.get("active_file", 0))  # which make room
        all_.append(most)
        free.append(most - now + pages_of_files)
    return min(all_), max(0, min(free))


def check_memory(path: Path, context: int, gpu_layers: int, parallel: int = 1, *, now: bool) -> None:
    """Raises ConfigError where this machine cannot serve the weights, WeightsUnavailable where it cannot `now`."""
    model = read(path)
    there, free = memory()
    tokens = context * parallel
    needed = model.memory(tokens, gpu_layers)
    kv = 2 * model.blocks * model.kv_width * tokens
    many = f" for each of llm.parallel={parallel} calls" if parallel > 1 else ""
    parts = (
        f"llm.weights: serving {path.name} needs {needed / 1e9:.1f} GB of memory (weights {model.size / 1e9:.1f} GB, "
        f"llm.context={context:,} tokens{many} {kv / 1e9:.1f} GB, the rest for buffers and what is on no GPU)"
    )
    smaller = "Take a smaller file (fewer parameters, Q4 in place of Q8), or a smaller llm.context"
    if needed > there:
        raise ConfigError(f"{parts}, and this machine has {there / 1e9:.1f} GB. {smaller}")
    if now and needed > free:
        raise WeightsUnavailable(
            f"{parts}, and {free / 1e9:.1f} GB are free. {smaller}, or try again when other programs "
            "have ended. The run is paused, nothing is lost; the same command goes on."
        )


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub_file(weights: str) -> tuple[str, str]:
    """(repository, file) of hf:<owner>/<repository>/<file>. Raises ConfigError."""
    owner, _, rest = weights.removeprefix(HUB).partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise ConfigError(
            f"llm.weights: {weights!r} names no file on the hub. Write {HUB}<owner>/<repository>/<file>, such as "
            f"{HUB}Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
        )
    return f"{owner}/{name}", file


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(f"llm.weights: {HUB}… needs the package huggingface-hub: {MISSING_EXTRA}") from None
    return huggingface_hub


def _cached(weights: str) -> Path | None:
    repository, file = hub_file(weights)
    found = _hub().try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


def _from_hub(weights: str) -> Path:
    if (found := _cached(weights)) is not None:
        return found.resolve()
    repository, file = hub_file(weights)
    with _hub_errors(weights):
        return Path(_hub().hf_hub_download(repository, file)).resolve()


def _about_hub_file(weights: str) -> Any:
    hub = _hub()
    with _hub_errors(weights):
        return hub.get_hf_file_metadata(hub.hf_hub_url(*hub_file(weights)))


class _hub_errors:
    """Names what huggingface_hub raises: a wrong name is a ConfigError, no network WeightsUnavailable."""

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, ConfigError):
            return
        told = " ".join(str(error).split())[:200]
        if type(error).__name__ in ("RepositoryNotFoundError", "EntryNotFoundError", "RemoteEntryNotFoundError",
                                    "GatedRepoError", "HFValidationError", "RevisionNotFoundError"):  # fmt: skip
            raise ConfigError(
                f"llm.weights: the hub has no such file for you: {self.weights} ({told}). Correct the name; a gated "
                "repository wants HF_TOKEN"
            ) from None
        raise WeightsUnavailable(
            f"llm.weights: {self.weights} cannot be brought: {type(error).__name__}: {told}. Without network give a "
            "GGUF file on this machine; else the same command goes on later (a download resumes where it stopped)."
        ) from None


# --- GGUF -------------------------------------------------------------------------------------------------------------


class _NoGguf(Exception):
    pass


def _header(file: BinaryIO) -> dict[str, Any]:
    """The metadata under the architecture's name (block_count, …), the size of the vocabulary, and the bytes that the
    file has at least."""
    magic = file.read(4)
    if magic != b"GGUF":
        raise _NoGguf(f"it begins with {magic!r}" if magic else "it is empty")
    (version,) = struct.unpack("<I", file.read(4))
    if version not in GGUF_VERSIONS:
        raise _NoGguf(f"version {version} of the format is unknown")
    tensors, entries = struct.unpack("<QQ", file.read(16))
    if max(tensors, entries) > MOST_ENTRIES:
        raise ValueError(f"{entries} entries, {tensors} tensors")
    table: dict[str, Any] = {}
    for _ in range(entries):
        key = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        table[key] = _value(file, kind)
    architecture = table["general.architecture"]
    said = {key.removeprefix(f"{architecture}."): value for key, value in table.items()}
    least = 0
    for _ in range(tensors):
        _text(file)
        (dimensions,) = struct.unpack("<I", file.read(4))
        *_, offset = struct.unpack(f"<{dimensions}QIQ", file.read(8 * dimensions + 12))
        least = max(least, offset)
    said |= {"least_size": file.tell() + least}
    return said | {"vocabulary": said.get("vocab_size") or said.get("tokenizer.ggml.tokens") or 0}


def _value(file: BinaryIO, kind: int) -> Any:
    """A value; of an array of texts, only how many there are."""
    if kind == TEXT:
        return _text(file)
    if kind != ARRAY:
        form = SCALARS[kind]
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]
    inner, length = struct.unpack("<IQ", file.read(12))
    if inner == TEXT:
        for _ in range(length):
            _text(file)
        return length
    form = SCALARS[inner]
    raw = file.read(struct.calcsize(form) * length)
    return [value for (value,) in struct.iter_unpack(form, raw)] if length <= MOST_ENTRIES else length


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MOST_CHARS:
        raise ValueError(f"a text of {length} bytes")
    raw = file.read(length)
    if len(raw) < length:
        raise ValueError("the file ends within its header")
    return raw.decode("utf-8", "replace")


def _list(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]


# --- files ------------------------------------------------------------------------------------------------------------


def _digests_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmrl" / "sha256.json"


def _known_digests() -> dict[str, list]:
    try:
        known = json.loads(_digests_file().read_text())
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError, RuntimeError):
        return {}


def _keep_digests(digests: dict[str, list]) -> None:
    """As far as there is a place for them: without one every start hashes anew."""
    try:
        file = _digests_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        own = file.with_name(f".{file.name}.{os.getpid()}")
        own.write_text(json.dumps(digests))
        own.replace(file)
    except (OSError, RuntimeError):
        pass


def _meminfo() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # another system: unknown
        return {}
    return {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith("kB")}
