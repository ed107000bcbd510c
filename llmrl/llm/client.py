"""Asking a language model: one client for scripted, hosted and self-served models and for replayed transcripts.

`LLM.ask` looks into the run's own llm.jsonl, then into the one of `llm.replay`, and only then asks a model. What a
model answered, and every attempt that failed, is on disk before `ask` returns, so no call is paid twice. A job
(llm/job.py) calls it from a thread of its own.
"""

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.checks import ConfigError
from llmrl.llm import failures, scripted
from llmrl.llm.answer import CUT, Answer, believed, clean, read_body, read_completion, unfinished, without_thoughts
from llmrl.llm.config import Config
from llmrl.llm.forms import REFUSED, Form, Forms, Structured, response_format
from llmrl.llm.redact import check_key, key_of, redact
from llmrl.llm.transcript import ReplayError, ReplayMissing, Transcript
from llmrl.llm.waits import Aside, Interruptible, LLMRefused, LLMUnavailable, in_thread
from llmrl.runs import seeding
from llmrl.runs.stop import Paused

if TYPE_CHECKING:
    from llmrl.llm.local.server import LocalServer

DETAIL_CHARS = 300
BODY_BYTES_PER_CHAR = 16  # an escaped character, and as much again of what reasoned beside the answer
BODY_BYTES = 1 << 20  # and this much beside


@dataclass(frozen=True)
class Reply:
    """An answer. Tokens and usd are None where nobody told."""

    text: str  # without the model's thoughts
    model: str  # as served
    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None
    finish_reason: str | None = None
    fault: str = ""  # "truncated" where the answer, or a thought before it, was not ended
    why: str = ""  # it was not


class BudgetReached(Paused):
    """The dollars that the run may spend are spent."""


