"""JSON over HTTP with a server that judges: patient with what passes, brief with what does not."""

from __future__ import annotations

import email.utils
import json
import os
import threading
import time
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential, wait_random
from tenacity.nap import sleep_using_event

# Our choice: ten attempts with pauses of 1, 2, 4, 8, 16 and then 30 seconds outlast a server's restart of two minutes.
ATTEMPTS = 10
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

# Our choice: a server that asks for a longer pause than this is not waited for.
LONGEST_RETRY_AFTER = 300.0

# Our choice, not measured: a reply of some hundred tokens from a server that has others to answer.
TIMEOUT = 120.0
CONNECT_TIMEOUT = 10.0

# Passing by their meaning (RFC 9110, RFC 6585): time-out, conflict, too many requests; so is every 5xx.
PASSING = frozenset({408, 409, 429})

# What a message quotes of an answer that is not understood; our choice: a line or two.
QUOTED = 200


class JudgeServerError(RuntimeError):
    """A judge server cannot be had or cannot be understood; one line says which, why, and what to do."""


class _Passing(JudgeServerError):
    """Another attempt may go better, `after` seconds or more from now."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _Unreachable(_Passing):
    """Nothing answered."""


class JudgeServer:
    """JSON over HTTP with a bearer token from the environment. One object may be used by several threads.

    A server that never answered, or that was given up after `attempts`, gets one attempt until it answers again: a
    wrong address is told at once, and a dead server does not cost its whole patience for every image.
    """

    def __init__(
        self,
        url: str,
        token_variable: str,
        *,
        timeout: float = TIMEOUT,
        attempts: int = ATTEMPTS,
        pause: float = FIRST_PAUSE,
    ) -> None:
        """The server is not asked for anything yet.

        Args:
            url: http or https, without a user name or a password in it.
            token_variable: environment variable of the token, read at each call; without it no token is sent.
            timeout: seconds without a byte until a call counts as unanswered.
            attempts: calls for one answer, all in all.
            pause: seconds before the second attempt; doubled for each further one, up to `LONGEST_PAUSE`.

        Raises:
            JudgeServerError: not such an address.
        """
        self.url = _checked(url)
        self.stopped = threading.Event()
        self._token_variable = token_variable
        self._timeout = timeout
        self._attempts = attempts
        self._back_off = wait_exponential(multiplier=pause, max=LONGEST_PAUSE) + wait_random(0, pause)
        self._http = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)))
        self._heard = False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a successful answer; time-outs, lost connections, 408, 409, 429 and 5xx are tried again.

        Raises:
            JudgeServerError: refused, or no such answer in all attempts.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=self._enough,
            wait=self._pause,
            sleep=sleep_using_event(self.stopped),
            reraise=True,
        )
        try:
            return retrying(self._ask_once, method, path, body)
        except _Unreachable:
            self._heard = False
            raise

    def _enough(self, state: RetryCallState) -> bool:
        return self.stopped.is_set() or state.attempt_number >= (self._attempts if self._heard else 1)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        after = error.after if isinstance(error, _Passing) else 0.0
        return max(after, self._back_off(state))

    def _ask_once(self, method: str, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"} | self._authorization()
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        try:
            response = self._http.request(method, self.url + path, content=content, headers=headers)
        except httpx.TimeoutException:
            raise _Unreachable(f"the server at {self.url} did not answer within {self._timeout:g} s") from None
        except httpx.TransportError as error:
            reason = f"{type(error).__name__}: {one_line(str(error))}"
            raise _Unreachable(
                f"no answer from {self.url} ({reason}): is the server up, and is this its address?"
            ) from None
        except httpx.RequestError as error:
            raise JudgeServerError(f"the answer of {self.url} cannot be read: {one_line(str(error))}") from None
        self._heard = True
        return self._understood(response, path)

    def _understood(self, response: httpx.Response, path: str) -> Any:
        status = response.status_code
        if status in (401, 403):
            raise JudgeServerError(self._refusal(status))
        if not response.is_success:
            message = f"the server at {self.url} answered {status} to {path}: {self._words(response)}"
            after = _retry_after(response.headers.get("Retry-After", ""))
            if (status not in PASSING and status < 500) or after > LONGEST_RETRY_AFTER:
                raise JudgeServerError(message)
            raise _Passing(message, after)
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise JudgeServerError(
                f"the server at {self.url} should answer {path} with JSON, found: {self._words(response)}"
            ) from None

    def _refusal(self, status: int) -> str:
        if self._token():
            return f"the server at {self.url} refuses the token in {self._token_variable} ({status}): set the right one"
        return (
            f"the server at {self.url} wants a token ({status}): put it into the environment as {self._token_variable}"
        )

    def _token(self) -> str:
        return os.environ.get(self._token_variable, "").strip()

    def _authorization(self) -> dict[str, str]:
        token = self._token()
        # Checked here, because the error of the HTTP library would quote it.
        if not (token.isascii() and token.isprintable()):
            raise JudgeServerError(f"{self._token_variable} holds characters that a header cannot carry: set it anew")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _words(self, response: httpx.Response) -> str:
        """What the server says of its own failure, without our token, should it quote that."""
        try:
            fault = response.json()["error"]
            text = str(fault["message"] if isinstance(fault, dict) else fault)
        except (ValueError, TypeError, KeyError, RecursionError):
            text = response.text
        return one_line(text.replace(self._token(), "***") if self._token() else text) or "nothing"


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.userinfo:
        raise JudgeServerError("a server's address holds no user name or password: put a token into the environment")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise JudgeServerError(f"the address of a server looks like http://127.0.0.1:17140/v1, found {url!r}")
    return url.rstrip("/")


def _retry_after(header: str) -> float:
    """Seconds, from seconds or from a date (RFC 9110, 10.2.3); 0 if there is neither."""
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def one_line(text: str) -> str:
    """The text without line breaks, short enough to be quoted in a message."""
    return " ".join(text.split())[:QUOTED]
