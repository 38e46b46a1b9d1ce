"""The little world's tokenizers and pipelines are complete, small, and read every prompt whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from transformers import CLIPTokenizer

from bench.tiny import build, pipelines
from bench.tiny.grammar import ALPHABET, all_prompts, colors_prompts, held_out, objects_prompts, text_prompts
from bench.tiny.tokens import CLIP_LENGTH, T5_LENGTH, byte_pairs, clip_tokenizer, t5_tokenizer, words

WEIGHTS = Path(build.__file__).parent / "weights"
STOCK = {"sd3": StableDiffusion3Pipeline, "flux": FluxPipeline}


def test_every_word_is_one_token_and_every_letter_its_own() -> None:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    assert all(len(clip.tokenize(word)) == 1 and t5.tokenize(word) == [f"▁{word}"] for word in words())
    for first in ALPHABET:
        for second in ALPHABET:
            spelled = [token.removesuffix("</w>") for token in clip.tokenize(f'the text "{first}{second}"')]
            assert spelled == ["the", "text", '"', first.lower(), second.lower(), '"']
            assert t5.tokenize(f'the text "{first}{second}"')[2:] == ['▁"', first, second, '"']


def test_every_prompt_fits_and_no_two_read_alike() -> None:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    prompts = [prompt for prompt, _ in all_prompts()]
    for tokenizer, length in ((clip, CLIP_LENGTH), (t5, T5_LENGTH)):
        read = [tuple(tokenizer(prompt).input_ids) for prompt in prompts]
        assert max(map(len, read)) <= length
        assert len(set(read)) == len(prompts)
        assert tokenizer.unk_token_id not in {i for ids in read for i in ids[1:-1]}


def test_byte_pairs_are_merged_by_frequency_and_then_by_alphabet() -> None:
    merges = [("a", "b"), ("a", "b</w>"), ("ab", "a</w>"), ("c", "d</w>")]
    assert byte_pairs(["cd", "aba", "ab"]) == merges == byte_pairs(["ab", "aba", "cd"])


@pytest.mark.parametrize("name", STOCK)
def test_shipped_tokenizers_are_those_that_the_code_makes(name: str) -> None:
    # Each process must number the tokens alike, or a build that was interrupted goes on with other words.
    prompts = [prompt for prompt, _ in all_prompts()]
    shipped = CLIPTokenizer.from_pretrained(WEIGHTS / name / "tokenizer")
    assert shipped(prompts).input_ids == clip_tokenizer()(prompts).input_ids


def test_the_grammar_counts() -> None:
    # 12 kinds of thing: 12 singles, 24 counts, 12 x 11 ordered pairs in 4 relations; 12 x 9 pairs of two colors.
    assert len(objects_prompts()) == 12 + 24 + 12 * 11 * 4
    assert len(colors_prompts()) == 12 * 9
    assert len(text_prompts()) == len(ALPHABET) ** 2
    share = sum(held_out(*pair) for pair in all_prompts()) / len(all_prompts())
    assert 0.15 < share < 0.25


@pytest.mark.parametrize("name", STOCK)
def test_shipped_pipelines_load_as_stock_pipelines_and_are_small(name: str) -> None:
    pipe = STOCK[name].from_pretrained(WEIGHTS / name)
    assert sum(p.numel() for p in pipe.transformer.parameters()) < 1_000_000
    assert pipe.transformer.config.joint_attention_dim == pipelines.T5_WIDTH
    if name == "sd3":
        assert pipe.transformer.config.qk_norm == "rms_norm"
        assert tuple(pipe.transformer.config.dual_attention_layers) == (0,)
    else:
        assert pipe.transformer.config.guidance_embeds


def test_shipped_weights_are_safetensors_under_16_megabytes_together() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".txt"}