class LLM:
    """One run's language model. `timing` receives a row per call that was really made, for timing.jsonl; `waiting`
    what is waited for, where training waits, and whether a try has just failed."""

    def __init__(
        self,
        config: Config,
        transcript: Transcript,
        stop: Interruptible,
        timing: Callable[[dict], None] | None = None,
        waiting: Callable[[str, bool], None] | None = None,
    ) -> None:
        self.config = config
        self.transcript = transcript
        self._stop, self._aside = stop, Aside()
        self._timing = timing or (lambda row: None)
        self._waiting = waiting or (lambda text, failed: None)
        self.recording = _open_recording(config.replay) if config.replay is not None else None
        self._forms = Forms(config.json, (row["reason"] for rows in transcript.failures.values() for row in rows))
        self._local: LocalServer | None = None
        if self.recording is None and config.kind == "local":
            from llmrl.llm.local import server

            self._local = server.LocalServer(config, transcript)

    def ask(self, messages: list[dict], *, purpose: str, index: str, schema: type[Structured] | None = None) -> Reply:
        """The answer to chat `messages` ([{"role": …, "content": …}, …]).

        (purpose, index) names the call within the run; a retry is a new index ("12/1"). `schema`: what the answer
        consists of, which the server is asked for as far as it can (llm/forms.py); where it cannot, the messages alone
        say so. Raises ReplayError, LLMUnavailable, LLMRefused, BudgetReached, or Stopped on a signal. A reply with a
        `fault` is not to be read.
        """
        if self.transcript.find(purpose, index, messages) is None:
            if self.recording is not None:
                self._copy_recorded(self.recording, messages, purpose, index)
            elif self.config.kind == "scripted":
                text = scripted.answer(messages, purpose, index)
                self._record(messages, purpose, index, Reply(text, "scripted", 0, 0, 0.0, "stop"))
            else:
                self._record(messages, purpose, index, self._ask_model(messages, purpose, index, schema))
        row = self.transcript.calls[purpose, index]
        text, ended = without_thoughts(row["answer"])
        finish, tokens = row.get("finish_reason"), row["completion_tokens"]  # the former is not in older transcripts
        why = unfinished(ended, finish, tokens, self.config.max_tokens)
        return Reply(
            text, row["served_model"], row["prompt_tokens"], tokens, row["usd"], finish, "truncated" if why else "", why
        )

    def prepare(self) -> None:
        """Load what the first call needs, which takes seconds, and longer beside a training in another thread."""
        if self.recording is None and self.config.kind != "scripted":
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
        if self._local is not None:
            self._local.close()

    def end(self) -> None:
        """The run has ended: nobody asks a local model any more."""
        if self._local is not None:
            self.close()

    def _record(self, messages: list[dict], purpose: str, index: str, reply: Reply) -> None:
        self.transcript.call({
            "purpose": purpose, "index": index, "messages": messages, "answer": reply.text,
            "model": self.config.model, "served_model": reply.model, "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens, "usd": reply.usd, "finish_reason": reply.finish_reason,
        })  # fmt: skip

    def _copy_recorded(self, recording: Transcript, messages: list[dict], purpose: str, index: str) -> None:
        if recording.find(purpose, index, messages) is None:
            raise ReplayMissing(
                f"llm.replay: {recording.path} holds no answer for {purpose} {index}. It holds {recording.holdings()}. "
                "Replay the same method, environment, seed and budget that made it, or ask a model: llm=…"
            )
        self.transcript.copy(recording, purpose, index)

    def _ask_model(self, messages: list[dict], purpose: str, index: str, schema: type[Structured] | None) -> Reply:
        from llmrl.llm import wire  # with httpx, which takes its time

        preflight(self.config)
        self._check_budget()
        config = self.config
        reasons: Counter[str] = Counter()
        attempt = 0
        while True:
            form = self._forms.of(schema)
            call = f"{purpose} {index}, try {attempt + 1} of {config.retries + 1}"
            most = BODY_BYTES + BODY_BYTES_PER_CHAR * config.max_answer_chars
            exchange = wire.Exchange(most, time.monotonic() + config.timeout_s)
            server = self._address(purpose, index)
            start = time.perf_counter()
            try:
                options = _options(config, (purpose, index), form, schema)
                answer = self._attempt(messages, options, exchange, call, *server)
                seconds = time.perf_counter() - start
                self._timing({"event": "llm_call", "purpose": purpose, "index": index, "seconds": seconds})
                return self._received(messages, answer)
            except Exception as error:  # noqa: BLE001 (whatever a server or litellm does is an attempt that failed)
                status = exchange.status() or getattr(error, "status_code", None) or 0
                reason = failures.name(error, status, REFUSED.get(form, ""))
                detail = clean(redact(failures.text(error), config.key_env))[:DETAIL_CHARS]
                if self._local is not None and (died := self._local.death(0.5)):
                    reason, detail = failures.SERVER_DIED, died
            self.transcript.failure(purpose, index, reason, detail)
            if reason == REFUSED.get(form):  # then in a less strict one
                self._forms.refuse(form)
                continue
            reasons[reason] += 1
            if failures.is_permanent(reason, status):
                raise LLMRefused(self._no_answer(purpose, index, reasons, detail, "The run has failed"))
            if reason == failures.SERVER_DIED and reasons[reason] == 1:
                continue  # with a new one
            if attempt == config.retries or reason == failures.SERVER_DIED:
                raise LLMUnavailable(self._no_answer(purpose, index, reasons, detail, "The run is paused"))
            wait = min(config.retry_wait_s * 2**attempt, config.retry_wait_max_s)
            wait = max(wait, min(exchange.asked_wait(), config.retry_after_max_s))
            self._tell(
                f"waits {wait:,.0f} s after {call}: {reason}.{failures.hint(reasons, config.key_env)}", failed=True
            )
            self._waits().wait(wait)
            attempt += 1

    def _address(self, purpose: str, index: str) -> tuple[str | None, str | None]:
        """Where the model is asked, and with which key; a local model's server is started first."""
        if self._local is None:
            # a server of one's own never gets a key that litellm would find in the environment
            return self.config.api_base, key_of(self.config.key_env) or ("none" if self.config.api_base else None)
        return self._local.reached(purpose, index, self._waits(), self._tell)

    def _attempt(
        self, messages: list[dict], options: dict[str, Any], exchange: Any, call: str,
        api_base: str | None, key: str | None,
    ) -> Answer:  # fmt: skip
        """One request with these parameters. It runs in a thread of its own, so that a signal ends the wait at once."""
        from llmrl.llm import wire

        config = self.config
        litellm = _litellm()

        def work() -> Answer:
            wire.watch(exchange)
            response = error = None
            try:
                response = litellm.completion(
                    model=_litellm_name(config), messages=messages, api_base=api_base, api_key=key,
                    timeout=config.timeout_s, max_retries=0, **options,
                )  # fmt: skip
            except Exception as failed:  # noqa: BLE001 (what the server said counts, whatever litellm makes of it)
                error = failed
            return _read(exchange, response, error)

        hint = failures.HINTS["timeout"]
        told = f"waits for {call}: {{:.0f}} of {config.timeout_s:g} s ({hint})"
        return in_thread(work, self._waits(), config.timeout_s, lambda seconds: self._tell(told.format(seconds)))

    def _received(self, messages: list[dict], answer: Answer) -> Reply:
        """What is kept of an answer."""
        text, finish, model = (
            clean(redact(part or "", self.config.key_env))
            for part in (answer.text, answer.finish_reason, answer.model or self.config.model)
        )
        if len(text) > self.config.max_answer_chars:
            text, finish = text[: self.config.max_answer_chars], CUT
        tokens = believed(messages, answer)
        return Reply(text, model[:DETAIL_CHARS], *tokens, _usd(self.config, *tokens), finish[:DETAIL_CHARS] or None)

    def _tell(self, text: str, *, failed: bool = False) -> None:
        if threading.current_thread() is threading.main_thread():  # a job's call is not what training waits for
            self._waiting(text, failed)

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

    def _no_answer(self, purpose: str, index: str, reasons: Counter[str], detail: str, so: str) -> str:
        counts = ", ".join(f"{reason} {n}x" for reason, n in reasons.items())
        usual = "its usual address" if self._local is None else "this machine"
        where = f"{self.config.model} at {self.config.api_base or usual}"
        return (
            f"The LLM {where} gave no answer to {purpose} {index}: {counts}. Last: {detail}."
            f"{failures.hint(reasons, self.config.key_env)} {so}, nothing is lost; the same command goes on."
        )


