"""Scorers on an image set: one row per score, and the file that keeps them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gold_metrics.image_set import ImageSet
from gold_metrics.scorer import Entry, Picture, Score, Scorer, by_prompt, definition_hash, missing

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("image", "image_sha256", "prompt_id", "prompt", "seed", "scorer", "definition", "score", "reason")

# Images per call of a per-image scorer: our choice, one forward pass of a full-size judge, and a step of the bar.
BATCH = 64

Progress = Callable[[int], object]


def judge(image_set: ImageSet, scorers: Sequence[Scorer], progress: Progress | None = None) -> pd.DataFrame:
    """Every score of every scorer: one row per image, or per prompt for a scorer of sets.

    An entry that does not fit a scorer has no row of it: such an image is not missing, it was never to be scored.
    An image that could not be read has NaN and its fault as reason in each per-image scorer; a set is judged by the
    images that could be read. Rows of sets have no image and no seed; their image_sha256 is the hash of their
    images' hashes.

    Args:
        image_set: N images with their entries.
        scorers: who judges, in the order of the rows.
        progress: called with the number of images done since the last call; N per scorer in all.

    Returns:
        Frame with the columns `COLUMNS`: `definition` is the scorer's hash, `seed` is a nullable integer.

    Raises:
        RuntimeError: a scorer returned another number of scores than it has subjects.
    """
    import pandas as pd  # half a second, which scoring a rollout need not pay

    note = progress or (lambda done: None)
    rows = [row for scorer in scorers for row in _rows(image_set, scorer, note)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"seed": "Int64", "score": "float64"})


def _rows(image_set: ImageSet, scorer: Scorer, progress: Progress) -> Iterator[tuple[Any, ...]]:
    who = (scorer.name, definition_hash(scorer.definition))
    judged = _judge_sets if scorer.per == "set" else _judge_images
    fitting = _fitting(image_set, scorer)
    progress(len(image_set.entries) - len(fitting.entries))
    for subject, score in judged(fitting, scorer, progress):
        yield (*subject, *who, score.value, score.reason)


def _fitting(image_set: ImageSet, scorer: Scorer) -> ImageSet:
    """The part of the image set that the scorer is for."""
    kept = [index for index, entry in enumerate(image_set.entries) if scorer.fits(entry)]
    return ImageSet(
        tuple(image_set.images[index] for index in kept),
        tuple(image_set.entries[index] for index in kept),
        tuple(image_set.faults[index] for index in kept),
    )


def _judge_images(image_set: ImageSet, scorer: Scorer, progress: Progress) -> Iterator[tuple[Any, Score]]:
    for start in range(0, len(image_set.entries), BATCH):
        batch = range(start, min(start + BATCH, len(image_set.entries)))
        scores = iter(_ask(scorer, *_readable(image_set, batch), wanted=None))
        for index in batch:
            entry, fault = image_set.entries[index], image_set.faults[index]
            subject = (entry.file, entry.sha256, entry.prompt_id, entry.prompt, entry.seed)
            yield subject, missing(fault) if fault else next(scores)
        progress(len(batch))


def _judge_sets(image_set: ImageSet, scorer: Scorer, progress: Progress) -> Iterator[tuple[Any, Score]]:
    for indices in by_prompt(image_set.entries).values():
        entries = [image_set.entries[index] for index in indices]
        images, readable = _readable(image_set, indices)
        joint = hashlib.sha256("".join(entry.sha256 for entry in readable).encode()).hexdigest()
        unread = next((image_set.faults[index] for index in indices if image_set.faults[index]), "")
        score = _ask(scorer, images, readable, wanted=1)[0] if readable else missing(f"no image to judge: {unread}")
        yield (None, joint, entries[0].prompt_id, entries[0].prompt, None), score
        progress(len(indices))


def _readable(image_set: ImageSet, indices: Sequence[int]) -> tuple[list[Picture], list[Entry]]:
    pairs = ((image_set.images[index], image_set.entries[index]) for index in indices)
    kept = [(image, entry) for image, entry in pairs if image is not None]
    return [image for image, _ in kept], [entry for _, entry in kept]


def _ask(scorer: Scorer, images: list[Picture], entries: list[Entry], wanted: int | None) -> list[Score]:
    scores = scorer.score(images, entries) if entries else []
    wanted = len(entries) if wanted is None else wanted
    if len(scores) != wanted:
        raise RuntimeError(f"scorer {scorer.name}: wanted {wanted} scores, in order, found {len(scores)}")
    return scores


def write_scores(frame: pd.DataFrame, path: Path | str) -> None:
    """Write the frame as parquet; the file at `path` is the old one or the whole new one, never a part.

    Raises:
        OSError: the folder cannot be written; what stood at `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        frame.to_parquet(making, index=False)
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)
