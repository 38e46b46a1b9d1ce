"""What judges say to each other over HTTP: the one protocol of `gold_metrics.serve` and `gold_metrics.remote`.

JSON, with images as base64 of PNG. Nothing that arrives is executed or unpickled.

    GET  /v1/scorers   -> {"scorers": [name, head, range, ..., definition], "limits": {images, bytes, pixels}}
    POST /v1/fits      {"scorer", "entries"} -> {"fits": [bool, ...]}
    POST /v1/score     {"scorer", "images", "entries"} -> {"scorer", "definition", "scores": [{value, reason, reply}]}

An entry is {prompt_id, prompt, seed, target}. The value of a missing score is null, and so is an infinite end of a
range. What is refused has a status of 4xx and {"error": one line}.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from gold_metrics.judging import BATCH
from gold_metrics.scorer import Entry, Picture, Score, Scorer, definition_hash, missing

TOKEN = "GOLD_METRICS_TOKEN"
HOST, PORT = "127.0.0.1", 17141  # our choice: the port after the one that flow_grpo gives UnifiedReward

FIELDS = {"prompt_id": str, "prompt": str, "seed": int}


@dataclass(frozen=True)
class Limits:
    """What one request may hold: images, bytes of its body, pixels of each image.

    Our choice: a batch of the judge, enough bytes for as much noise of 1024 x 1024, none larger than 2048 x 2048.
    """

    images: int = BATCH
    bytes: int = 2**28
    pixels: int = 2**22


class Refused(Exception):
    """The request is at fault: a status of 4xx and one line for the client. 503: it may come again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def describe(scorer: Scorer) -> dict[str, Any]:
    """What a client needs to stand in for the scorer."""
    ends = [None if math.isinf(end) else end for end in scorer.range]
    known = {"name": scorer.name, "head": scorer.head, "higher_is_better": scorer.higher_is_better, "range": ends}
    definition = scorer.definition
    return known | {"per": scorer.per, "definition": definition, "definition_hash": definition_hash(definition)}


def write_score(score: Score) -> dict[str, Any]:
    """JSON data of a score; finite floats come back to the bit."""
    if math.isinf(score.value):
        raise ValueError("an infinite score cannot be sent")
    return asdict(score) | {"value": None if math.isnan(score.value) else float(score.value)}


def listed(request: dict[str, Any], name: str) -> list[Any]:
    """The list of that name, or Refused."""
    found = request.get(name)
    if not isinstance(found, list):
        raise Refused(422, f"{name} should be a list, found {type(found).__name__}")
    return found


def read_entries(request: dict[str, Any]) -> list[Entry]:
    """The entries of a request, or Refused; they name no file."""
    return [_read_entry(fields, number) for number, fields in enumerate(listed(request, "entries"))]


def _read_entry(fields: Any, number: int) -> Entry:
    target = fields.get("target") if isinstance(fields, dict) else ()
    if not (target is None or isinstance(target, dict)) or any(
        type(fields.get(name)) is not FIELDS[name] for name in FIELDS
    ):
        raise Refused(422, f"entry {number} should hold prompt_id, prompt, a whole seed, and a target: object or null")
    return Entry(file="", sha256="", **{name: fields[name] for name in FIELDS}, target=target)


def read_picture(text: Any, number: int, limits: Limits) -> Picture:
    """RGB uint8 (height, width, 3) from the base64 of a PNG, or Refused."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            # The size stands in the head of the file; nothing has been unpacked yet.
            if image.width * image.height > limits.pixels:
                found = f"{image.width} x {image.height}"
                raise Refused(
                    413, f"image {number} has {found} pixels, more than the {limits.pixels} that one may have"
                )
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        raise Refused(422, f"image {number} is not the base64 of a PNG that can be read") from None


def write_picture(image: Picture) -> str:
    """The base64 of a PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_entry(entry: Entry) -> dict[str, Any]:
    """JSON data of what a scorer may look at."""
    return {"prompt_id": entry.prompt_id, "prompt": entry.prompt, "seed": entry.seed, "target": entry.target}


def read_score(written: dict[str, Any]) -> Score:
    """The score of `write_score`."""
    value = written["value"]
    if value is None:
        return missing(str(written["reason"]) or "no score, and the server does not say why", str(written["reply"]))
    return Score(float(value), str(written["reason"]), str(written["reply"]))
