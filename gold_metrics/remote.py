"""A scorer that runs elsewhere: `gold_metrics.serve` on the machine that has what it needs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from gold_metrics.judge_server import ATTEMPTS, FIRST_PAUSE, JudgeServer, JudgeServerError
from gold_metrics.scorer import Entry, Picture, Score, by_prompt, definition_hash, missing
from gold_metrics.wire import HOST, PORT, TOKEN, Limits, read_score, write_entry, write_picture

# Our choice: 64 images by a slow judge, behind another client's.
TIMEOUT = 600.0

# Our choice: bytes for what a request holds beside its images and entries, which takes a tenth of them.
FRAME = 1024

# A name becomes part of a path where scores are kept.
NAME = re.compile(r"[a-z0-9_]{1,64}")

Item = tuple[int, str, dict[str, Any]]
"""Position, image as base64, entry as JSON data."""


class Remote:
    """The scorer that a server has: its name, its scores to the bit, and its definition.

    The number does not depend on where it was made, so its definition does not say where either: scores of a server
    and of this machine are comparable exactly if the hashes agree, and share a cache.
    """

    def __init__(
        self,
        url: str = f"http://{HOST}:{PORT}",
        scorer: str = "",
        timeout: float = TIMEOUT,
        attempts: int = ATTEMPTS,
        pause: float = FIRST_PAUSE,
    ) -> None:
        """Asks the server what it has.

        Args:
            url: of the server; its token is read from GOLD_METRICS_TOKEN.
            scorer: by its name there; may be empty if the server has one only.
            timeout, attempts, pause: see `JudgeServer`.

        Raises:
            JudgeServerError: no such server or scorer, or a wrong token.
        """
        self._server = JudgeServer(url, TOKEN, timeout=timeout, attempts=attempts, pause=pause)
        answer = self._server.ask("GET", "/v1/scorers")
        try:
            served = {str(each["name"]): each for each in answer["scorers"]}
            self._limits = Limits(**answer["limits"])
            known = served.get(scorer) or (next(iter(served.values())) if not scorer and len(served) == 1 else None)
            if known is not None:
                self._take(known)
        except (TypeError, KeyError, ValueError):
            raise JudgeServerError(f"{url} is not a server of gold_metrics of this version") from None
        if known is None:
            raise JudgeServerError(f"{url} has no scorer {scorer!r}; it has: {', '.join(served) or 'none'}")
        self._fits: dict[str, bool] = {}

    def _take(self, known: dict[str, Any]) -> None:
        low, high = known["range"]
        if not NAME.fullmatch(str(known["name"])):
            raise JudgeServerError(f"{self._server.url}: {str(known['name'])[:40]!r} is no name of a scorer")
        self.name, self.head = str(known["name"]), str(known["head"])
        self.higher_is_better = bool(known["higher_is_better"])
        self.range = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
        self.per = cast(Literal["image", "set"], known["per"])
        self.definition: dict[str, Any] = dict(known["definition"])

    def fits(self, entry: Entry) -> bool:
        """What the scorer says there, asked once for each prompt.

        Raises:
            JudgeServerError: the server cannot be asked.
        """
        key = json.dumps([entry.prompt, entry.target], sort_keys=True)
        if key not in self._fits:
            answer = self._server.ask("POST", "/v1/fits", {"scorer": self.name, "entries": [write_entry(entry)]})
            try:
                self._fits[key] = bool(answer["fits"][0])
            except (TypeError, KeyError, IndexError):
                raise JudgeServerError(f"{self._server.url}/v1/fits does not say whether {self.name} fits") from None
        return self._fits[key]

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """The scores there; NaN with its reason where the server refused, failed, or gave another definition.

        Per image, what does not fit into one request goes in several.
        """
        items = [
            (i, write_picture(image), write_entry(entry))
            for i, (image, entry) in enumerate(zip(images, entries, strict=True))
        ]
        if self.per == "set":
            return self._ask(items, wanted=len(by_prompt(entries))) if items else []
        scores: dict[int, Score] = {}
        for part in self._parts(items, images, scores):
            found = self._ask(part, wanted=len(part))
            scores |= {index: score for (index, _, _), score in zip(part, found, strict=True)}
        return [scores[index] for index in range(len(items))]

    def _parts(self, items: list[Item], images: Sequence[Picture], scores: dict[int, Score]) -> Iterator[list[Item]]:
        """Requests within the server's limits; an image that no request can hold gets its NaN at once."""
        part: list[Item] = []
        size = FRAME
        for item in items:
            height, width = images[item[0]].shape[:2]
            weight = len(item[1]) + len(json.dumps(item[2])) + 8  # quotes, commas and spaces
            if height * width > self._limits.pixels or FRAME + weight > self._limits.bytes:
                scores[item[0]] = missing(f"an image of {width} x {height} is more than {self._server.url} takes")
                continue
            if part and (len(part) == self._limits.images or size + weight > self._limits.bytes):
                yield part
                part, size = [], FRAME
            part.append(item)
            size += weight
        if part:
            yield part

    def _ask(self, items: list[Item], wanted: int) -> list[Score]:
        body = {
            "scorer": self.name,
            "images": [png for _, png, _ in items],
            "entries": [entry for _, _, entry in items],
        }
        try:
            return self._read(self._server.ask("POST", "/v1/score", body), wanted)
        except JudgeServerError as error:
            return [missing(str(error))] * wanted

    def _read(self, answer: Any, wanted: int) -> list[Score]:
        try:
            found = definition_hash(answer["definition"])
            scores = [read_score(each) for each in answer["scores"]]
        except (TypeError, KeyError, ValueError):
            raise JudgeServerError(f"{self._server.url}/v1/score answers without scores and definition") from None
        if found != definition_hash(self.definition):
            raise JudgeServerError(f"{self._server.url} defines {self.name} otherwise than at the start: begin anew")
        if len(scores) != wanted:
            raise JudgeServerError(f"{self._server.url} should give {wanted} scores, found {len(scores)}")
        return scores
