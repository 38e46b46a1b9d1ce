"""Scorers on an image set: one row per score, and the file that keeps them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gold_metrics.cache import Cache, key
from gold_metrics.image_set import ImageSet
from gold_metrics.scorer import Score, Scorer, by_prompt, definition_hash, missing

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("image", "image_sha256", "prompt_id", "prompt", "seed", "run", "step"),
    *("scorer", "definition", "score", "reason", "reply", "part"),
)

# Images per call of a per-image scorer: our choice, one forward pass of a full-size judge, and a step of the bar.
BATCH = 64

Progress = Callable[[int], object]
Subject = tuple[Any, ...]


def judge(
    image_set: ImageSet,
    scorers: Sequence[Scorer],
    progress: Progress | None = None,
    *,
    run: str = "",
    step: int | None = None,
    batch: int = BATCH,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Every score of every scorer: one row per image, or per prompt for a scorer of sets.

    An entry that does not fit a scorer has no row of it: such an image is not missing, it was never to be scored.
    An image that could not be read has NaN and its fault as reason in each per-image scorer; a set is judged by the
    images that could be read. Rows of sets have no image and no seed; their image_sha256 is the hash of their
    images' hashes.

    Args:
        image_set: N images with their entries.
        scorers: who judges, in the order of the rows.
        progress: called with the number of images done since the last call; N per scorer in all.
        run, step: what made the images, for the columns of these names; the step is an optimizer update.
        batch: images per call of a per-image scorer.
        cache: folder of scores that were had before (`gold_metrics.cache`); None asks for all of them.

    Returns:
        Frame with the columns `COLUMNS`: `definition` is the scorer's hash, `seed` and `step` are nullable integers.

    Raises:
        RuntimeError: a scorer returned another number of scores than it has subjects.
        OSError: the cache cannot be written.
    """
    note = progress or (lambda done: None)
    rows = [
        (*subject, run, step, scorer.name, hashed, score.value, score.reason, score.reply, part)
        for scorer, hashed in ((scorer, definition_hash(scorer.definition)) for scorer in scorers)
        for subject, score, part in _judge(image_set, scorer, note, batch, cache)
    ]
    return frame_of(rows)


def frame_of(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """The frame of rows of `COLUMNS`: equal rows make the same file, byte for byte, wherever they come from."""
    import pandas as pd  # half a second, which scoring a rollout need not pay

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"seed": "Int64", "step": "Int64", "score": "float64"})


def _judge(
    image_set: ImageSet, scorer: Scorer, progress: Progress, batch: int, cache: Path | None
) -> Iterator[tuple[Subject, Score, str]]:
    known = Cache(cache, scorer)
    part = getattr(scorer, "part", lambda entry: "")
    fitting = [index for index, entry in enumerate(image_set.entries) if scorer.fits(entry)]
    progress(len(image_set.entries) - len(fitting))
    if scorer.per == "set":
        yield from ((*judged, "") for judged in _judge_sets(image_set, fitting, scorer, progress, known))
        return
    keys = {index: key(image_set, index) for index in fitting if not image_set.faults[index]}
    _ask_unknown(image_set, keys, scorer, progress, known, batch)
    progress(len(fitting) - len(keys))
    for index in fitting:
        entry, fault = image_set.entries[index], image_set.faults[index]
        subject = (entry.file, entry.sha256, entry.prompt_id, entry.prompt, entry.seed)
        yield subject, missing(fault) if fault else known.now(keys[index]), part(entry)


def _ask_unknown(
    image_set: ImageSet, keys: dict[int, str], scorer: Scorer, progress: Progress, known: Cache, batch: int
) -> None:
    """Has every image of `keys` scored that was not scored before, each once, `batch` at a time."""
    unknown = {each: index for index, each in keys.items() if each not in known}
    progress(len(keys) - len(unknown))
    keys_left = list(unknown)
    for part in (keys_left[start : start + batch] for start in range(0, len(keys_left), batch)):
        scores = _ask(scorer, image_set, [unknown[each] for each in part], wanted=len(part))
        known.add(dict(zip(part, scores, strict=True)))
        progress(len(part))


def _judge_sets(
    image_set: ImageSet, fitting: list[int], scorer: Scorer, progress: Progress, known: Cache
) -> Iterator[tuple[Subject, Score]]:
    for group in by_prompt([image_set.entries[index] for index in fitting]).values():
        indices = [fitting[each] for each in group]
        first, readable = image_set.entries[indices[0]], [index for index in indices if not image_set.faults[index]]
        joint = hashlib.sha256("".join(image_set.entries[index].sha256 for index in readable).encode()).hexdigest()
        unread = next((image_set.faults[index] for index in indices if image_set.faults[index]), "")
        subject = (None, joint, first.prompt_id, first.prompt, None)
        yield subject, _of_set(image_set, readable, scorer, known) if readable else missing(f"no image: {unread}")
        progress(len(indices))


def _of_set(image_set: ImageSet, indices: list[int], scorer: Scorer, known: Cache) -> Score:
    of_set = key(image_set, *indices)
    if of_set not in known:
        known.add({of_set: _ask(scorer, image_set, indices, wanted=1)[0]})
    return known.now(of_set)


def _ask(scorer: Scorer, image_set: ImageSet, indices: Sequence[int], wanted: int) -> list[Score]:
    pairs = [(image_set.images[index], image_set.entries[index]) for index in indices]
    vanished = [entry.file for image, entry in pairs if image is None]
    if vanished:
        raise OSError(f"{vanished[0]} was there when the image set was read, and is no longer")
    scores = scorer.score([image for image, _ in pairs if image is not None], [entry for _, entry in pairs])
    if len(scores) != wanted:
        raise RuntimeError(f"scorer {scorer.name}: wanted {wanted} scores, in order, found {len(scores)}")
    return scores


def mean(scores: pd.DataFrame) -> float:
    """Of one scorer's rows: the mean of its parts' means, as `Scorer` says; NaN if there is no score."""
    if scores["part"].nunique() == 1:
        return float(scores["score"].mean())
    return float(scores.groupby("part")["score"].mean().mean())


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
