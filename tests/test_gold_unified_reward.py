"""UnifiedReward: the question as upstream asks it, the reply as it reads, and a server that fails in every way."""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import MODEL, ChatServer, picture_of, question_of
from PIL import Image

from gold_metrics import Entry, Picture, definition_hash, judge
from gold_metrics.chat import Reply
from gold_metrics.image_set import ImageSet
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.unified_reward import AXES, TEMPLATES, TOKEN, UnifiedReward, read_score, template_text

# Of the texts in CodeGoat24/UnifiedReward at ff6f520 (files and lines: `TEMPLATES`) with "{prompt}" as the prompt; that
# of "pointwise" is also that of flow_grpo rewards.py:365 at 879042c.
UPSTREAM_SHA256 = {
    "pointwise": "d68ab1dcf4dc3a39ec5dfab963d17fe30a6e5f713eb49f743ed88a4c8ce4317f",
    "pointwise_elements": "d397c380b8b0ee1c2e37bc53fa10360431f43013c69c097a4f3072556363e085",
    "pointwise_elements_qwen": "f56f919ce3bc6aab3c173a5f836defe195e17e9614753e8b4c3dc2405bd4975b",
    "acs": "75d52d3ae771f89b682db3b74cdaca1c7bde373a39162bc1c9dabd63cdc9b851",
}

# Printed as example in point_score_ACS_image_generation.py of UnifiedReward 2.0 at ff6f520.
ACS_REPLY = """Alignment Score (1-5): 2.694700002670288
Coherence Score (1-5): 2.371500015258789
Style Score (1-5): 2.802500009536743"""


def level(number: int) -> Picture:
    return np.full((8, 8, 3), number, dtype=np.uint8)


def entry(number: int, prompt: str = "") -> Entry:
    return Entry(f"{number}.png", f"{number:064x}", f"p{number}", prompt or f"picture {number}", number)


def image_set(count: int) -> ImageSet:
    return ImageSet(tuple(map(level, range(count))), tuple(map(entry, range(count))), ("",) * count)


def expected(number: int) -> float:
    return round(1 + 4 * number / 255, 4)


def scorer(server: ChatServer, **options: Any) -> UnifiedReward:
    """With small images: a PNG of 512 x 512 takes longer to make than all else. JPEG keeps a plain gray exactly."""
    return UnifiedReward(**{"base_url": server.url, "image": "jpeg95", "timeout": 5.0, "pause": 0.02} | options)


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_upstreams_to_the_letter(name: str) -> None:
    assert hashlib.sha256(template_text(name).encode()).hexdigest() == UPSTREAM_SHA256[name]
    assert template_text(name).count("{prompt}") == 1


def test_the_request_is_the_one_that_flow_grpo_sends(server: ChatServer) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    UnifiedReward(server.url).score([picture], [entry(0, "a {prompt} {0} [cat]")])
    body = server.calls[0]
    content = body["messages"][0].pop("content")
    assert body == {"model": MODEL, "messages": [{"role": "user"}], "temperature": 0}
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[0]["image_url"]["url"].startswith("data:image;base64,")
    assert content[1]["text"].endswith("Text Caption: [a {prompt} {0} [cat]]")
    body["messages"][0]["content"] = content
    sent = np.asarray(picture_of(body))
    assert np.array_equal(sent, np.asarray(Image.fromarray(picture).resize((512, 512))))


def test_the_other_image_format_keeps_the_size(server: ChatServer) -> None:
    scorer(server).score([np.full((40, 24, 3), 99, dtype=np.uint8)], [entry(0)])
    assert server.calls[0]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert (picture_of(server.calls[0]).format, picture_of(server.calls[0]).size) == ("JPEG", (24, 40))


