"""Prompt embeddings, computed once per prompt set and kept in a folder, so that no run holds the text encoders.

A set is a folder named after its prompts, with a file for every few dozen of them; files are read row by row. A run
is the same with and without them, to the bit where the encoders round alike at both batch shapes (bfloat16 on a GPU
may not).
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from bench.policy import Conditioning, Policy, PolicyError, fingerprint

FILE_PROMPTS = 64  # our choice: prompts in a file and in a forward; 110 MB of SD3.5-M in float16, 270 MB of FLUX.1-dev
PARTS = ("text_encoder", "tokenizer")  # folders of a pipeline, by how their names begin, that make its embeddings
KEY = "made_from"  # one metadata key: safetensors writes several in random order


class Stored:
    """The embeddings of prompts by their text, (n, L, J) and (n, E) on the CPU."""

    def __init__(self, folder: Path, places: dict[str, tuple[Any, int]]) -> None:
        self._folder, self._places = folder, places

    def __call__(self, prompts: list[str]) -> Conditioning:
        missing = [text for text in prompts if text not in self._places]
        if missing:
            raise PolicyError(
                f"{self._folder} holds no embedding of {missing[0]!r}; the text encoders have left memory"
            )
        tokens, pooled = ([self._row(text, name) for text in prompts] for name in ("tokens", "pooled"))
        return Conditioning(torch.cat(tokens), torch.cat(pooled))

    def _row(self, text: str, name: str) -> torch.Tensor:
        file, row = self._places[text]
        found: torch.Tensor = file.get_slice(name)[row : row + 1]
        return found


def attach(policy: Policy, weights: str, folder: Path, sets: Sequence[Sequence[str]]) -> None:
    """Lets the policy read its embeddings from `folder` and frees its text encoders.

    What is not there yet is computed first, by one process at a time; the empty prompt of guidance is always there.

    Args:
        weights: where the policy's pipeline came from; its text encoders' hash goes into every file.
        sets: the prompts of each set that the run will ask for.

    Raises:
        PolicyError: a file is damaged, or was made by other encoders, of other prompts, length or type.
    """
    made_from = {
        "text encoders": fingerprint(weights, PARTS),
        "text_tokens": policy.text_tokens,
        "dtype": str(policy.dtype).removeprefix("torch."),
    }
    places: dict[str, tuple[Any, int]] = {}
    for texts in ([""], *(list(dict.fromkeys(texts)) for texts in sets if texts)):
        target = folder / digest(texts)
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / ".lock"):
            files = list(_files(target, texts))
            for path, part in tqdm(files, desc="prompt embeddings", unit="file", mininterval=2, disable=len(files) < 2):
                file = _provide(policy, path, part, made_from | {"prompts": digest(part)})
                places |= {text: (file, row) for row, text in enumerate(part)}
    policy.stored = Stored(folder, places)
    _free_text_encoders(policy)


def digest(texts: Sequence[str]) -> str:
    """Hash of the prompts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]


def _files(target: Path, texts: list[str]) -> Iterator[tuple[Path, list[str]]]:
    count = -(-len(texts) // FILE_PROMPTS)
    # Equal parts: kernels for a single row round differently.
    for number, part in enumerate(np.array_split(np.arange(len(texts)), count), start=1):
        yield target / f"{number:05d}-of-{count:05d}.safetensors", [texts[i] for i in part]


def _provide(policy: Policy, path: Path, texts: list[str], wanted: dict[str, Any]) -> Any:
    """The opened file of these prompts, computed where there is none."""
    if not path.exists():
        with torch.no_grad():
            made = policy.encode_now(texts)
        tensors = {"tokens": made.tokens.cpu().contiguous(), "pooled": made.pooled.cpu().contiguous()}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={KEY: json.dumps(wanted, sort_keys=True)})
        partial.rename(path)
    try:
        file = safe_open(path, "pt")
        found = json.loads((file.metadata() or {})[KEY])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise PolicyError(f"prompt embeddings {path} cannot be read ({error!r}); delete the file") from error
    for name, value in wanted.items():
        if found.get(name) != value:
            raise PolicyError(
                f"prompt embeddings {path} were made with {name} {found.get(name)}, this run has {value}; delete "
                f"{path.parent} or name another folder as the backbone's embeddings"
            )
    return file


def _free_text_encoders(policy: Policy) -> None:
    for name in [name for name in policy.pipe.components if name.startswith("text_encoder")]:
        setattr(policy.pipe, name, None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
