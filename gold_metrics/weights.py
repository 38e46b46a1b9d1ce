"""Which files the full-size judges need beside the code: where from, how large, under which licence, where they lie.

`python -m gold_metrics weights` lists and fetches them. No hash of these repositories is published in a form that could
be shipped here, so the first fetch notes commit and sha256 in `weights.json`, and from then on a file that differs is
refused. Keep that file with your results, or copy it to another machine to hold it to the same weights.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

NOTES = "weights.json"
SHA256_DIGITS = 64


class WeightsError(RuntimeError):
    """Weights are missing or are not those that were noted; one line says which, and how to get them."""


@dataclass(frozen=True)
class Weight:
    """One file of a Hugging Face repository.

    Attributes:
        repo, file: `owner/name` and the path inside it.
        licence: of the repository, as its page states it.
        megabytes: size as published, or four bytes for each of its model's parameters; None where neither is known.
    """

    repo: str
    file: str
    licence: str
    megabytes: float | None = None


_SMALL = 0.01
_CLIP_L = "openai/clip-vit-large-patch14"
_CLIP_L_FILES = tuple(
    Weight(_CLIP_L, name, "see the repository", size)
    for name, size in (("config.json", _SMALL), ("model.safetensors", 1710.0), ("preprocessor_config.json", _SMALL),
                       ("vocab.json", 1.0), ("merges.txt", 0.5), ("tokenizer.json", 2.2))
)  # fmt: skip
_CLIP_H_TOKENS = tuple(
    Weight("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", name, "mit", size)
    for name, size in (("preprocessor_config.json", _SMALL), ("vocab.json", 1.0), ("merges.txt", 0.5),
                       ("tokenizer.json", 2.2))
)  # fmt: skip
_MASK2FORMER = "facebook/mask2former-swin-small-coco-instance"

# Repositories and sizes: those that the upstream scorers name (HPSv2 img_score.py, ImageReward utils.py, flow_grpo
# pickscore_scorer.py and aesthetic_scorer.py, geneval evaluate_images.py).
WEIGHTS: dict[str, tuple[Weight, ...]] = {
    "hpsv2": (Weight("xswu/HPSv2", "HPS_v2.1_compressed.pt", "apache-2.0"),),
    "hpsv2_v2.0": (Weight("xswu/HPSv2", "HPS_v2_compressed.pt", "apache-2.0"),),
    "image_reward": (
        Weight("THUDM/ImageReward", "ImageReward.pt", "apache-2.0", 1790.0),
        Weight("THUDM/ImageReward", "med_config.json", "apache-2.0", _SMALL),
        Weight("bert-base-uncased", "vocab.txt", "apache-2.0", 0.2),
    ),
    "pickscore": (
        Weight("yuvalkirstain/PickScore_v1", "config.json", "not stated", _SMALL),
        Weight("yuvalkirstain/PickScore_v1", "model.safetensors", "not stated", 3940.0),
        *_CLIP_H_TOKENS,
    ),
    "clip_score": _CLIP_L_FILES,
    "aesthetic": (
        *_CLIP_L_FILES,
        Weight("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth", "not stated", 3.7),
    ),
    "geneval": (
        Weight(_MASK2FORMER, "config.json", "other", _SMALL),
        Weight(_MASK2FORMER, "model.safetensors", "other", 275.0),
        *_CLIP_L_FILES,
    ),
}
"""Files by the name of the scorer that needs them."""


def home() -> Path:
    """Where notes and cached scores are kept: `GOLD_METRICS_HOME`, by default `~/.cache/gold_metrics`."""
    return Path(os.environ.get("GOLD_METRICS_HOME") or Path.home() / ".cache" / "gold_metrics")


def notes() -> dict[str, Any]:
    """`repo/file` -> commit and sha256, as noted at its first fetch.

    Raises:
        WeightsError: the file of notes cannot be understood.
    """
    path = home() / NOTES
    if not path.exists():
        return {}
    try:
        noted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for entry in noted.values():
            _ = entry["commit"], entry["sha256"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WeightsError(
            f"{path} is not `repo/file` -> commit and sha256: mend it, or delete it to note anew"
        ) from None
    return noted


def noted_commit(weight: Weight) -> str | None:
    """The commit that the file was had at; of a new file that of its repository's others, so that they fit together."""
    known = notes()
    others = [noted for name, noted in known.items() if name.startswith(f"{weight.repo}/")]
    noted: dict[str, str] = known.get(f"{weight.repo}/{weight.file}") or next(iter(others), {})
    return noted.get("commit")