def test_scores_permute_with_their_inputs_and_do_not_depend_on_the_batch(server: ChatServer) -> None:
    order = np.random.default_rng(0).permutation(24).tolist()
    together = scorer(server).score([level(i) for i in order], [entry(i) for i in order])
    assert [score.value for score in together] == [expected(i) for i in order]
    assert [scorer(server).score([level(i)], [entry(i)])[0] for i in order[:3]] == together[:3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Final Score: 4", 4.0),
        ("Final Score: 3.25\n", 3.25),
        ("A fine cat.\n**Final Score:** 4.5", 4.5),
        ("**Final Score**: **2**", 2.0),
        ("final score: 4.", 4.0),
        ("Final Score:\n5", 5.0),
        ("Final Score: 4/5", 4.0),
        ("Final Score: [3.5] (good)", 3.5),
        ("Final Score: 4 out of 5", 4.0),
        ("I give it after 'Final Score:' as asked. Final Score: 3", 3.0),
        ("Final Score: 3\nFinal Score: 3.0", 3.0),
    ],
)
def test_one_score_in_range_is_read(text: str, value: float) -> None:
    assert read_score(Reply(text), "final").value == value


@pytest.mark.parametrize(
    "text",
    ["", "4", "Score: four", "Final Score: four", "Final Score: 10", "Final Score: 0", "Final Score: -3",
     "Final Score: 5.01", "Final Score: 4/10", "Final Score: 4 or 5", "Final Score: 4-5", "Final Score: 4,5",
     "Final Score: 1.2.3", "Final Score: 3\nFinal Score: 4", "Final Score: 3\nFinal Score: 7", "Final Score: nan",
     "Final Score: 1e0", "Alignment Score (1-5): 4"],
)  # fmt: skip
def test_what_is_not_one_score_in_range_is_nan_with_a_reason_and_the_reply(text: str) -> None:
    score = read_score(Reply(text), "final")
    assert math.isnan(score.value) and "score" in score.reason.lower() and score.reply == text
    assert "\n" not in score.reason


@pytest.mark.parametrize(
    ("text", "value"),
    [("Final Score: 10", 1.0), ("Final Score: 0", 0.0), ("**Final Score:** 4", 0.0), ("final score: 4", 0.0),
     ("Final Score: 4/5", 4.0), ("Final Score: 3 Final Score: 4", 3.0), ("Score: four", 0.0)],
)  # fmt: skip
def test_upstreams_reading_is_there_by_name_with_its_faults(server: ChatServer, text: str, value: float) -> None:
    server.answer = lambda body: text
    judged = scorer(server, parse="upstream_zero")
    assert judged.score([level(0)], [entry(0)])[0].value == value
    assert judged.definition["parse"] == "upstream_zero" and judged.range == (0.0, 5.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Final Score: 4", math.nan),
        ("Final Score: 4.", math.nan),
        ("Final Score: 3.5\nThe cat", 3.5),
        ("The cat", math.nan),
    ],
)
def test_a_reply_that_was_cut_counts_only_if_text_follows_its_score(
    server: ChatServer, text: str, value: float
) -> None:
    server.answer, server.finish_reason = (lambda body: text), "length"
    score = scorer(server).score([level(0)], [entry(0)])[0]
    assert score.value == pytest.approx(value, nan_ok=True)
    assert bool(score.reason) == math.isnan(value) and ("stopped" in score.reason) == math.isnan(value)


def test_three_axes_are_three_columns_of_one_reply(server: ChatServer) -> None:
    server.answer = lambda body: ACS_REPLY
    scorers = [scorer(server, template="acs", axis=axis) for axis in AXES]
    frame = judge(image_set(3), scorers)
    means = frame.groupby("scorer", sort=False)["score"].mean().to_dict()
    assert means == {
        "unified_reward_alignment": 2.694700002670288,
        "unified_reward_coherence": 2.371500015258789,
        "unified_reward_style": 2.802500009536743,
    }
    assert len(server.calls) == 3 and set(frame["reply"]) == {ACS_REPLY}
    judge(image_set(3), [scorers[0], scorers[0]])
    assert len(server.calls) == 9  # an axis that asks again is not given an old reply


def test_every_image_ends_with_a_score_or_a_reason_and_none_with_zero(server: ChatServer) -> None:
    passing = [503, "hang", 429, "cut", 500, 408, 409, 502, 504, "cut"]
    server.faults.extend([*passing, "nonsense", "empty", 400] * 2)
    server.answer = lambda body: "a nice cat" if "picture 7]" in question_of(body) else "Final Score: 3"
    frame = judge(image_set(40), [scorer(server, timeout=1.5)])
    assert len(frame) == 40 and (frame["score"].isna() == (frame["reason"] != "")).all()
    # Not tried again: two of each of nonsense, empty and 400; and picture 7 has no score, whenever it is answered.
    lost = frame[frame["score"].isna()]
    assert len(lost) in (6, 7) and not (frame["score"] == 0).any()
    assert len(server.calls) == 40 + 2 * len(passing)
    assert server.most_in_flight <= 8
    assert not lost["reason"].str.contains("\n").any()


