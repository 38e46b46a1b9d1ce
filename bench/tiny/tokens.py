"""Tokenizers of the little world: CLIP's byte-pair and T5's unigram, with a token for each of the grammar's words."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from transformers import CLIPTokenizer, T5TokenizerFast

from bench.tiny.grammar import ALPHABET, all_prompts

CLIP_LENGTH = 10  # start, eight words ("a red circle left of a blue square"), end
T5_LENGTH = 10
END = "</w>"  # CLIP's mark of a word's last piece


def words() -> list[str]:
    """The grammar's words in alphabetical order, without the quoted texts."""
    return sorted({word for prompt, _ in all_prompts() for word in prompt.split() if '"' not in word})


def byte_pairs(words: list[str]) -> list[tuple[str, str]]:
    """The merges that make each word one token, most frequent pair first, ties in alphabetical order.

    Tokenizers' own trainer breaks ties differently in each process.
    """
    parts = {word: [*word[:-1], word[-1] + END] for word in words}
    merges = []
    while any(len(part) > 1 for part in parts.values()):
        counts = Counter(pair for part in parts.values() for pair in pairwise(part))
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        parts = {word: _merged(part, merges[-1]) for word, part in parts.items()}
    return merges


def _merged(part: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for piece in part:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found


def clip_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges are learned from the grammar's words, so that a word is one token.

    The quoted letters stay single tokens; the last letter of a text carries CLIP's end-of-word mark.
    """
    merges = byte_pairs(words())
    letters = sorted({c for prompt, _ in all_prompts() for c in prompt.lower() if c != " "})
    tokens = [*letters, *(c + END for c in letters), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,
        model_max_length=CLIP_LENGTH,
    )


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer with a piece for each word, the quote and each letter of the alphabet."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in words()]
    pieces += [(piece, -1.0) for piece in ('▁"', '"', *ALPHABET)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)
