"""Asking a language model: one client for scripted, hosted and self-served models and for replayed transcripts.

`LLM.ask` looks into the run's own llm.jsonl, then on the tape of `llm.replay`, and only then asks a model. What a
model answered, and every attempt that failed, is on disk before `ask` returns, so no call is paid twice. A job
(llm/job.py) calls it from a thread of its own.
"""

import atexit
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol

from llmrl.checks import ConfigError, Count, NonNegative, NonNegativeInt, PathText, Positive
from llmrl.llm import scripted
from llmrl.llm.transcript import ReplayError, ReplayMissing, Transcript
from llmrl.runs.stop import Paused

NOT_IDENTITY = {"identity": False}  # cannot change a result, so it is not in the run's id
NEVER_RETRIED = ("bad_request", "wrong_key", "forbidden", "not_found")
REASONS = {400: "bad_request", 401: "wrong_key", 403: "forbidden", 404: "not_found", 408: "timeout",
           422: "bad_request", 429: "rate_limit"}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """conf/llm/<name>.yaml; every key is explained in scripted.yaml."""

    kind: Literal["scripted", "litellm"]
    model: str
    provider: str | None
    temperature: NonNegative
    json: bool
    max_tokens: Count | None
    usd_per_million_tokens: tuple[NonNegative, NonNegative] | None = field(metadata=NOT_IDENTITY)
    timeout_s: Positive = field(metadata=NOT_IDENTITY)
    retries: NonNegativeInt = field(metadata=NOT_IDENTITY)
    retry_wait_s: NonNegative = field(metadata=NOT_IDENTITY)
    retry_wait_max_s: NonNegative = field(metadata=NOT_IDENTITY)
    budget_usd: NonNegative | None = field(metadata=NOT_IDENTITY)
    api_base: str | None = field(metadata=NOT_IDENTITY)
    key_env: str | None = field(metadata=NOT_IDENTITY)
    replay: PathText | None = field(metadata={"identity": "content"})

    def __post_init__(self) -> None:
        if self.kind == "scripted" and self.model != "scripted":
            raise ValueError(
                "model: llm=scripted is no language model. Choose llm=gpt-4o-mini, or llm=openai_compatible with "
                f"llm.model={self.model or '…'} and llm.api_base=…"
            )
        if self.kind == "litellm" and self.model in ("", "scripted"):
            raise ValueError("model: name the model, for example llm.model=Qwen/Qwen2.5-7B-Instruct")
        if self.api_base == "":
            raise ValueError("api_base: give the server's address, for example llm.api_base=http://localhost:8000/v1")
        if "@" in (self.api_base or ""):
            raise ValueError("api_base: holds a user or password; name an environment variable in key_env instead")


@dataclass(frozen=True)
class Reply:
    """An answer. Tokens and usd are None where nobody told."""

    text: str
    model: str  # as served
    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None


class Interruptible(Protocol):
    """What the client wants of runs/stop.py: a signal raises Stopped inside `interruptible()` and `wait()`."""

    def interruptible(self) -> AbstractContextManager[None]: ...

    def wait(self, seconds: float) -> None: ...


