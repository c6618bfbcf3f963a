"""Annotator api: any OpenAI-compatible server, through the openai client."""

from __future__ import annotations

import logging
import os
import random
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

VARIABLE = "OPENAI_API_KEY"
LOST = 5
"""After this many requests in a row without an answer the server is given up for now."""
BACKOFF = (0.5, 30.0)
"""Seconds before a second try after garbage, doubled each time, and at most."""
NO_QUOTA = "insufficient_quota"
_STOPPING = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


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

    The client's own retries cover refusals (429, with ``Retry-After``), errors of the server, cut connections and
    timeouts; answers that are no chat completion are asked for again here.

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
        self.tries = 0
        """HTTP requests sent so far; those beyond one an answer were retries."""
        base_url = endpoint["base_url"] or os.environ.get("OPENAI_BASE_URL")
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
            max_retries=endpoint["retries"],
            timeout=endpoint["timeout_seconds"],
            http_client=openai.DefaultHttpxClient(
                event_hooks={"request": [pace.wait, self._count], "response": [_spare]}
            ),
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
        pause, longest = BACKOFF
        for _ in range(self.endpoint["retries"]):
            try:
                return self._ask(request)
            except _Garbage:
                time.sleep(pause * (1 + random.random() / 4))
                pause = min(2 * pause, longest)
        return self._ask(request)

    def _ask(self, request: Request) -> Answer:
        try:
            reply = self.client.chat.completions.create(
                model=self.model,
                messages=request.messages,  # type: ignore[arg-type]
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                seed=request.attempt,
                # A server that minds it bills one request once, also where its reply was lost on the way.
                extra_headers={"Idempotency-Key": key(self.identity, request)},
            )
        except openai.BadRequestError:
            return Answer("", REFUSED, 0, 0)
        except _STOPPING as error:
            raise UserError(self._stopped(error)) from None
        except openai.APIStatusError as error:
            if error.status_code == 402 or error.code == NO_QUOTA:
                raise UserError(self._stopped(error)) from None
            raise
        except ValueError as error:
            raise _Garbage(f"no JSON ({error})") from error
        return _read(reply)

    def _plain(self, error: Exception) -> str:
        text = str(error).split("\n")[0][:200]
        return text.replace(self.secret, "***") if self.secret else text

    def _stopped(self, error: openai.APIStatusError) -> str:
        return (
            f"{self.where} refuses annotate.model={self.model} ({error.status_code}: {self._plain(error)}); mend the "
            f"key in {VARIABLE}, the quota or the name, then run the same command again: every answer so far is kept"
        )


def _spare(response: Any) -> None:
    """Tell the client not to try again where a 429 means that the account is empty, and not that we are too quick."""
    if response.status_code == 429 and NO_QUOTA.encode() in response.read():
        response.headers["x-should-retry"] = "false"


class _Garbage(ValueError):
    """A reply that is no chat completion."""


def _read(reply: Any) -> Answer:
    try:
        choice = reply.choices[0]
        text, used = choice.message.content, reply.usage
        if isinstance(reply, ChatCompletion) and isinstance(text, str):
            tokens = (used.prompt_tokens, used.completion_tokens) if used else (0, 0)
            return Answer(text, str(choice.finish_reason), *tokens)
    except (AttributeError, IndexError, TypeError):
        pass
    raise _Garbage(f"no chat completion but {str(reply)[:80]!r}")
