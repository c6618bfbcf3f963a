"""Annotator api: any OpenAI-compatible server, through the openai client."""

from __future__ import annotations

import logging
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
NO_QUOTA = "insufficient_quota"
_PASSING = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.ConflictError)
"""What another try may mend; a timeout is a kind of the first."""
_OF_ONE = re.compile(r"context|too long|tokens|content.?(filter|policy|management)", re.IGNORECASE)
"""What servers say where they refuse one request for what it holds, and not all of them for how they are made."""


class _Pace:
    """Lets requests go at most so many a minute, evenly spread over all threads."""

    def __init__(self, per_minute: int | None) -> None:
        self.gap = 60 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def wait(self, *_: Any) -> None:
        with self.lock:
            now = time.monotonic()
            pause = max(0.0, self.next - now)
            self.next = max(now, self.next) + self.gap
        time.sleep(pause)


def _is_local(base_url: str | None) -> bool:
    return base_url is not None and urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")


class Api:
    """A model behind an OpenAI-compatible server.

    What may pass is tried again: a 429 (after its ``Retry-After``) unless the account is empty, an error of the server,
    a cut connection, a timeout, a reply that is no chat completion.

    Args:
        model: the name that the server knows it by.
        endpoint: the section ``annotate.endpoint``.

    Raises:
        UserError: no key in the environment, where the server is not this machine.
    """

    def __init__(self, model: str, endpoint: dict[str, Any]) -> None:
        self.name = f"api:{model}"
        self.identity = {"api": model}
        self.model = model
        self.endpoint = endpoint
        self.limit = "max_tokens"
        """The parameter that limits an answer; newer models want another, and say so."""
        self.tries = 0
        """HTTP requests sent so far; those beyond one an answer were retries."""
        base_url = endpoint["base_url"] or os.environ.get("OPENAI_BASE_URL")
        if base_url and not is_plain_address(base_url):
            raise UserError(f"OPENAI_BASE_URL: expected {ADDRESS}")
        self.secret = os.environ.get(VARIABLE, "")
        if not self.secret and not _is_local(base_url):
            raise UserError(f"annotate=api: no key; put it into the environment variable {VARIABLE}")
        self.where = base_url or "https://api.openai.com/v1"
        # httpx logs every address at INFO, and an address may carry what it should not.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        pace = _Pace(endpoint["requests_per_minute"])
        self.client = openai.OpenAI(
            api_key=self.secret or "none",
            base_url=base_url,
            # Tried again here, where a stop ends the trying.
            max_retries=0,
            timeout=endpoint["timeout_seconds"],
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [pace.wait, self._count]}),
        )

    def _count(self, _: Any) -> None:
        self.tries += 1

    def answer(
        self, requests: list[Request], done: set[int], go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[int, Answer]]:
        """Yield answers as they come, ``endpoint.concurrency`` at once; what is under way is always waited for.

        Raises:
            UserError: the server refuses us altogether (key, quota, model); nothing is tried again.
            Unanswered: some requests, or several in a row, got no answer after all tries.
            Interrupted: a stop was asked for.
        """
        left = iter([index for index in range(len(requests)) if index not in done])
        lost: list[str] = []
        refusal: UserError | None = None
        in_a_row = 0
        pool = ThreadPoolExecutor(self.endpoint["concurrency"])
        running: dict[Future[Answer], int] = {}
        try:
            while True:
                halted = stop_asked() or refusal or in_a_row >= LOST or not go_on()
                while not halted and len(running) < self.endpoint["concurrency"]:
                    index = next(left, None)
                    if index is None:
                        break
                    running[pool.submit(self._one, requests[index])] = index
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
                    yield index, found
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if refusal:
            raise refusal
        if stop_asked():
            raise Interrupted
        if lost:
            left_over = len(lost) + sum(1 for _ in left)
            raise Unanswered(
                f"{left_over} requests to {self.where} got no answer (the last: {lost[-1]}); every answer so far is "
                "kept, and the same command asks for the others only"
            )

    def _one(self, request: Request) -> Answer:
        """Return an answer, after as many tries as it takes and may take; a stop ends the trying."""
        pause = BACKOFF
        for left in range(self.endpoint["retries"], -1, -1):
            if stop_asked():
                break
            try:
                return self._ask(request)
            except (_Garbage, *_PASSING) as error:
                if not left:
                    raise
                headers = getattr(getattr(error, "response", None), "headers", {})
                _sleep(max(pause * (1 + random.random() / 4), _seconds(headers.get("retry-after"))))
                pause = min(2 * pause, LONGEST_PAUSE)
        raise _Stopped("a stop was asked for")

    def _ask(self, request: Request) -> Answer:
        limit: dict[str, Any] = {self.limit: request.max_tokens}
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
            return self._status(request, error)
        except ValueError as error:
            raise _Garbage(f"no JSON ({error})") from error
        return _read(reply)

    def _status(self, request: Request, error: openai.APIStatusError) -> Answer:
        """Return what a refusal means for one request, or raise what it means for all."""
        if isinstance(error, _PASSING) and error.code != NO_QUOTA:
            raise error
        if error.status_code == 400 and "max_completion_tokens" in str(error) and self.limit == "max_tokens":
            self.limit = "max_completion_tokens"
            return self._ask(request)
        if error.status_code in (400, 413, 422) and _OF_ONE.search(str(error)):
            return Answer("", REFUSED, 0, 0)
        path = ", the address (which mostly ends in /v1)" if error.status_code in (404, 405) else ""
        raise UserError(
            f"{self.where} refuses annotate.model={self.model} ({error.status_code}: {self._plain(error)}); mend what "
            f"it names{path} (the key is read from {VARIABLE}), then run the same command again: every answer so far "
            "is kept"
        ) from None

    def _plain(self, error: Exception) -> str:
        text = str(error).split("\n")[0][:200]
        return text.replace(self.secret, "***") if self.secret else text


def _seconds(told: str | None) -> float:
    """Return what a header Retry-After asks for, where it is a number, and at most a minute."""
    try:
        return min(60.0, float(told or 0))
    except ValueError:
        return 0.0


def _sleep(seconds: float) -> None:
    until = time.monotonic() + seconds
    while not stop_asked() and time.monotonic() < until:
        time.sleep(min(0.2, max(0.0, until - time.monotonic())))


class _Stopped(RuntimeError):
    """A request given up because a stop was asked for."""


class _Garbage(ValueError):
    """A reply that is no chat completion."""


def _read(reply: Any) -> Answer:
    try:
        choice, used = reply.choices[0], reply.usage
        if isinstance(reply, ChatCompletion):
            tokens = (used.prompt_tokens, used.completion_tokens) if used else (0, 0)
            # A filter, or a model that thought until its tokens were spent, leaves no content: an answer all the same.
            return Answer(choice.message.content or "", str(choice.finish_reason), *tokens)
    except (AttributeError, IndexError, TypeError):
        pass
    raise _Garbage(f"no chat completion but {str(reply)[:80]!r}")