def test_a_server_that_dies_half_way_and_comes_back_loses_nothing(server: ChatServer) -> None:
    def restart() -> None:
        server.stop()
        time.sleep(0.3)
        server.start()

    restarting = threading.Thread(target=restart)
    server.before = lambda number: restarting.start() if number == 10 else None
    frame = judge(image_set(40), [scorer(server, in_flight=4)])
    restarting.join()
    assert frame["score"].tolist() == [expected(i) for i in range(40)]


def test_a_server_that_dies_for_good_leaves_reasons_and_is_waited_for_once(server: ChatServer) -> None:
    server.before = lambda number: server.stop() if number == 10 else None
    server.delay = 0.02
    began = time.monotonic()
    frame = judge(image_set(200), [scorer(server, in_flight=4, attempts=7)])
    # Pauses of 0.02, 0.04 .. 0.64 s at least: for each of 200 images, four at a time, they would take a minute.
    assert time.monotonic() - began < 20
    had = frame["score"].notna()
    assert 0 < had.sum() < 100 and frame.loc[~had, "reason"].str.contains("is the server up").all()
    server.before = lambda number: None
    server.start()


def test_a_cached_image_is_never_asked_for_again_and_a_lost_one_is(server: ChatServer, tmp_path: Path) -> None:
    server.faults.extend([400, 400])
    first = judge(image_set(10), [scorer(server)], cache=tmp_path)
    assert (first["score"].notna().sum(), len(server.calls)) == (8, 10)
    second = judge(image_set(10), [scorer(server)], cache=tmp_path)
    assert (second["score"].notna().sum(), len(server.calls)) == (10, 12)
    server.stop()
    third = judge(image_set(10), [scorer(server)], cache=tmp_path)
    assert third.equals(second) and third["reply"].str.startswith("Final Score").all()
    server.start()


@pytest.mark.parametrize("limit", [1, 3])
def test_calls_in_flight_reach_the_limit_and_never_pass_it(limit: int) -> None:
    with ChatServer(delay=0.05) as server:
        judging = scorer(server, in_flight=limit)
        together = [threading.Thread(target=judge, args=(image_set(6), [judging])) for _ in range(2)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert server.most_in_flight == limit and len(server.calls) == 12


@pytest.mark.parametrize("status", [400, 404, 413, 422, 302])
def test_other_refusals_are_not_tried_again(server: ChatServer, status: int) -> None:
    server.faults.append(status)
    score = scorer(server).score([level(0)], [entry(0)])[0]
    assert math.isnan(score.value) and str(status) in score.reason and len(server.calls) == 1


def test_a_server_that_says_when_is_waited_for_until_then(server: ChatServer) -> None:
    server.faults.append(429)
    server.retry_after = "1"
    began = time.monotonic()
    assert scorer(server).score([level(0)], [entry(0)])[0].value == 1.0
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    "later", ["3600", email.utils.formatdate(time.time() + 86400, usegmt=True)], ids=["seconds", "date"]
)
def test_a_server_that_says_far_too_late_is_not_waited_for(server: ChatServer, later: str) -> None:
    server.faults.append(503)
    server.retry_after = later
    assert "503" in scorer(server).score([level(0)], [entry(0)])[0].reason
    assert len(server.calls) == 1


def test_attempts_end(server: ChatServer) -> None:
    server.faults.extend([503] * 10)
    assert "503" in scorer(server, attempts=3).score([level(0)], [entry(0)])[0].reason
    assert len(server.calls) == 3


def test_no_server_at_the_address_is_told_at_once() -> None:
    with ChatServer() as gone:
        url = gone.url
    began = time.monotonic()
    with pytest.raises(JudgeServerError, match=f"{url}.*is the server up") as told:
        UnifiedReward(url, timeout=5.0).score([level(0)], [entry(0)])
    assert time.monotonic() - began < 10 and "\n" not in str(told.value)


