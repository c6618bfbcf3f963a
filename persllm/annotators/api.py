"""Annotator api: any OpenAI-compatible server, through the openai client."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from persllm.annotators import REFUSED, Answer, Request, Unanswered
from persllm.annotators.answers import key
from persllm.errors import UserError
from persllm.stop import Interrupted, stop_asked
from persllm.validate import ADDRESS, is_plain_address

VARIABLE = "OPENAI_API_KEY"
LOST = 5
"""After this many requests in a row without an answer the server is given up for now."""
BACKOFF, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a second try, doubled each time, and at most."""
LIMIT, OTHER_LIMIT = "max_tokens", "max_completion_tokens"
"""The parameter that limits an answer; newer models want the other, and say so."""
NO_QUOTA = "insufficient_quota"
PASSING = (408, 409, 429)
"""What another try may mend, beside the server's own errors (from 500 on)."""
_OF_ONE = re.compile(
    r"context|too long|request too large|reduce the length|input.{0,3}token|content.?(filter|policy|management)",
    re.IGNORECASE,
)
"""What servers say where they refuse one request for what it holds, and not all of them for how they are made."""


class _Pace:
    """Lets requests go at most so many a minute, evenly spread over all threads."""

    def __init__(self, per_minute: int | None) -> None:
        self.gap = 60 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def pause(self) -> float:
        """Take the next place in the line; return how many seconds off it is."""
        with self.lock:
            now = time.monotonic()
            pause = max(0.0, self.next - now)
            self.next = max(now, self.next) + self.gap
        return pause


def _is_local(base_url: str | None) -> bool:
    return base_url is not None and urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")


class Api:
    """A model behind an OpenAI-compatible server.

    What may pass is tried again: a 429 (after its ``Retry-After``) unless the account is empty, a 408 or 409, an error
    of the server, a cut connection, a timeout, a reply that is no chat completion.

    Args:
        model: the name that the server knows it by.
        endpoint: the section's ``endpoint``.
        section: whose keys messages name, ``annotate`` or ``judge``.

    Raises:
        UserError: no key in the environment, where the server is not this machine, or one that no header can hold.
    """

    def __init__(self, model: str, endpoint: dict[str, Any], section: str = "annotate") -> None:
        self.section = section
        self.name = f"api:{model}"
        self.identity = {"api": model}
        self.model = model
        self.endpoint = endpoint
        self.limit = LIMIT
        self.tries = 0
        base_url = endpoint["base_url"] or os.environ.get("OPENAI_BASE_URL")
        if base_url and not is_plain_address(base_url):
            raise UserError(f"OPENAI_BASE_URL: expected {ADDRESS}")
        self.secret = os.environ.get(VARIABLE, "")
        if not self.secret and not _is_local(base_url):
            raise UserError(f"{section}=api: no key; put it into the environment variable {VARIABLE}")
        if not re.fullmatch("[!-~]*", self.secret):
            raise UserError(
                f"{VARIABLE}: expected a key of ASCII letters, digits and marks without white space; set it anew (a "
                "curly quotation mark or a line break may have been copied along)"
            )
        self.where = base_url or "https://api.openai.com/v1"
        self.pace = _Pace(endpoint["requests_per_minute"])
        self.lock = threading.Lock()
        self.client = openai.OpenAI(
            api_key=self.secret or "none",
            base_url=base_url,
            # Tried again here, where a stop ends the trying.
            max_retries=0,
            timeout=endpoint["timeout_seconds"],
        )

    def answer(
        self, requests: list[Request], done: set[int], go_on: Callable[[], bool]
    ) -> Iterator[tuple[int, Answer]]:
        """Yield answers as they come, ``endpoint.concurrency`` at once; what is sent is always waited for.

        Raises:
            UserError: the server refuses us altogether (key, quota, model); nothing is tried again.
            Unanswered: some requests, or several in a row, got no answer after all tries.
            Interrupted: a stop was asked for.
        """
        wanted = [index for index in range(len(requests)) if index not in done]
        left = iter(wanted)
        answered = 0
        lost: list[str] = []
        refusal: UserError | None = None
        in_a_row = 0
        pool = ThreadPoolExecutor(self.endpoint["concurrency"])
        running: dict[Future[Answer], int] = {}

        def halted() -> bool:
            return stop_asked() or refusal is not None or not go_on()

        try:
            while True:
                full = halted() or in_a_row >= LOST
                while not full and len(running) < self.endpoint["concurrency"]:
                    index = next(left, None)
                    if index is None:
                        break
                    running[pool.submit(self._one, requests[index], halted)] = index
                if not running:
                    break
                ready, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ready:
                    index = running.pop(future)
                    try:
                        found = future.result()
                    except UserError as error:
                        refusal = error
                        continue
                    except _Stopped:
                        continue
                    except (openai.OpenAIError, _Garbage) as error:
                        lost.append(self._plain(error))
                        in_a_row += 1
                        continue
                    in_a_row = 0
                    answered += 1
                    yield index, found
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if refusal:
            raise refusal
        if stop_asked():
            raise Interrupted
        if lost:
            raise Unanswered(
                f"{len(wanted) - answered} requests to {self.where} got no answer (the last: {lost[-1]}); every answer "
                "so far is kept, and the same command asks for the others only"
            )

    def _one(self, request: Request, halted: Callable[[], bool]) -> Answer:
        """Return an answer, after as many tries as it takes and may take; once halted, nothing more is sent."""
        pause = BACKOFF
        left = self.endpoint["retries"]
        while True:
            try:
                return self._ask(request, halted)
            except (_Garbage, openai.APIError) as error:
                if not left:
                    raise
                left -= 1
                headers = getattr(getattr(error, "response", None), "headers", {})
                _sleep(max(pause * (1 + random.random() / 4), _seconds(headers.get("retry-after"))), halted)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _ask(self, request: Request, halted: Callable[[], bool]) -> Answer:
        _sleep(self.pace.pause(), halted)
        if halted():
            raise _Stopped("nothing more is to be sent")
        # Other threads may learn the other name while this request is under way.
        sent = self.limit
        limit: dict[str, Any] = {sent: request.max_tokens}
        with self.lock:
            self.tries += 1
        try:
            reply = self.client.chat.completions.create(
                model=self.model,
                messages=request.messages,  # type: ignore[arg-type]
                temperature=request.temperature,
                seed=request.attempt,
                # A server that minds it bills one request once, also where its reply was lost on the way.
                extra_headers={"Idempotency-Key": key(self.identity, request)},
                **limit,
            )
        except openai.APIStatusError as error:
            if _wants_other_limit(error, sent):
                self.limit = OTHER_LIMIT
                return self._ask(request, halted)
            return self._status(error)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _Garbage(f"no JSON ({error})") from error
        return _read(reply)

    def _status(self, error: openai.APIStatusError) -> Answer:
        """Return what a refusal means for one request, or raise what it means for all."""
        if (error.status_code in PASSING or error.status_code >= 500) and error.code != NO_QUOTA:
            raise error
        if _is_of_one(error):
            return Answer(self._plain(error), REFUSED, 0, 0)
        place = ", the address (which mostly ends in /v1)" if error.status_code in (404, 405) else ""
        place = (
            f", which is {self.section}.max_tokens here" if LIMIT in str(error) or OTHER_LIMIT in str(error) else place
        )
        raise UserError(
            f"{self.where} refuses {self.section}.model={self.model} ({error.status_code}: {self._plain(error)}); mend "
            f"what it names{place} (the key is read from {VARIABLE}), then run the same command again: every answer so "
            "far is kept"
        ) from None

    def _plain(self, error: Exception) -> str:
        text = _whole(str(error).split("\n")[0][:200])
        return text.replace(self.secret, "***") if self.secret else text


