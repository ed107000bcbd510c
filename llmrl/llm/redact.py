"""Keys stay out of what is kept and shown: a server may repeat one, in an answer as in an error.

Redaction happens once, where text of a server arrives, so that what is recorded, sent on and replayed is one text.
"""

import base64
import html
import json
import os
import re
from functools import lru_cache
from urllib.parse import quote, quote_plus

from llmrl.checks import ConfigError

MARK = "***"
SHORTEST_KEY = 4  # characters; shorter ones cannot be told from ordinary text
SHORTEST_OTHER = 6
SPLIT_FROM = 8  # characters from which on a key is found with white space inside, as where a server breaks lines
NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "AUTH")


def key_of(key_env: str | None) -> str | None:
    """The key in the environment variable `key_env`, None where there is none."""
    return os.environ.get(key_env, "").strip() or None if key_env else None


def check_key(key_env: str) -> None:
    """Raises ConfigError for a key that could not be kept out of the files."""
    key = key_of(key_env) or ""
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"llm.key_env: what {key_env} holds has {len(key)} characters, too few to be a key, and to be kept out of "
            f"the run's files (at least {SHORTEST_KEY}). Correct it, or send none: llm.key_env=null"
        )
    if not key.isprintable() or not key.isascii():
        raise ConfigError(f"llm.key_env: what {key_env} holds cannot be sent in a header: it is not plain ASCII text")


def redact(text: str, key_env: str | None) -> str:
    """`text` with *** in place of the key, in whatever form, and of whatever in the environment is named like one."""
    secrets = {value.strip() for name, value in os.environ.items() if name.upper().endswith(NAMES)}
    found = {value for value in secrets if len(value) >= SHORTEST_OTHER}
    if key := key_of(key_env):
        found.add(key)
    return _pattern(tuple(sorted(found))).sub(MARK, text) if found else text


@lru_cache(maxsize=8)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST_KEY}
    split = {secret for secret in secrets if len(secret) >= SPLIT_FROM}
    longest_first = sorted(forms | split, key=lambda form: (-len(form), form))
    # a space of the secret may have become several, or a line's end
    parts = [r"\s*".join(map(re.escape, form.split() if form not in split else "".join(form.split())))
             for form in longest_first]  # fmt: skip
    return re.compile("|".join(parts), re.IGNORECASE)


def _forms(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, escaped, quoted, or within something in base64 or hex."""
    raw = secret.encode(errors="surrogateescape")
    in_json = json.dumps(secret)[1:-1]
    forms = {secret, in_json, in_json.replace("/", r"\/"), html.escape(secret), repr(secret)[1:-1], raw.hex(),
             quote(raw, safe=""), quote(raw), quote_plus(raw)}  # fmt: skip
    for before in range(3):  # bytes in front of it move the bits of base64; its ends depend on the neighbours
        coded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        inner = coded[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")} if len(inner) >= SPLIT_FROM else set()
    return forms
