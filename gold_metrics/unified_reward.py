"""UnifiedReward: a vision-language model is asked for a score from 1 to 5, over HTTP (Wang et al., arXiv:2503.05236).

The model runs on a server of its own, in its own environment. The number stays on the scale of the model; dividing it
by 5, as flow_grpo does for training (rewards.py:405 at 879042c), is the business of whoever trains on it.

The question is part of the metric: each template has its own definition, and numbers of two are never compared. The
texts in `data/unified_reward_*.txt` are word for word those of CodeGoat24/UnifiedReward (MIT licence) at ff6f520; the
line break at the end of a file is not part of the text.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, ClassVar, Literal

import PIL
from PIL import Image

from gold_metrics.chat import Chat, Reply
from gold_metrics.judge_server import ATTEMPTS, FIRST_PAUSE, TIMEOUT, JudgeServer, JudgeServerError
from gold_metrics.scorer import Entry, Picture, Score, missing

TOKEN = "UNIFIED_REWARD_API_KEY"

TEMPLATES = {
    "pointwise": "sglang_llava/sglang_inference.py:36",  # flow_grpo rewards.py:365 at 879042c is the same
    "pointwise_elements": "inference_llava/image_generation/point_score_image_generation.py:43",
    "pointwise_elements_qwen": "inference_qwen/image_generation/qwen_point_score_image_generation.py:31",
    "acs": "inference_qwen/UnifiedReward-2.0-inference/point_score_ACS_image_generation.py:29-43",
}
"""Name -> where the text stands upstream. The last is of UnifiedReward 2.0 and gives three scores."""

AXES = ("alignment", "coherence", "style")

# flow_grpo rewards.py:345 and 400 at 879042c: resized by Pillow's default, and a data address without a subtype.
SIDE = 512
# vllm_qwen/vllm_request.py:57 at ff6f520: as large as the image is.
JPEG_QUALITY = 95

IMAGES: dict[str, dict[str, Any]] = {
    "png512": {"format": "PNG", "size": [SIDE, SIDE], "resize": "Pillow bicubic, antialiased", "address": "data:image"},
    "jpeg95": {"format": "JPEG", "quality": JPEG_QUALITY, "size": "unchanged", "address": "data:image/jpeg"},
}

LOWEST, HIGHEST = 1.0, 5.0

# sglang_inference.py:21 at ff6f520, flow_grpo rewards.py:350 at 879042c. It reads "Final Score: 10" as 1.
UPSTREAM = re.compile(r"Final Score:\s*([1-5](?:\.\d+)?)")

# One number and nothing that could be another: "4", "4.5", "4/5", "4 out of 5", "4.", not "10", "4/10", "4 or 5".
NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*5(?:\.0+)?)?[^\d]*")
LOOKS_LIKE_A_NUMBER = re.compile(r"[-+~]?\s*\d")
CUT_NUMBER = re.compile(r"[\d.]+$")


class UnifiedReward:
    """The score that UnifiedReward gives an image for its prompt, from 1 to 5.

    With `template="acs"` the scorer is one of three, by `axis`; its name says which. Scorers of the three axes in one
    process share the model's replies: each reply is asked for once and serves each axis once.
    """

    higher_is_better: ClassVar[bool] = True
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:17140/v1",
        model: str = "CodeGoat24/UnifiedReward-7b-v1.5",
        template: str = "pointwise",
        axis: str = "",
        image: str = "png512",
        parse: str = "strict",
        revision: str = "",
        in_flight: int = 8,
        timeout: float = TIMEOUT,
        attempts: int = ATTEMPTS,
        pause: float = FIRST_PAUSE,
    ) -> None:
        """Nothing is asked of the server before the first image is scored.

        Args:
            base_url: of the OpenAI-compatible server, with its /v1; its token is read from UNIFIED_REWARD_API_KEY.
            model: as the server calls it.
            template: one of `TEMPLATES`.
            axis: with the template "acs" one of `AXES`, else empty.
            image: "png512" as flow_grpo sends it, or "jpeg95" as UnifiedReward's client for vLLM.
            parse: "strict", or "upstream_zero": the first match of `UPSTREAM`, and 0.0 where a reply has none.
            revision: what is served, in your words, for the definition: a server does not say which weights it holds.
            in_flight: calls at a time.
            timeout, attempts, pause: see `JudgeServer`.

        Raises:
            ValueError: no such template, axis, image or parse.
            JudgeServerError: `base_url` is not an address.
        """
        _one_of("template", template, TEMPLATES)
        _one_of("axis", axis, AXES if template == "acs" else ("",))
        _one_of("image", image, IMAGES)
        _one_of("parse", parse, ("strict",) if template == "acs" else ("strict", "upstream_zero"))
        self.name = f"unified_reward_{axis}" if axis else "unified_reward"
        self.head = f"UniR {axis}" if axis else "UniR"
        self.range = (0.0 if parse == "upstream_zero" else LOWEST, HIGHEST)
        self._model, self._template, self._axis, self._image = model, template, axis, image
        self._parse, self._revision = parse, revision
        self._text = template_text(template)
        self._server = JudgeServer(base_url, TOKEN, timeout=timeout, attempts=attempts, pause=pause)
        self._chat = Chat(self._server, in_flight)

    def check(self) -> None:
        """Whether the server is there and serves the model.

        Raises:
            JudgeServerError: it is not.
        """
        self._chat.check(self._model)

    @property
    def definition(self) -> dict[str, Any]:
        """Model and revision as named by the user, question, image as sent, temperature and reading of the reply."""
        sha256 = hashlib.sha256(self._text.encode()).hexdigest()
        return {
            "scorer": self.name,
            "version": 1,
            "backend": "chat completions over HTTP",
            "model": {"name": self._model, "revision": self._revision},
            "template": {"id": self._template, "sha256": sha256},
            "image": IMAGES[self._image],
            "temperature": 0,
            "parse": self._parse,
            "packages": {"pillow": PIL.__version__},
        }

    def fits(self, entry: Entry) -> bool:
        """True: any image with a prompt; an entry that has lost its prompt is a fault, not another kind."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N scores in [1, 5], raw; NaN with its reason where no reply was had or it holds no score.

        Raises:
            JudgeServerError: at the first call, if the server cannot be reached or serves another model.
        """
        if not images:
            return []
        self._chat.check(self._model)
        return self._chat.each(self._score, images, entries)

    def _score(self, image: Picture, entry: Entry) -> Score:
        if not entry.prompt:
            return missing(f"{entry.file}: the entry has no prompt to judge by")
        try:
            reply = self._reply(self._body(image, entry.prompt))
        except JudgeServerError as error:
            return missing(str(error))
        if self._parse == "upstream_zero":
            found = UPSTREAM.search(reply.text)
            return Score(float(found[1]) if found else 0.0, reply=reply.text)
        return read_score(reply, self._axis or "final")

    def _reply(self, body: dict[str, Any]) -> Reply:
        if not self._axis:
            return self._chat.complete(body)
        key = hashlib.sha256(f"{self._server.url}\n{json.dumps(body)}".encode()).hexdigest()
        return _SHARED.reply(key, self._axis, lambda: self._chat.complete(body))

    def _body(self, image: Picture, prompt: str) -> dict[str, Any]:
        """As flow_grpo asks (rewards.py:366-385 at 879042c): the image first, temperature 0, no limit of tokens."""
        shown = {"type": "image_url", "image_url": {"url": data_address(image, self._image)}}
        # The prompt goes in last and as it is: it may hold braces.
        question = {"type": "text", "text": self._text.replace("{prompt}", prompt)}
        messages = [{"role": "user", "content": [shown, question]}]
        return {"model": self._model, "messages": messages, "temperature": 0}


def template_text(name: str) -> str:
    """The question, with `{prompt}` where the prompt goes."""
    file = resources.files("gold_metrics") / "data" / f"unified_reward_{name}.txt"
    return file.read_text(encoding="utf-8").removesuffix("\n")


def data_address(image: Picture, kind: str) -> str:
    """The image as a `data:` address, encoded as `IMAGES[kind]` says."""
    buffer = io.BytesIO()
    if kind == "png512":
        Image.fromarray(image).resize((SIDE, SIDE)).save(buffer, format="PNG")
    else:
        Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return f"{IMAGES[kind]['address']};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_score(reply: Reply, heading: str) -> Score:
    """The one number from 1 to 5 after "Final Score:", or after "Alignment Score (1-5):" and its like.

    Case and Markdown's stars do not matter; the same number may be given twice. No number, two different ones, one out
    of range or one followed by another on its line give NaN: such a reply does not say which was meant.
    """
    # The last digits of a reply that was stopped may be half a number.
    text = CUT_NUMBER.sub("", reply.text) if reply.cut else reply.text
    after = re.findall(rf"\b{heading}\s+score[\s*_]*(?:\(1-5\))?[\s*_]*:[\s*_`\[]*(?=([^\n]*))", text, re.IGNORECASE)
    given = [rest.strip() for rest in after if LOOKS_LIKE_A_NUMBER.match(rest)]
    cut = "; the server stopped the model before its end" if reply.cut else ""
    if not given:
        return missing(f"the reply gives no number after '{heading.title()} Score:'{cut}", reply.text)
    numbers = {float(found[1]) if (found := NUMBER.fullmatch(rest)) else rest[:40] for rest in given}
    number = numbers.pop()
    if numbers or not isinstance(number, float) or not LOWEST <= number <= HIGHEST:
        said = ", ".join(repr(rest[:40]) for rest in given)
        return missing(f"the reply should give one {heading} score from 1 to 5, found {said}{cut}", reply.text)
    return Score(number, reply=reply.text)


class _Shared:
    """Replies that hold a score of each axis: each serves every axis once, and is then forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[Reply, frozenset[str]]] = {}

    def reply(self, key: str, axis: str, ask: Callable[[], Reply]) -> Reply:
        with self._lock:
            reply, left = self._waiting.pop(key, (None, frozenset()))
        if reply is None or axis not in left:
            reply, left = ask(), frozenset(AXES)
        if left - {axis}:
            with self._lock:
                self._waiting[key] = (reply, left - {axis})
        return reply


_SHARED = _Shared()


def _one_of(option: str, found: str, known: Sequence[str] | dict[str, Any]) -> None:
    if found not in known:
        wanted = ", ".join(map(repr, known))
        raise ValueError(f"unified_reward: {option} should be {wanted}, found {found!r}")
