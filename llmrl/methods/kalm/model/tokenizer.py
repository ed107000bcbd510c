"""The word-level tokenizer of a language model that is trained from scratch: it knows the words of the training
sentences and of the prompts, and whatever else it reads is <unk>."""

import re
from collections.abc import Iterable
from typing import Any

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")  # their ids are 0, 1, 2, 3


def word_level(texts: Iterable[str]) -> Any:
    """A PreTrainedTokenizerFast with one id per lower-case word or run of punctuation in `texts`, in sorted order."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text.lower())})
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pad, unknown, begin, end = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, bos_token=begin, eos_token=end
    )
