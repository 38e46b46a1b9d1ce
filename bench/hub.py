"""A pipeline's files: why they could not be had, and a hash that tells them apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from glob import escape
from pathlib import Path, PurePosixPath

from huggingface_hub import errors, snapshot_download

REPOSITORY = r"[\w-][\w.-]*/[\w-][\w.-]*"  # OWNER/NAME, as the hub allows it
FINGERPRINT_BYTES = 2**24  # of each file, with its size: tells trainings apart, quickly for billions of weights
LICENCES = {
    "stabilityai/stable-diffusion-3.5-medium": "Stability AI Community License",
    "black-forest-labs/FLUX.1-dev": "FLUX.1 [dev] Non-Commercial License",
}


def refusal(weights: str, error: BaseException | None, what: str = "pipeline") -> str:
    """Why a pipeline could not be loaded and what to do, in one line; diffusers hides the reason behind others."""
    said, reasons = str(error).strip().partition("\n")[0], []
    while error:
        reasons.append(error)
        error = error.__cause__ or error.__context__
    if any(isinstance(reason, errors.GatedRepoError) for reason in reasons):
        return (
            f"the weights {weights!r} are gated: accept the {LICENCES.get(weights, 'licence')} at "
            f"https://huggingface.co/{weights} and set HF_TOKEN to a token of that account"
        )
    if any(isinstance(reason, errors.RepositoryNotFoundError) for reason in reasons):
        return (
            f"the hub has no repository {weights!r}, or a private one: check the name, or set HF_TOKEN to a token "
            "that may read it"
        )
    kind = "folder" if Path(weights).is_absolute() else "hub repository or folder"
    return f"no {what} could be loaded from {kind} {weights!r}: {said}"


def fetch(source: str, files: Sequence[str], what: str) -> Path:
    """The folder `source`, or that hub repository's files whose names match one of the patterns `files`.

    Args:
        source: FOLDER, REPOSITORY or, for what is in one folder of a repository, REPOSITORY:SUBFOLDER.

    Raises:
        OSError: it cannot be had; the message names it and says what to do.
    """
    if Path(source).is_dir():
        return Path(source)
    repository, _, below = source.partition(":")
    if Path(source).exists() or not re.fullmatch(REPOSITORY, repository):
        kind = f"{source!r} is a file" if Path(source).exists() else (
            f"there is no folder {source!r} here, nor is that OWNER/NAME of a hub repository"
        )  # fmt: skip
        raise OSError(f"{kind}: name the folder that holds the {what}")
    place = PurePosixPath(below)
    if place.is_absolute() or ".." in place.parts:
        raise OSError(f"wanted REPOSITORY:SUBFOLDER with a folder inside the repository, found {source!r}")
    try:
        folder = Path(
            snapshot_download(repository, allow_patterns=[escape(below and f"{place}/") + file for file in files])
        )
    except (OSError, ValueError) as error:
        raise OSError(f"there is no folder {source!r} here, and {refusal(repository, error, what)}") from error
    if not (folder / place).is_dir():
        raise OSError(
            f"no {what} could be loaded from hub repository {repository!r}: it has none in a folder {below!r}"
        )
    return folder / place


def commit(folder: Path) -> str:
    """Which commit of a hub repository a folder in the hub's cache is, or is in; empty for any other folder."""
    found = re.search(r"/snapshots/([0-9a-f]{40})(/|$)", folder.absolute().as_posix())
    return found[1] if found else ""


def fingerprint(weights: str, parts: tuple[str, ...] = ("",)) -> str:
    """Hash of a pipeline's files, tokenizers and settings among them: path, size and first 16 MiB of each.

    Args:
        weights: a folder, or a hub repository whose snapshot is in the cache; empty for one that is not.
        parts: only files whose path in the pipeline begins with one of these.
    """
    folder = snapshot(weights)
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if str(path.relative_to(folder)).startswith(parts):
            with path.open("rb") as file:
                start = file.read(FINGERPRINT_BYTES)
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size} ".encode() + start)
    return digest.hexdigest()[:16]


def snapshot(weights: str) -> Path | None:
    """The folder of a pipeline: the one named, or a hub repository's in the cache; None for one that is not there."""
    try:
        return Path(weights) if Path(weights).is_dir() else Path(snapshot_download(weights, local_files_only=True))
    except errors.IncompleteSnapshotError as error:  # diffusers fetches only the files that it needs
        return Path(error.snapshot_path)
    except (OSError, ValueError):
        return None