def _seconds(told: str | None) -> float:
    """Return what a header Retry-After asks for, where it is a number, and at most a minute."""
    try:
        return min(60.0, float(told or 0))
    except ValueError:
        return 0.0


def _is_of_one(error: openai.APIStatusError) -> bool:
    return error.status_code in (400, 413, 422) and _OF_ONE.search(str(error)) is not None


def _wants_other_limit(error: openai.APIStatusError, sent: str) -> bool:
    """Return whether a request that was sent with ``sent`` is refused for that name, as newer models do."""
    asks = error.status_code == 400 and OTHER_LIMIT in str(error)
    return sent == LIMIT and asks and not _is_of_one(error)


def _whole(text: str) -> str:
    """Return a text without half characters, which JSON can hold and UTF-8 cannot."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _sleep(seconds: float, halted: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not halted() and time.monotonic() < until:
        time.sleep(min(0.2, max(0.0, until - time.monotonic())))


class _Stopped(RuntimeError):
    """A request that was not sent (again), because nothing more is to be."""


class _Garbage(ValueError):
    """A reply that is no chat completion."""


def _read(reply: Any) -> Answer:
    try:
        choice, used = reply.choices[0], reply.usage
        if isinstance(reply, ChatCompletion):
            counts = [getattr(used, name, None) for name in ("prompt_tokens", "completion_tokens")]
            tokens = counts if all(type(count) is int for count in counts) else (None, None)
            # A filter, or a model that thought until its tokens were spent, leaves no content: an answer all the same.
            return Answer(_whole(choice.message.content or ""), _whole(str(choice.finish_reason)), *tokens)
    except (AttributeError, IndexError, TypeError):
        pass
    raise _Garbage(f"no chat completion but {str(reply)[:80]!r}")
