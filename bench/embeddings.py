"""Prompt embeddings, computed once and kept in a folder, so that no run holds or even reads the text encoders.

A file holds a few dozen prompts in the order in which runs asked for them, and says which; a prompt is found by its
text. So runs share what they have in common: the rows of a task all of it, a longer run or another seed what was drawn
before. A run is the same with and without them, to the bit where the encoders round alike at both batch shapes
(bfloat16 on a GPU may not).
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from bench import space
from bench.policy import ENCODING, Conditioning, Policy, PolicyError, fingerprint

FILE_PROMPTS = 64  # our choice: prompts in a file and in a forward; 110 MB of SD3.5-M in float16, 540 MB of FLUX.1-dev
KEY = "made_from"  # one metadata key: safetensors writes several in random order


class Stored:
    """The embeddings of prompts by their text, (n, L, J) and (n, E) on the CPU."""

    def __init__(self, folder: Path, places: dict[str, tuple[str, int]]) -> None:
        self._folder, self._places = folder, places

    def __call__(self, prompts: list[str]) -> Conditioning:
        missing = [text for text in prompts if digest(text) not in self._places]
        if missing:
            raise PolicyError(
                f"{self._folder} holds no embedding of {missing[0]!r}; the text encoders are not in memory"
            )
        places = [self._places[digest(text)] for text in prompts]
        files = {name: safe_open(self._folder / name, "pt") for name, _ in places}
        rows = [(files[name].get_slice, row) for name, row in places]
        tokens, pooled = ([part(key)[row : row + 1] for part, row in rows] for key in ("tokens", "pooled"))
        return Conditioning(torch.cat(tokens), torch.cat(pooled))


class Store:
    """The folder of a backbone's embeddings, made by one pipeline's text encoders for one length and type.

    Args:
        weights: where the pipeline comes from; its text encoders' hash is in every file.
    """

    def __init__(self, folder: Path, weights: str, text_tokens: int, dtype: str) -> None:
        self.folder, self._weights = folder, weights
        self._made_from = {"text_tokens": text_tokens, "dtype": dtype}

    def lacking(self, texts: Iterable[str]) -> list[str]:
        """Those of the prompts, and of the empty one of guidance, that are not stored, each once.

        All of them where the text encoders were never downloaded: what is stored cannot be told to be theirs.

        Raises:
            PolicyError: a file is damaged, or was made by other encoders, for another length or type.
        """
        wanted = list(dict.fromkeys(["", *texts]))
        encoders = fingerprint(self._weights, ENCODING)
        places = self._places({"text encoders": encoders} | self._made_from) if encoders else {}
        return [text for text in wanted if digest(text) not in places]

    def fill(self, policy: Policy, texts: list[str]) -> Stored:
        """Computes with the policy's text encoders what is lacking, one process at a time.

        Raises:
            PolicyError: as `lacking`.
        SpaceError: the disk has no room for all of them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            made_from = {"text encoders": fingerprint(self._weights, ENCODING)} | self._made_from
            parts = _parts(self.lacking(texts))
            shown = tqdm(parts, desc="prompt embeddings", unit="file", mininterval=2, disable=len(parts) < 2)
            for number, part in enumerate(shown):
                if number == 1:  # something is stored now, and says how large a prompt is
                    self._check_room(sum(map(len, parts[1:])), made_from)
                self._write(policy, part, made_from)
            return Stored(self.folder, self._places(made_from))

    def _places(self, made_from: dict[str, Any]) -> dict[str, tuple[str, int]]:
        """File and row of each stored prompt's digest."""
        files = {path: _described(path, made_from) for path in sorted(self.folder.glob("*.safetensors"))}
        return {prompt: (path.name, row) for path, listed in files.items() for row, prompt in enumerate(listed)}

    def _check_room(self, lacking: int, made_from: dict[str, Any]) -> None:
        each = space.used(self.folder) / len(self._places(made_from))
        space.check(self.folder, round(lacking * each), f"the embeddings of {lacking} prompts")

    def _write(self, policy: Policy, texts: list[str], made_from: dict[str, Any]) -> None:
        listed = [digest(text) for text in texts]
        # One shape for every forward, so that a prompt's embedding does not depend on what is computed beside it; the
        # empty prompt alone, as a run without stored embeddings computes it.
        filled = texts if texts == [""] else texts + texts[:1] * (FILE_PROMPTS - len(texts))
        with torch.no_grad():
            made = policy.encode_now(filled)
        tensors = {"tokens": made.tokens, "pooled": made.pooled}
        kept = {name: tensor[: len(texts)].cpu().contiguous() for name, tensor in tensors.items()}
        path = self.folder / f"{digest(' '.join(listed))}.safetensors"
        partial = path.with_suffix(".partial")
        save_file(kept, partial, metadata={KEY: json.dumps(made_from | {"prompts": listed}, sort_keys=True)})
        partial.rename(path)


def digest(text: str) -> str:
    """What a prompt is found by."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parts(texts: list[str]) -> list[list[str]]:
    others = [text for text in texts if text]
    parts = [others[start : start + FILE_PROMPTS] for start in range(0, len(others), FILE_PROMPTS)]
    return [[""], *parts] if "" in texts else parts


def _described(path: Path, wanted: dict[str, Any]) -> list[str]:
    """The digests of a file's prompts, row by row."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {})[KEY])
        listed: list[str] = found["prompts"]
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise PolicyError(f"prompt embeddings {path} cannot be read ({error!r}); delete the file") from error
    for name, value in wanted.items():
        if found.get(name) != value:
            raise PolicyError(
                f"prompt embeddings {path} were made with {name} {found.get(name)}, this run has {value}; delete "
                f"{path.parent} or name another folder as the backbone's embeddings"
            )
    return listed


def free_text_encoders(policy: Policy) -> None:
    """Lets the policy's text encoders leave memory."""
    for name in [name for name in policy.pipe.components if name.startswith("text_encoder")]:
        setattr(policy.pipe, name, None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