def test_a_model_that_is_not_served_is_told_with_those_that_are(server: ChatServer) -> None:
    with pytest.raises(JudgeServerError, match=f"'other'; it serves: {MODEL}, another"):
        scorer(server, model="other").score([level(0)], [entry(0)])
    assert not server.calls


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that libraries log, down to their debugging."""
    messages: list[str] = []
    monkeypatch.setattr(logging.Logger, "handle", lambda self, record: messages.append(record.getMessage()))
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda self, level: True)
    return messages


def test_a_token_that_is_missing_or_wrong_is_told_and_never_shown(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    server.token = "right-key"
    with pytest.raises(JudgeServerError, match=f"wants a token .*{TOKEN}"):
        scorer(server).score([level(0)], [entry(0)])
    monkeypatch.setenv(TOKEN, "wrong-key")
    with pytest.raises(JudgeServerError, match=f"refuses the token in {TOKEN}") as told:
        scorer(server).score([level(0)], [entry(0)])
    monkeypatch.setenv(TOKEN, "right-key\n")
    server.faults.append(400)  # its message quotes the token
    refused, had = (scorer(server).score([level(0)], [entry(0)])[0] for _ in range(2))
    assert "Bearer ***" in refused.reason and had.value == 1.0
    assert server.tokens == {"", "Bearer wrong-key", "Bearer right-key"}
    assert logged and not any("-key" in text for text in (*logged, str(told.value), refused.reason))


@pytest.mark.parametrize("token", ["a\nb", "schlüssel"])
def test_a_token_that_no_header_can_carry_is_told_without_it(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(JudgeServerError, match="cannot carry") as told:
        scorer(server).score([level(0)], [entry(0)])
    assert token not in str(told.value)


@pytest.mark.parametrize("url", ["", "localhost:17140", "ftp://x/v1", "http://", "http://me:secret@host/v1"])
def test_what_is_no_address_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(JudgeServerError, match="address") as told:
        UnifiedReward(url)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "options",
    [{"template": "other"}, {"template": "acs"}, {"axis": "style"}, {"template": "acs", "axis": "beauty"},
     {"image": "png"}, {"parse": "loose"}, {"template": "acs", "axis": "style", "parse": "upstream_zero"}],
)  # fmt: skip
def test_an_option_that_is_not_there_is_told_with_those_that_are(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="should be '"):
        UnifiedReward(**options)  # type: ignore[arg-type]


def test_whatever_changes_the_number_changes_the_definition_and_nothing_else_does() -> None:
    varied: list[dict[str, Any]] = [
        {}, {"model": "m"}, {"revision": "r"}, {"image": "jpeg95"}, {"parse": "upstream_zero"},
        {"template": "pointwise_elements"}, {"template": "pointwise_elements_qwen"},
        *({"template": "acs", "axis": axis} for axis in AXES),
    ]  # fmt: skip
    hashes = {definition_hash(UnifiedReward(**options).definition) for options in varied}
    assert len(hashes) == len(varied)
    elsewhere = UnifiedReward("http://elsewhere/v1", in_flight=1, timeout=1.0, attempts=1, pause=1.0)
    assert definition_hash(elsewhere.definition) == definition_hash(UnifiedReward().definition)


@pytest.fixture
def heeded() -> Iterator[None]:
    """A process that a shell started in the background ignores interrupts: here it does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_pauses_between_attempts(server: ChatServer, heeded: None) -> None:
    judging = scorer(server, pause=30.0)
    judging.score([level(0)], [entry(0)])
    server.faults.extend([503] * 100)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        judging.score([level(i) for i in range(8)], [entry(i) for i in range(8)])
    judging._chat._workers.shutdown(wait=True)
    # Each of the eight, once before its pause and once after it was woken.
    assert time.monotonic() - began < 10 and len(server.calls) <= 1 + 2 * 8


def test_an_entry_without_a_prompt_is_missing_and_not_asked_for(server: ChatServer) -> None:
    blank = dataclasses.replace(entry(0), prompt="")
    score = scorer(server).score([level(0)], [blank])[0]
    assert math.isnan(score.value) and "no prompt" in score.reason and not server.calls
