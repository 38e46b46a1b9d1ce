"""Tokenizers of the little world: CLIP's byte-pair and T5's unigram, with a token for each of the grammar's words."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from bench.tiny.grammar import ALPHABET, all_prompts

CLIP_LENGTH = 10  # start, eight words ("a red circle left of a blue square"), end
T5_LENGTH = 10


def words() -> list[str]:
    """The grammar's words in alphabetical order, without the quoted texts."""
    return sorted({word for prompt, _ in all_prompts() for word in prompt.split() if '"' not in word})


def clip_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges are learned from the grammar's words, so that a word is one token.

    The quoted letters stay single tokens; the last letter of a text carries CLIP's end-of-word mark.
    """
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = sorted({c for prompt, _ in all_prompts() for c in prompt.lower() if c != " "})
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    learner.train_from_iterator(words(), trainer)
    learned = json.loads(learner.to_str())["model"]
    tokens = [*sorted(learned["vocab"], key=learned["vocab"].get), *(c + "</w>" for c in letters)]
    tokens = list(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(pair) for pair in learned["merges"]],
        model_max_length=CLIP_LENGTH,
    )


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer with a piece for each word, the quote and each letter of the alphabet."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in words()]
    pieces += [(piece, -1.0) for piece in ('▁"', '"', *ALPHABET)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)