def present(weight: Weight) -> Path | None:
    """The file in huggingface_hub's cache, at the noted commit; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(weight.repo, weight.file, revision=noted_commit(weight))
    return Path(found) if isinstance(found, str) else None


def locate(scorer: str) -> dict[str, Path]:
    """The folder of each repository that the scorer needs, all its files there and unchanged: repo -> folder.

    Raises:
        WeightsError: a file is missing, or is not the one that was noted; the message says what to type.
    """
    folders: dict[str, Path] = {}
    for weight in WEIGHTS[scorer]:
        path = present(weight)
        if path is None:
            raise WeightsError(
                f"{scorer} needs {weight.file} of huggingface.co/{weight.repo}, which is not on this machine: "
                f"`python -m gold_metrics weights fetch {scorer}` gets it"
            )
        _check(weight, path)
        folders[weight.repo] = _snapshot(weight, path)
    return folders


def fetch(scorer: str) -> None:
    """Downloads what the scorer needs and notes commit and hash of each file the first time.

    Raises:
        WeightsError: no network, no such file, no permission, or another file than the one that was noted.
    """
    from huggingface_hub import errors, hf_hub_download

    for weight in WEIGHTS[scorer]:
        commit = noted_commit(weight)
        try:
            path = Path(hf_hub_download(weight.repo, weight.file, revision=commit))
        # RuntimeError: its transfer helper hf_xet.
        except (errors.HTTPError, errors.EntryNotFoundError, OSError, RuntimeError) as error:
            raise WeightsError(_refusal(weight, error)) from None
        _check(weight, path)
        _note(weight, path)


def _refusal(weight: Weight, error: Exception) -> str:
    """Why a file could not be had and what to do, in one line."""
    from huggingface_hub import errors

    page = f"huggingface.co/{weight.repo}"
    if isinstance(error, errors.GatedRepoError):
        what = (
            f"it asks for consent: accept its licence at https://{page} and put a token of that account into HF_TOKEN"
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        what = "no such repository, or a private one: HF_TOKEN should hold a token that may read it"
    elif isinstance(error, errors.RemoteEntryNotFoundError | errors.RevisionNotFoundError):
        what = f"the repository has no such file at {noted_commit(weight) or 'its newest commit'}"
    elif isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        what = (
            "no answer from the hub (no network, or HF_HUB_OFFLINE is set); copy another machine's cache or try again"
        )
    else:
        what = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return f"{weight.file} of {page} could not be had: {what}"


def _check(weight: Weight, path: Path) -> None:
    noted = notes().get(f"{weight.repo}/{weight.file}")
    blob = path.resolve().name
    # The cache names a large file after the sha256 that the hub has for it, so even the first fetch can be checked.
    wanted = noted["sha256"] if noted else blob if len(blob) == SHA256_DIGITS else sha256(path)
    if sha256(path) != wanted:
        source = f"noted in {home() / NOTES}" if noted else "named by the hub"
        raise WeightsError(
            f"{path} is not the {weight.file} of {weight.repo} that was {source} "
            f"(sha256 {sha256(path)[:12]}, wanted {wanted[:12]}): delete {path.resolve()} and fetch it again"
        )


def _snapshot(weight: Weight, path: Path) -> Path:
    """The folder of the repository's files: the cache lays them out as snapshots/COMMIT/FILE."""
    return path.parents[len(Path(weight.file).parts) - 1]


def _note(weight: Weight, path: Path) -> None:
    name = f"{weight.repo}/{weight.file}"
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / f"{NOTES}.lock"):
        noted = notes()
        noted.setdefault(name, {"commit": _snapshot(weight, path).name, "sha256": sha256(path)})
        partial = home() / f"{NOTES}.{os.getpid()}"
        partial.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(home() / NOTES)


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal; read once per process unless the file changes."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
