"""Text rendering: flow_grpo's rule on closed values, and PP-OCR on text that is painted in a known font."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import gold_metrics
from gold_metrics import Entry, Picture, definition_hash, judge
from gold_metrics.image_set import ImageSet
from gold_metrics.text import Text, quoted, text_score
from gold_metrics.weights import WeightsError

WORDS = ("OPEN", "Fresh Bread", "New York", "Hello World", "exit 24", "Quiet Please", "grpo", "Guard")


@pytest.fixture(scope="module")
def scorer() -> Text:
    for package in ("rapidocr", "onnxruntime"):
        pytest.importorskip(package, reason=f"reading text needs the package {package}")
    return Text()


@cache
def paint(text: str, side: int = 256, blur: float = 0.0) -> Picture:
    """Dark letters of DejaVu Sans, as large as fit, in the middle of a pale blue square."""
    image = Image.new("RGB", (side, side), (200, 220, 240))
    path = font_manager.findfont("DejaVu Sans")
    width = max(ImageFont.truetype(path, 100).getlength(line) for line in text.split("\n") or [""])
    font = ImageFont.truetype(path, min(side // 6, int(0.9 * side * 100 / max(width, 1))))
    ImageDraw.Draw(image).multiline_text((side / 2, side / 2), text, font=font, fill=(20, 30, 90), anchor="mm")
    picture = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image)
    picture.setflags(write=False)
    return picture


def entry(wanted: str) -> Entry:
    return Entry("", "", "p", f'a shop sign that says "{wanted}"', 0)


def values(scorer: Text, images: Sequence[Picture], wanted: Sequence[str]) -> list[float]:
    return [score.value for score in scorer.score(images, [entry(each) for each in wanted])]


@pytest.mark.parametrize(
    ("seen", "wanted", "score"),
    [
        ("hello world", "hello world", 1.0),
        ("HELLOWORLD", "Hello World", 1.0),  # neither case nor spaces count
        ("xxhelloyy", "hello", 1.0),  # a part of the reading is all right
        ("helo", "hello", 1 - 1 / 5),
        ("hexlo", "hello", 1 - 1 / 5),
        ("hello", "hello world", 1 - 5 / 10),  # the space is no letter: ten letters, five missing
        ("", "hello", 0.0),
        ("completely different words", "hi", 0.0),  # the distance is cut at the two letters wanted
        ("kitten", "sitting", 1 - 3 / 7),  # the textbook's distance of 3
        ("ab", "ba", 0.0),  # a swap is two edits: Levenshtein's distance, not Damerau's
    ],
)
def test_the_score_is_one_minus_the_cut_edit_distance(seen: str, wanted: str, score: float) -> None:
    assert text_score(seen, wanted) == pytest.approx(score, abs=1e-12)


def test_the_distance_agrees_with_its_recursion() -> None:
    def distance(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    rng = np.random.default_rng(0)
    for _ in range(100):
        seen, wanted = ("".join(rng.choice(list("abc"), size=rng.integers(1, 6))) for _ in range(2))
        cost = 0 if wanted in seen else min(distance(seen, wanted), len(wanted))
        assert text_score(seen, wanted) == pytest.approx(1 - cost / len(wanted), abs=1e-12)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a sign "Hello World" at night', "Hello World"),
        ('"first" and "second"', "first"),
        ('no closing "quote', ""),
        ("no quote", ""),
        ('an empty "" one', ""),
        ('curly “quotes” and then "plain" ones', "plain"),
    ],
)
def test_the_wanted_text_stands_between_the_first_two_double_quotes(prompt: str, text: str) -> None:
    assert quoted(prompt) == text


def test_nothing_wanted_is_an_error_and_not_a_score() -> None:
    with pytest.raises(ValueError, match="found none"):
        text_score("anything", " ")


def test_a_missing_reader_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gold_metrics.text.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install rapidocr"):
        gold_metrics.load("text")


def test_a_missing_model_file_is_one_line(scorer: Text, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"PP-OCRv6_det_small.onnx, which is not in"):
        Text(models=tmp_path)


def test_painted_words_are_read_exactly(scorer: Text) -> None:
    # 8 of 8 on this reader, at 256 and 512 pixels in turn; one slip is left to other builds of onnxruntime.
    read = values(scorer, [paint(word, (256, 512)[i % 2]) for i, word in enumerate(WORDS)], WORDS)
    assert sum(value == 1 for value in read) >= len(WORDS) - 1 and min(read) >= 0.75


def test_reading_is_from_the_top_down(scorer: Text) -> None:
    (score,) = scorer.score([paint("Quiet\nPlease")], [entry("Quiet Please")])
    assert score.value == 1 and score.reply == "Quiet\nPlease"


def test_a_lost_letter_costs_its_share(scorer: Text) -> None:
    assert values(scorer, [paint("New Yrk")], ["New York"]) == [pytest.approx(1 - 1 / 7)]


def test_damage_lowers_the_score_down_to_none(scorer: Text) -> None:
    words = WORDS[1:3]
    clean, blurred, gone = (
        np.mean(values(scorer, [paint(word, blur=blur) for word in words], words)) for blur in (0, 5, 30)
    )
    assert clean > blurred > gone == 0


def test_a_picture_without_text_scores_zero_and_is_not_missing(scorer: Text) -> None:
    (score,) = scorer.score([np.full((256, 256, 3), 128, dtype=np.uint8)], [entry("OPEN")])
    assert (score.value, score.reason, score.reply) == (0.0, "", "")


def test_scores_permute_with_their_inputs_and_do_not_depend_on_the_batch(scorer: Text) -> None:
    words = [WORDS[0], WORDS[6], WORDS[7]]
    wanted = [WORDS[0], WORDS[7], WORDS[7]]  # the second is wrong
    images = [paint(word) for word in words]
    straight = scorer.score(images, [entry(each) for each in wanted])
    assert [score.value == 1 for score in straight] == [True, False, True]
    order = [2, 0, 1]
    permuted = scorer.score([images[i] for i in order], [entry(wanted[i]) for i in order])
    assert permuted == [straight[i] for i in order]
    assert scorer.score(images[1:2], [entry(wanted[1])]) == straight[1:2]


def test_one_reader_serves_all_calls_and_reads_each_picture_once(scorer: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, read = scorer._reader, []
    monkeypatch.setattr(scorer, "_reader", lambda image: read.append(image.shape) or reader(image))
    monkeypatch.setattr("gold_metrics.text._reader", lambda *_: pytest.fail("a second reader was made"))
    for _ in range(2):
        scorer.score([paint("OPEN", 64)], [entry("OPEN")])
    assert read == [(64, 64, 3)] * 2


def test_faults_are_nan_with_their_reason_and_cost_no_other_score(
    scorer: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = scorer._reader

    def failing(image: Picture) -> Any:
        if image.shape[0] == 64:
            raise RuntimeError("Traceback\n  of the depths\nonnxruntime: out of memory")
        return reader(image)

    monkeypatch.setattr(scorer, "_reader", failing)
    images = [paint("OPEN"), paint("OPEN", 64), paint("OPEN")]
    right, broken, empty = scorer.score(images, [entry("OPEN"), entry("OPEN"), entry("")])
    assert right.value == 1 and math.isnan(broken.value) and math.isnan(empty.value)
    assert broken.reason == "the reader failed: onnxruntime: out of memory"
    assert "quotes no text" in empty.reason


def test_a_prompt_without_two_double_quotes_does_not_fit(scorer: Text) -> None:
    prompts = ('says "OPEN"', 'says "OPEN', "says OPEN", 'says ""')
    assert [scorer.fits(Entry("", "", "p", prompt, 0)) for prompt in prompts] == [True, False, False, True]
    of = tuple(Entry(f"{i}.png", f"{i:064x}", "p", prompt, i) for i, prompt in enumerate(prompts))
    frame = judge(ImageSet((paint("OPEN"),) * 4, of, ("",) * 4), [scorer])
    assert frame["seed"].tolist() == [0, 3]
    assert frame["score"].isna().tolist() == [False, True] and frame["reply"][0] == "OPEN"


def test_the_number_of_threads_moves_no_score_and_no_definition(scorer: Text) -> None:
    two = Text(threads=2)
    images, wanted = [paint("New Yrk")], ["New York"]
    assert values(two, images, wanted) == values(scorer, images, wanted)
    assert definition_hash(two.definition) == definition_hash(scorer.definition)


def test_the_definition_names_the_readers_files_and_packages(scorer: Text) -> None:
    definition = scorer.definition
    assert json.loads(json.dumps(definition)) == definition
    assert {one["file"] for one in definition["reader"]} == {"PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"}
    assert all(len(one["sha256"]) == 64 for one in definition["reader"])
    assert set(definition["packages"]) >= {"rapidocr", "onnxruntime", "rapidfuzz"}


def test_reading_asks_no_network(scorer: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the reader asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert values(Text(), [paint("OPEN")], ["OPEN"]) == [1.0]


def test_the_reader_lives_beside_torch_in_one_process(scorer: Text) -> None:
    torch = pytest.importorskip("torch", reason="torch is what it should live beside")
    plain = values(scorer, [paint("OPEN")], ["OPEN"])
    image = torch.from_numpy(paint("OPEN").copy()).permute(2, 0, 1)[None].float()
    torch.nn.functional.conv2d(image, torch.ones(8, 3, 3, 3)).relu().mean().item()
    assert values(scorer, [paint("OPEN")], ["OPEN"]) == plain