def preflight(config: Config) -> None:
    """Raises ConfigError before any training where a call could not be made: no key, no recording, a model or a
    parameter that litellm does not know, a budget of dollars without a price. Asks nobody, and shows no key."""
    if config.replay is not None:
        _open_recording(config.replay)
        return
    if config.kind == "scripted":
        return
    if config.kind == "local":
        from llmrl.llm.local import server

        server.check(config)
    if config.key_env is not None and key_of(config.key_env) is None:
        raise ConfigError(
            f"llm.key_env: the environment variable {config.key_env} is not set, and {config.model} needs a key there. "
            "Set it, or run without: llm=scripted (answers by rule, no language model), llm.replay=<run directory> "
            "(answers that another run recorded), llm=openai_compatible (a server of your own)"
        )
    if config.key_env is not None:
        check_key(config.key_env)
    _check_request(config)
    if config.budget_usd is not None and _usd(config, 1, 1) is None:
        raise ConfigError(
            f"llm.budget_usd: nobody knows the price of {config.model}, so a budget cannot be kept. Give "
            "llm.usd_per_million_tokens=[<prompt>,<completion>], or llm.budget_usd=null"
        )


def _check_request(config: Config) -> None:
    """Raises ConfigError where litellm would not send a request of this model with these parameters."""
    litellm = _litellm()
    named = _litellm_name(config)
    try:
        model, provider, _, _ = litellm.get_llm_provider(named)
    except Exception:  # noqa: BLE001 (litellm has several)
        raise ConfigError(
            f"llm.model: litellm knows no model {named!r}, and its name does not say who serves it. Correct it, write "
            "the provider in front (such as deepinfra/…), or ask a server of your own: llm=openai_compatible"
        ) from None
    options = _options(config, ("", ""))
    try:
        litellm.utils.get_optional_params(model=model, custom_llm_provider=provider, **options)
    except Exception as error:  # noqa: BLE001
        told = failures.text(error).partition(" To drop")[0]
        raise ConfigError(
            f"llm: {named} cannot be asked so: {told}. Leave a parameter to the model (llm.temperature=null, "
            "llm.max_tokens=null, llm.seed=null), or give a value that it takes"
        ) from None
    if config.key_env is None and config.api_base is None and config.kind != "local":
        missing = [name for name in litellm.validate_environment(named)["missing_keys"] if name.endswith("KEY")]
        if missing:
            raise ConfigError(
                f"llm.key_env: {named} needs a key, and no variable is named. Give llm.key_env={missing[0]}"
            )


def _options(
    config: Config, call: tuple[str, str], form: Form = "prompt", schema: type[Structured] | None = None
) -> dict[str, Any]:
    """The parameters of a request; litellm makes max_completion_tokens of max_tokens where a model wants it. Every call
    has a seed of its own, so that a server with a seed does not answer a further try as the one before."""
    options: dict[str, Any] = {"temperature": config.temperature, "max_tokens": config.max_tokens}
    options["seed"] = None if config.seed is None else seeding.integer(config.seed, "llm", *call)
    options["response_format"] = response_format(form, schema)
    return {name: value for name, value in options.items() if value is not None}


def _read(exchange: Any, response: Any, error: Exception | None) -> Answer:
    """The answer of a request: what stands in the body itself where that is a chat completion, else what litellm made
    of it. Raises what went wrong."""
    if exchange.refused is not None:
        raise exchange.refused
    if (content := exchange.body()) is not None:
        body = read_body(content)
        if response is None or not isinstance(body, dict) or "choices" in body:
            return read_completion(body)
    if error is not None:
        raise error
    return read_completion(response.model_dump())


def _usd(config: Config, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
    """The price of a call; None where nobody knows it."""
    if prompt_tokens is None or completion_tokens is None:
        return None
    if config.usd_per_million_tokens is not None:
        usd_in, usd_out = config.usd_per_million_tokens
        return (prompt_tokens * usd_in + completion_tokens * usd_out) / 1e6
    try:
        usd = float(sum(_litellm().cost_per_token(
            model=_litellm_name(config), prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
        )))  # fmt: skip
    except Exception:  # noqa: BLE001 (litellm raises a plain Exception for a model that it has no price of)
        return None
    return usd if 0 <= usd < math.inf else None


def _litellm_name(config: Config) -> str:
    return f"{config.provider}/{config.model}" if config.provider else config.model


def _open_recording(replay: str) -> Transcript:
    path = Path(replay)
    path = path / "llm.jsonl" if path.is_dir() else path
    try:
        return Transcript(path, read_only=True)
    except (OSError, ReplayError, KeyError, TypeError) as error:
        raise ConfigError(f"llm.replay: {path} is no transcript of LLM calls ({error}); name a run directory") from None


@cache
def _litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import downloads a price list
    import litellm
    from litellm.llms.custom_httpx.http_handler import get_ssl_configuration

    from llmrl.llm import wire

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.client_session = wire.session(get_ssl_configuration())
    litellm.sync_transport = wire.Through(litellm.client_session)
    return litellm
