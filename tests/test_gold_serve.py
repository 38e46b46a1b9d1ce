"""Judging elsewhere: a remote scorer is the local one to the bit, and what is not in order is refused."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
import numpy as np
import pytest
from gold_pictures import sixty
from PIL import Image

import gold_metrics
from gold_metrics import Entry, Picture, Score, Scorer, judge
from gold_metrics.image_set import ImageSet
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.remote import Remote
from gold_metrics.serve import RewardServer, main
from gold_metrics.wire import TOKEN, Limits, write_entry, write_picture

TIGHT = Limits(images=4, bytes=20_000, pixels=64 * 64)


class Brightness:
    """Mean brightness to the last bit, or whatever a test puts in its place."""

    name: ClassVar[str] = "brightness"
    head: ClassVar[str] = "Brightness"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (-math.inf, 255.0)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(self) -> None:
        self.definition: dict[str, Any] = {"scorer": "brightness", "version": 1}
        self.work: Callable[[Picture], float] = lambda image: float(image.mean()) / 3
        self.asked: list[int] = []

    def fits(self, entry: Entry) -> bool:
        return entry.prompt != "of another kind"

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        self.asked.append(len(images))
        return [Score(self.work(image), reply=entry.prompt) for image, entry in zip(images, entries, strict=True)]


@contextmanager
def serving(*scorers: Scorer, limits: Limits | None = None, token: str = "") -> Iterator[RewardServer]:
    server = RewardServer(scorers, port=0, limits=limits, token=token)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)


def entry(number: int, prompt: str = "a cat") -> Entry:
    return Entry("", "", f"p{number % 3}", prompt, number)


def noise(count: int, side: int = 16) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def as_gif(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="GIF")
    return base64.b64encode(buffer.getvalue()).decode()


def request(pictures: Sequence[Picture], **changed: Any) -> dict[str, Any]:
    entries = [write_entry(entry(number)) for number in range(len(pictures))]
    return {"scorer": "brightness", "images": [write_picture(each) for each in pictures], "entries": entries} | changed


def test_a_remote_oracle_gives_the_frame_of_the_local_one_to_the_bit() -> None:
    pictures, entries = (part[::4] for part in sixty()[:2])
    entries = [dataclasses.replace(each, sha256=f"{number:064x}") for number, each in enumerate(entries)]
    entries[5] = dataclasses.replace(entries[5], target=None)
    there = ImageSet(tuple(pictures), tuple(entries), ("",) * len(entries))
    local = [gold_metrics.load(name) for name in gold_metrics.ORACLES]
    with serving(*local) as server:
        remote = [Remote(server.url, name) for name in gold_metrics.ORACLES]
        assert judge(there, remote).equals(judge(there, local))
    for one, other in zip(remote, local, strict=True):
        told = (one.name, one.head, one.higher_is_better, one.range, one.per, one.definition)
        assert told == (other.name, other.head, other.higher_is_better, other.range, other.per, other.definition)


def test_scores_replies_and_infinite_ends_come_over_as_they_are() -> None:
    local = Brightness()
    with serving(local) as server:
        remote = Remote(server.url)
        assert remote.score(noise(5), [entry(i) for i in range(5)]) == local.score(
            noise(5), [entry(i) for i in range(5)]
        )
    assert remote.range == (-math.inf, 255.0) and not remote.higher_is_better


def test_what_does_not_fit_there_has_no_row_here_and_each_prompt_is_asked_about_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = tuple(entry(i, "of another kind" if i % 2 else "a cat") for i in range(8))
    there = ImageSet(tuple(noise(8)), entries, ("",) * 8)
    with serving(Brightness()) as server:
        remote = Remote(server.url, attempts=1)
        assert judge(there, [remote])["seed"].tolist() == [0, 2, 4, 6]
        monkeypatch.setattr(RewardServer, "fits", None)
        assert not remote.fits(entries[1]) and remote.fits(entries[2])


def test_a_long_list_goes_in_requests_within_the_limits_and_one_too_large_image_is_missing_alone() -> None:
    local, pictures = Brightness(), noise(11)
    pictures[4] = np.zeros((65, 64, 3), dtype=np.uint8)
    entries = [entry(i) for i in range(11)]
    with serving(local, limits=TIGHT) as server:
        scores = Remote(server.url).score(pictures, entries)
    assert [math.isnan(score.value) for score in scores] == [i == 4 for i in range(11)]
    assert "64 x 65" in scores[4].reason
    # A 16 x 16 noise PNG is 1.1 kB in base64: the limit of images binds, not that of bytes.
    assert max(local.asked) == 4 and sum(local.asked) == 10
    rest = [i for i in range(11) if i != 4]
    assert [scores[i] for i in rest] == local.score([pictures[i] for i in rest], [entries[i] for i in rest])


def test_bytes_split_a_request_before_its_images_do() -> None:
    local = Brightness()
    with serving(local, limits=dataclasses.replace(TIGHT, images=64, bytes=10_000)) as server:
        scores = Remote(server.url).score(noise(7, side=32), [entry(i) for i in range(7)])
    assert local.asked == [2, 2, 2, 1] and all(math.isfinite(score.value) for score in scores)


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"images": [as_gif(noise(1)[0])]}, 422, "PNG"),
        ({"images": ["no base64!"]}, 422, "PNG"),
        ({"images": [write_picture(noise(1)[0])[:-40]]}, 422, "PNG"),
        ({"images": [7]}, 422, "PNG"),
        ({"images": "abc"}, 422, "list"),
        ({"images": []}, 422, "needs an entry"),
        ({"images": [write_picture(np.zeros((65, 64, 3), dtype=np.uint8))]}, 413, "64 x 65"),
        ({"entries": [{"prompt": "a cat"}]}, 422, "prompt_id"),
        ({"entries": ["a cat"]}, 422, "prompt_id"),
        ({"entries": [{"prompt_id": "p", "prompt": "a cat", "seed": True, "target": None}]}, 422, "seed"),
        ({"entries": [write_entry(entry(0, "of another kind"))]}, 422, "fits"),
        ({"scorer": "hpsv2"}, 404, "brightness"),
        ({"scorer": None}, 404, "brightness"),
    ],
)
def test_a_request_that_is_not_in_order_is_refused_in_one_line(changed: Any, status: int, word: str) -> None:
    local = Brightness()
    with serving(local, limits=TIGHT) as server:
        answer = httpx.post(f"{server.url}/v1/score", json=request(noise(1), **changed))
    assert (answer.status_code, local.asked) == (status, [])
    assert word in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_more_images_and_more_bytes_than_allowed_are_refused_and_the_connection_goes_on() -> None:
    with serving(Brightness(), limits=TIGHT) as server, httpx.Client(base_url=server.url) as client:
        many = client.post("/v1/score", json=request(noise(5, side=8)))
        assert many.status_code == 413 and "5 images" in many.json()["error"]
        large = client.post("/v1/score", json=request(noise(4, side=64)))
        assert large.status_code == 413 and "bytes" in large.json()["error"]
        assert client.post("/v1/nowhere", json=request(noise(1))).status_code == 404
        assert client.get("/v1/score").status_code == 404
        assert client.post("/v1/score", json=request(noise(1))).status_code == 200


def test_a_body_of_unknown_length_ends_the_connection() -> None:
    with serving(Brightness()) as server, socket.create_connection(server.server_address[:2]) as raw:  # type: ignore[arg-type]
        raw.sendall(b"POST /v1/score HTTP/1.1\r\nContent-Length: many\r\n\r\nGET /v1/scorers HTTP/1.1\r\n\r\n")
        raw.settimeout(10)
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 400),
        (b"[" * 9999, {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (iter([b"{}"]), {"Content-Type": "application/json"}, 411),
    ],
)
def test_a_body_that_is_not_a_whole_json_object_is_refused(content: Any, headers: dict[str, str], status: int) -> None:
    with serving(Brightness(), limits=TIGHT) as server:
        assert httpx.post(f"{server.url}/v1/score", content=content, headers=headers).status_code == status


def test_only_who_bears_the_token_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Brightness(), token="right-key") as server:
        with pytest.raises(JudgeServerError, match=f"wants a token .*{TOKEN}"):
            Remote(server.url)
        monkeypatch.setenv(TOKEN, "wrong-key")
        with pytest.raises(JudgeServerError, match=f"refuses the token in {TOKEN}"):
            Remote(server.url)
        bare = httpx.post(f"{server.url}/v1/score", json=request(noise(1)))
        assert bare.status_code == 401 and "right-key" not in bare.text
        monkeypatch.setenv(TOKEN, "right-key")
        remote = Remote(server.url)
        assert math.isfinite(remote.score(noise(1), [entry(0)])[0].value)
        monkeypatch.setenv(TOKEN, "wrong-key")
        score = remote.score(noise(1), [entry(0)])[0]
        assert math.isnan(score.value) and "refuses the token" in score.reason


def test_a_scorer_that_fails_there_is_a_reason_here_and_may_recover() -> None:
    local = Brightness()
    with serving(local) as server:
        remote = Remote(server.url, attempts=2, pause=0.01)
        local.work = lambda image: [][1]
        score = remote.score(noise(1), [entry(0)])[0]
        assert math.isnan(score.value) and "IndexError" in score.reason and len(local.asked) == 2
        local.work = lambda image: math.inf
        assert "infinite" in remote.score(noise(1), [entry(0)])[0].reason
        local.work = lambda image: 0.25
        assert remote.score(noise(1), [entry(0)]) == [Score(0.25, reply="a cat")]


def test_a_server_with_another_definition_than_at_the_start_gives_no_scores() -> None:
    local = Brightness()
    with serving(local) as server:
        remote = Remote(server.url)
        local.definition = {"scorer": "brightness", "version": 2}
        assert "otherwise" in remote.score(noise(1), [entry(0)])[0].reason


def test_a_server_that_is_full_is_asked_again_later() -> None:
    local, begun, gate = Brightness(), threading.Event(), threading.Event()

    def slow(image: Picture) -> float:
        begun.set()
        gate.wait(10)
        return 1.0

    local.work = slow
    with serving(local) as server:
        server.slots = threading.BoundedSemaphore(1)
        remote = Remote(server.url, pause=0.01)
        first = threading.Thread(
            target=httpx.post, args=(f"{server.url}/v1/score",), kwargs={"json": request(noise(1))}
        )
        first.start()
        assert begun.wait(10)
        full = httpx.post(f"{server.url}/v1/score", json=request(noise(1)))
        assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
        threading.Timer(0.2, gate.set).start()
        assert remote.score(noise(1), [entry(0)])[0].value == 1.0
        first.join()


@pytest.mark.parametrize(
    ("scorer", "word"), [("", "brightness, correctness"), ("correctnes", "brightness, correctness")]
)
def test_a_scorer_that_is_not_there_is_told_with_those_that_are(scorer: str, word: str) -> None:
    with serving(Brightness(), gold_metrics.load("correctness")) as server, pytest.raises(JudgeServerError, match=word):
        Remote(server.url, scorer)


def test_a_server_of_another_kind_is_told() -> None:
    with serving(Brightness()) as server:
        server.describe = lambda: {"data": []}  # type: ignore[method-assign]
        with pytest.raises(JudgeServerError, match="not a server of gold_metrics"):
            Remote(server.url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scorers", "correctnes"), "did you mean correctness"),
        (("--host", "0.0.0.0"), f"put a token into the environment as {TOKEN}"),
        (("--port", "70000"), "port"),
    ],
)
def test_a_server_that_cannot_be_is_one_line_and_status_two(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_command_serves_until_it_is_ended() -> None:
    code = (
        "import sys; from gold_metrics.serve import main; sys.exit(main(['--scorers', 'correctness', '--port', '0']))"
    )
    folder = Path(gold_metrics.__file__).parents[1]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {TOKEN: "", "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        words = server.stdout.readline().split()
        assert words[:2] == ["serving", "correctness"]
        assert Remote(words[-1]).definition == gold_metrics.load("correctness").definition
        server.terminate()