class _Aside:
    """The waits of a job's thread: no signal cuts them short, only the end of the training does."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def interruptible(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wait(self, seconds: float) -> None:
        if self.left.wait(seconds):
            raise LLMUnavailable("nobody waits for the answer any more")


class LLMUnavailable(Paused):
    """No attempt brought an answer."""


class BudgetReached(Paused):
    """The dollars that the run may spend are spent."""


class LLM:
    """One run's language model. `timing` receives a row per call that was really made, for timing.jsonl."""

    def __init__(
        self, config: Config, transcript: Transcript, stop: Interruptible, timing: Callable[[dict], None] | None = None
    ) -> None:
        self.config = config
        self.transcript = transcript
        self._stop, self._aside = stop, _Aside()
        self._timing = timing or (lambda row: None)
        self.tape = _open_tape(config.replay) if config.replay is not None else None
        refused = (row["reason"] == "json_mode_refused" for rows in transcript.failures.values() for row in rows)
        self._json_mode = config.json and not any(refused)

    def ask(self, messages: list[dict], *, purpose: str, index: str, json: bool = False) -> Reply:
        """The answer to chat `messages` ([{"role": …, "content": …}, …]).

        (purpose, index) names the call within the run; a retry is a new index ("12/1"). `json` asks the server for
        JSON where llm.json allows it. Raises ReplayError, LLMUnavailable, BudgetReached, or Stopped on a signal.
        """
        if self.transcript.find(purpose, index, messages) is None:
            if self.tape is not None:
                self._copy_from_tape(self.tape, messages, purpose, index)
            elif self.config.kind == "scripted":
                text = scripted.answer(messages, purpose, index)
                self._record(messages, purpose, index, Reply(text, "scripted", 0, 0, 0.0))
            else:
                self._record(messages, purpose, index, self._ask_model(messages, purpose, index, json))
        row = self.transcript.calls[purpose, index]
        return Reply(row["answer"], row["served_model"], row["prompt_tokens"], row["completion_tokens"], row["usd"])

    def prepare(self) -> None:
        """Load what the first call needs, which takes seconds, and longer beside a training in another thread."""
        if self.tape is None and self.config.kind == "litellm":
            _litellm()

    def event(self, purpose: str, index: str, event: str, **facts: Any) -> None:
        """Record beside the call what was made of its answer; said again on resume, it is not doubled."""
        self.transcript.event(purpose, index, event, **facts)

    def usage(self) -> dict[str, Any]:
        """Calls, tokens, usd and failures by reason of the whole run, as its transcript holds them."""
        return self.transcript.usage()

    def close(self) -> None:
        """Nothing more is asked or recorded, by no thread either; what was recorded stays readable."""
        self._aside.left.set()
        self.transcript.close()

    def _record(self, messages: list[dict], purpose: str, index: str, reply: Reply) -> None:
        self.transcript.call({
            "purpose": purpose, "index": index, "messages": messages, "answer": reply.text,
            "model": self.config.model, "served_model": reply.model, "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens, "usd": reply.usd,
        })  # fmt: skip

    def _copy_from_tape(self, tape: Transcript, messages: list[dict], purpose: str, index: str) -> None:
        if tape.find(purpose, index, messages) is None:
            raise ReplayMissing(
                f"llm.replay: {tape.path} holds no answer for {purpose} {index}. It holds {tape.holdings()}. Replay "
                "the same method, environment, seed and budget that made it, or ask a model: llm=…"
            )
        self.transcript.copy(tape, purpose, index)

    def _ask_model(self, messages: list[dict], purpose: str, index: str, json: bool) -> Reply:
        preflight(self.config)
        self._check_budget()
        reasons: Counter[str] = Counter()
        attempt = 0
        while True:
            json_mode = json and self._json_mode
            try:
                return self._attempt(messages, purpose, index, json_mode)
            except Exception as error:  # noqa: BLE001 (whatever a server or litellm does is an attempt that failed)
                reason, detail = self._name_failure(error, json_mode)
            self.transcript.failure(purpose, index, reason, detail)
            if reason == "json_mode_refused":  # then the prompt alone has to ask for it
                self._json_mode = False
                continue
            reasons[reason] += 1
            if attempt == self.config.retries or reason in NEVER_RETRIED:
                raise LLMUnavailable(self._unavailable(purpose, index, reasons, detail))
            self._waits().wait(min(self.config.retry_wait_s * 2**attempt, self.config.retry_wait_max_s))
            attempt += 1

    def _attempt(self, messages: list[dict], purpose: str, index: str, json_mode: bool) -> Reply:
        """One request. It runs in a thread of its own, so that a signal ends the wait at once."""
        config = self.config
        options: dict[str, Any] = {"response_format": {"type": "json_object"}} if json_mode else {}
        if config.max_tokens is not None:
            options["max_tokens"] = config.max_tokens
        # a server of one's own never gets a key that litellm would find in the environment
        key = _key(config) or ("none" if config.api_base else None)
        litellm = _litellm()
        start = time.perf_counter()
        response = _in_thread(
            lambda: litellm.completion(
                model=_litellm_name(config), messages=messages, api_base=config.api_base, api_key=key,
                temperature=config.temperature, timeout=config.timeout_s, max_retries=0, **options,
            ),
            self._waits(),
            config.timeout_s,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        self._timing({"event": "llm_call", "purpose": purpose, "index": index, "seconds": seconds})
        prompt_tokens = getattr(getattr(response, "usage", None), "prompt_tokens", None)
        completion_tokens = getattr(getattr(response, "usage", None), "completion_tokens", None)
        text = response.choices[0].message.content or ""  # None, as after a refusal, is an empty answer
        model = response.model or config.model
        return Reply(text, model, prompt_tokens, completion_tokens, _usd(config, prompt_tokens, completion_tokens))

    def _waits(self) -> Interruptible:
        """A signal interrupts what the main thread waits for; a job's wait is no reason to leave a step half done."""
        return self._stop if threading.current_thread() is threading.main_thread() else self._aside

    def _check_budget(self) -> None:
        budget, usage = self.config.budget_usd, self.usage()
        if budget is None:
            return
        if usage["calls_without_price"]:
            raise BudgetReached(
                f"llm.budget_usd: what {usage['calls_without_price']} of {usage['calls']} calls of this run cost is "
                "not known (their server told no tokens, or nobody the price), so a budget cannot be kept. The run is "
                "paused; llm.budget_usd=null goes on without one."
            )
        if usage["usd"] >= budget:
            raise BudgetReached(
                f"llm.budget_usd: {usage['usd']:.4f} of {budget:.4f} USD are spent, in {usage['calls']} calls. The run "
                "is paused; the same command with a higher llm.budget_usd goes on."
            )

    def _name_failure(self, error: Exception, json_mode: bool) -> tuple[str, str]:
        kind = type(error).__name__
        text = " ".join(str(error).split()).removeprefix(f"litellm.{kind}: ")
        text = text if text.startswith(kind) else f"{kind}: {text}"
        for secret in _secrets():
            text = text.replace(secret, "***")
        if json_mode and kind in ("BadRequestError", "UnsupportedParamsError", "UnprocessableEntityError"):
            return "json_mode_refused", text[:300]
        if isinstance(error, TimeoutError) or kind == "Timeout":
            return "timeout", text[:300]
        if kind == "APIConnectionError" or "Connection error" in text:
            return "connection", text[:300]
        status = getattr(error, "status_code", None) or 0
        return REASONS.get(status, "server_error" if status >= 500 else "bad_response"), text[:300]

    def _unavailable(self, purpose: str, index: str, reasons: Counter[str], detail: str) -> str:
        counts = ", ".join(f"{reason} {n}x" for reason, n in reasons.items())
        where = f"{self.config.model} at {self.config.api_base or 'its usual address'}"
        refused = {"wrong_key", "forbidden"} & set(reasons)
        hint = f" Look at the key in {self.config.key_env or 'llm.key_env (none is named)'}." if refused else ""
        return (
            f"The LLM {where} gave no answer to {purpose} {index}: {counts}. Last: {detail}.{hint} The run is paused, "
            "nothing is lost; the same command goes on."
        )


def preflight(config: Config) -> None:
    """Raises ConfigError before any training where a call could not be made: no key, no tape, a budget of dollars
    without a price. Shows no key."""
    if config.replay is not None:
        _open_tape(config.replay)
        return
    if config.kind != "litellm":
        return
    if config.key_env is not None and _key(config) is None:
        raise ConfigError(
            f"llm.key_env: the environment variable {config.key_env} is not set, and {config.model} needs a key there. "
            "Set it, or run without: llm=scripted (answers by rule, no language model), llm.replay=<run directory> "
            "(answers that another run recorded), llm=openai_compatible (a server of your own)"
        )
    if config.budget_usd is not None and _usd(config, 1, 1) is None:
        raise ConfigError(
            f"llm.budget_usd: nobody knows the price of {config.model}, so a budget cannot be kept. Give "
            "llm.usd_per_million_tokens=[<prompt>,<completion>], or llm.budget_usd=null"
        )


def _usd(config: Config, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
    """The price of a call; None where nobody knows it."""
    if prompt_tokens is None or completion_tokens is None:
        return None
    if config.usd_per_million_tokens is not None:
        usd_in, usd_out = config.usd_per_million_tokens
        return (prompt_tokens * usd_in + completion_tokens * usd_out) / 1e6
    try:
        prices = _litellm().cost_per_token(
            model=_litellm_name(config), prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
        )
    except Exception:  # noqa: BLE001 (litellm raises a plain Exception for a model that it has no price of)
        return None
    return float(sum(prices))


def _litellm_name(config: Config) -> str:
    return f"{config.provider}/{config.model}" if config.provider else config.model


def _key(config: Config) -> str | None:
    return (os.environ.get(config.key_env or "", "").strip() or None) if config.key_env else None


def _secrets() -> list[str]:
    """Whatever in the environment looks like a key: a server's error text may repeat it."""
    named = (value.strip() for name, value in os.environ.items() if name.endswith(("KEY", "TOKEN", "SECRET")))
    return sorted((value for value in named if len(value) >= 6), key=len, reverse=True)


def _open_tape(replay: str) -> Transcript:
    path = Path(replay)
    path = path / "llm.jsonl" if path.is_dir() else path
    try:
        return Transcript(path, read_only=True)
    except (OSError, ReplayError, KeyError, TypeError) as error:
        raise ConfigError(f"llm.replay: {path} is no transcript of LLM calls ({error}); name a run directory") from None


def _join(thread: threading.Thread) -> None:
    if thread.is_alive():
        thread.join(1.0)


def _in_thread(call: Callable[[], Any], stop: Interruptible, timeout_s: float) -> Any:
    """What `call` returns or raises; Stopped on a signal, TimeoutError after `timeout_s`. A late answer is lost."""
    outcome: list[tuple[Any, Exception | None]] = []
    done = threading.Event()

    def work() -> None:
        try:
            outcome.append((call(), None))
        except Exception as error:  # noqa: BLE001 (raised again below, where it is waited for)
            outcome.append((None, error))
        finally:
            done.set()

    thread = threading.Thread(target=work, daemon=True, name="llm-call")
    # An interpreter that ends while a thread comes back from a call can hang for ever: let it come back first.
    come_back = partial(_join, thread)
    atexit.register(come_back)
    with stop.interruptible():
        thread.start()
        # litellm's own time-out restarts with every byte; this one is for the whole answer
        if not done.wait(timeout_s + 0.5):
            raise TimeoutError(f"no whole answer within {timeout_s:g} s")
    atexit.unregister(come_back)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@cache
def _litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import downloads a price list
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm
