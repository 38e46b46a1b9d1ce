"""Client of a model on an OpenAI-compatible chat server, which SGLang and vLLM are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from gold_metrics.judge_server import JudgeServer, JudgeServerError, one_line

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What a model said.

    Attributes:
        cut: whether the server stopped it before its end (finish_reason other than "stop").
    """

    text: str
    cut: bool = False


class Chat:
    """A model on an OpenAI-compatible server, with at most `in_flight` calls at a time."""

    def __init__(self, server: JudgeServer, in_flight: int) -> None:
        self._server = server
        self._workers = ThreadPoolExecutor(in_flight, thread_name_prefix="chat")
        self._checked: set[str] = set()

    def check(self, model: str) -> None:
        """Whether the server serves the model; asked once.

        Raises:
            JudgeServerError: it cannot be reached, or serves others; the message names them.
        """
        if model in self._checked:
            return
        answer = self._server.ask("GET", "/models")
        try:
            found = [str(each["id"]) for each in answer["data"]]
        except (TypeError, KeyError):
            raise JudgeServerError(f"{self._server.url}/models lists no models: does the address end in /v1?") from None
        if model not in found:
            served = ", ".join(found) or "none"
            raise JudgeServerError(f"{self._server.url} does not serve the model {model!r}; it serves: {served}")
        self._checked.add(model)

    def complete(self, body: dict[str, Any]) -> Reply:
        """The first choice of a completion.

        Raises:
            JudgeServerError: none was had, or the answer is not one.
        """
        answer = self._server.ask("POST", "/chat/completions", body)
        try:
            choice = answer["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason")
        except (TypeError, KeyError, IndexError, AttributeError):
            text, finish = None, None
        if not isinstance(text, str):
            quoted = one_line(json.dumps(answer))
            raise JudgeServerError(f"{self._server.url} should answer with a chat completion, found: {quoted}")
        # Some servers name no reason when nothing stopped the model.
        return Reply(text, cut=finish not in ("stop", "", None))

    def each(self, work: Callable[..., T], *arguments: Sequence[Any]) -> list[T]:
        """`work` of each set of arguments, in order; an interrupt ends the pauses between attempts too."""
        self._server.stopped.clear()
        try:
            return list(self._workers.map(work, *arguments))
        except BaseException:
            self._server.stopped.set()
            raise
