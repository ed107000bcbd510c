"""Checkpoints: written whole or not at all, two kept, replay rows in immutable chunks.

    checkpoint/chunks/<ring>-<start>-<stop>.npz   rows of a replay buffer, written once
    checkpoint/<n>/state.pt                       everything else that changes
    checkpoint/<n>/manifest.json                  hashes of all these files, and the byte offsets of the logs

The manifest is written last and the directory gets its name after that, so a directory that has its name is whole,
unless the disk loses bytes later; that the hashes notice, and then the checkpoint before it is used.
"""

import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llmrl.contracts.replay import Ring
from llmrl.runs import lease
from llmrl.runs.files import fsync_directory, read_json, temporary, write_json, writing

KEPT = 2


@dataclass
class Loaded:
    """What `Checkpoints.load` found. Without a whole checkpoint `state` is None and the run starts at env_step 0."""

    state: dict | None = None
    offsets: dict[str, int] = field(default_factory=dict)  # bytes of each log at the time of the checkpoint
    complaints: list[str] = field(default_factory=list)  # one sentence per damaged checkpoint


class Stored(Protocol):
    """What a checkpoint holds beside `state`: a replay buffer, or that of a training without rows."""

    def rings(self) -> Mapping[str, Ring]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Checkpoints:
    """The checkpoints of one run, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.chunks = directory / "chunks"

    def save(self, state: dict, buffer: Stored, offsets: dict[str, int]) -> None:
        """Commits a checkpoint. On a full disk raises DiskError and leaves the earlier ones as they were."""
        with writing(self.directory):
            self._save(state, buffer, offsets)

    def _save(self, state: dict, buffer: Stored, offsets: dict[str, int]) -> None:
        import torch

        self.chunks.mkdir(parents=True, exist_ok=True)
        named = self._named()
        known = read_json(named[0] / "manifest.json")["chunks"] if named else {}
        number = int(named[0].name) + 1 if named else 0
        tmp = temporary(self.directory / str(number))
        try:
            tmp.mkdir()
            chunks = {n: self._write_chunks(n, ring, known.get(n, [])) for n, ring in buffer.rings().items()}
            packed = io.BytesIO()  # torch itself would turn a full disk into a RuntimeError
            torch.save({"state": state, "replay_buffer": buffer.state_dict()}, packed)
            with open(tmp / "state.pt", "wb") as file:
                file.write(packed.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            manifest = {"state": _hash(tmp / "state.pt"), "chunks": chunks, "offsets": offsets}
            write_json(tmp / "manifest.json", manifest)
            lease.check(self.directory)  # gigabytes may have been written since
            os.rename(tmp, self.directory / str(number))
            fsync_directory(self.directory)
        except BaseException:
            shutil.rmtree(tmp, ignore_errors=True)
            self._prune()
            raise
        self._prune()

    def load(self, buffer: Stored) -> Loaded:
        """Fills `buffer` from the newest whole checkpoint. Damaged ones are removed and complained of."""
        import torch

        found = Loaded()
        for directory in self._named():
            try:
                manifest = read_json(directory / "manifest.json")
                self._verify(directory, manifest)
            except (OSError, ValueError, KeyError) as error:
                found.complaints.append(f"checkpoint {directory} is damaged: {error}. The one before it is used.")
                shutil.rmtree(directory, ignore_errors=True)
                continue
            for name, ring in buffer.rings().items():
                for chunk in manifest["chunks"][name]:
                    with np.load(self.chunks / chunk["file"]) as rows:
                        ring.load(chunk["start"], dict(rows))
            saved = torch.load(directory / "state.pt", weights_only=False, map_location="cpu")
            buffer.load_state_dict(saved["replay_buffer"])
            found.state, found.offsets = saved["state"], manifest["offsets"]
            return found
        if found.complaints:
            found.complaints.append("No whole checkpoint is left: the run starts again at env_step 0.")
        return found

    def drop(self) -> None:
        """A finished run needs no checkpoint: its networks are in agent.pt."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _named(self) -> list[Path]:
        """The checkpoints that were committed, the newest first."""
        if not self.directory.exists():
            return []
        found = [d for d in self.directory.iterdir() if d.name.isdigit()]
        return sorted(found, key=lambda d: int(d.name), reverse=True)

    def _write_chunks(self, name: str, ring: Ring, known: list[dict]) -> list[dict]:
        """The chunks that hold the ring's rows: the known ones that still matter, and one with the new rows."""
        oldest = max(0, ring.total - ring.capacity)
        chunks = [c for c in known if c["stop"] > oldest]
        start = max(chunks[-1]["stop"] if chunks else 0, oldest)
        if start < ring.total:
            path = self.chunks / f"{name}-{start}-{ring.total}.npz"
            tmp = temporary(path)
            with open(tmp, "wb") as file:
                np.savez(file, **ring.rows(start, ring.total))  # type: ignore[arg-type]  # no ring has a column allow_pickle
                file.flush()
                os.fsync(file.fileno())
            os.replace(tmp, path)
            chunks.append({"file": path.name, "start": start, "stop": ring.total, "sha256": _hash(path)})
        return chunks

    def _verify(self, directory: Path, manifest: dict[str, Any]) -> None:
        """Raises ValueError or OSError where a byte is not what it was."""
        files = {directory / "state.pt": manifest["state"]}
        files |= {self.chunks / c["file"]: c["sha256"] for ring in manifest["chunks"].values() for c in ring}
        for path, digest in files.items():
            if _hash(path) != digest:
                raise ValueError(f"{path.name} does not match its hash")

    def _prune(self) -> None:
        for directory in self._named()[KEPT:]:
            shutil.rmtree(directory, ignore_errors=True)
        for leftover in self.directory.glob(".*.tmp"):  # of processes that were killed
            shutil.rmtree(leftover, ignore_errors=True)
        used = set()
        for directory in self._named():
            try:
                chunks = read_json(directory / "manifest.json")["chunks"]
            except (OSError, ValueError):  # the older one was damaged on disk: it is of no use
                shutil.rmtree(directory, ignore_errors=True)
                continue
            used |= {c["file"] for ring in chunks.values() for c in ring}
        for path in self.chunks.iterdir():
            if path.name not in used:
                path.unlink(missing_ok=True)


def _hash(path: Path) -> str:
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
