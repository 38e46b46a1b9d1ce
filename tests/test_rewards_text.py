"""The text proxy: flow_grpo's rule on the reading of a template OCR."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.rewards.text import Text, correlations, read, text_reward, wanted_text
from bench.tiny.grammar import ALPHABET, text_prompts
from bench.tiny.render import glyph, render


def paint(words: list[str], seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.stack([render({"family": "text", "text": word}, rng) for word in words])


WORDS = [target["text"] for _, target in text_prompts()]
PROMPTS = [prompt for prompt, _ in text_prompts()]


def values(images: NDArray[np.uint8], prompts: list[str]) -> NDArray[np.float64]:
    return Text().rewards(images, prompts, [None] * len(prompts))


@pytest.mark.parametrize(
    ("seen", "wanted", "value"),
    [
        ("K7", "K7", 1.0),
        ("k 7", "K7", 1.0),
        ("XK7L", "K7", 1.0),  # a part of the reading: distance 0
        ("7K", "K7", 0.0),
        ("K", "K7", 0.5),
        ("KL7", "K7", 0.5),  # one letter between: distance 1 of 2
        ("", "K7", 0.0),
        ("A1234567", "K7", 0.0),  # distance 8 counts as 2
        ("New Yrok", "New York", 5 / 7),  # transposed letters are two edits of seven letters
        ("stop", "Stop!", 4 / 5),
    ],
)
def test_text_reward_is_flow_grpos_rule(seen: str, wanted: str, value: float) -> None:
    assert text_reward(seen, wanted) == pytest.approx(value)


def test_wanted_text_stands_between_the_first_two_quotes() -> None:
    assert wanted_text('a sign "K7" beside "A2"') == "K7"
    assert wanted_text("a red circle") == ""


def test_every_text_is_read_from_its_render() -> None:
    assert np.mean([seen == word for seen, word in zip(read(paint(WORDS)), WORDS, strict=True)]) > 0.99


def test_one_wrong_letter_costs_half_and_two_cost_all() -> None:
    following = dict(zip(ALPHABET, ALPHABET[1:] + ALPHABET[0], strict=True))
    wrong = [word[0] + following[word[1]] for word in WORDS]
    assert values(paint(wrong), PROMPTS).mean() == pytest.approx(0.5, abs=0.02)
    assert values(paint(["AA", "CL"]), ['the text "LL"', 'the text "A7"']).tolist() == [0, 0]


def test_swapped_letters_earn_nothing() -> None:
    pairs = [(word, prompt) for word, prompt in zip(WORDS, PROMPTS, strict=True) if word[0] != word[1]]
    assert values(paint([word[::-1] for word, _ in pairs]), [prompt for _, prompt in pairs]).mean() < 0.01


def test_correlation_does_not_change_with_contrast_or_its_sign() -> None:
    images = paint(WORDS[:24])
    faint = (100 + (images.astype(int) - 100) // 2).astype(np.uint8)
    np.testing.assert_allclose(correlations(255 - images), correlations(images), atol=1e-5)
    np.testing.assert_allclose(correlations(faint), correlations(images), atol=0.03)


def test_correlation_of_a_glyph_with_its_own_window_is_one() -> None:
    best = correlations(paint(WORDS)).max(axis=(1, 2, 3))
    np.testing.assert_allclose(best, 1, atol=1e-5)


def test_an_empty_picture_reads_as_nothing_and_noise_earns_next_to_nothing() -> None:
    assert read(np.full((1, 32, 32, 3), 128, dtype=np.uint8)) == [""]
    noise = np.random.default_rng(0).integers(0, 256, (len(PROMPTS), 32, 32, 3), dtype=np.uint8)
    assert values(noise, PROMPTS).mean() < 0.03


def test_it_can_be_exploited_by_noise_and_color_behind_the_letters() -> None:
    images = paint(WORDS)
    rng = np.random.default_rng(1)
    tint = np.array([40, -30, 20])
    ugly = np.clip(images + tint + 25 * rng.standard_normal(images.shape), 0, 255).astype(np.uint8)
    assert values(ugly, PROMPTS).mean() > 0.97


def test_it_can_be_exploited_by_an_extra_letter() -> None:
    image = np.full((1, 32, 32, 3), 242, dtype=np.uint8)
    for i, letter in enumerate("LK7"):
        dots = np.kron(glyph(letter), np.ones((2, 2))) > 0
        image[0, 8:22, 11 * i : 11 * i + 10][dots] = 20
    assert read(image) == ["LK7"]
    assert values(image, ['the text "K7"']).tolist() == [1]
