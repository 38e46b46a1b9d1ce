"""The room on a disk that a run needs: for all that is left of it, for a checkpoint, for an evaluation point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench import sample, space
from bench.config import Config
from bench.costs import SAVED_COPIES, SCORE_BYTES, SINGLE, disk, image_bytes
from bench.experiments import Row
from bench.passes import passes_of
from bench.session import Session


def left(settings: Config, row: Row, trainable: int, folder: Path) -> int:
    """Bytes that a run has yet to write to its folder: what is planned less what is there.

    Args:
        trainable: how many parameters are trained.

    Raises:
        PromptError: the size of a prompt file is not known.
    """
    planned = disk(settings, row, trainable, passes_of(settings, row))
    # Images are counted and not measured: a long run has hundreds of thousands, on a slow file system.
    images = sum(1 for _ in (folder / "images").rglob("*.png"))
    there = {
        "disk_checkpoints": space.used(*(folder / name for name in ("checkpoints", "lora", "transformer"))),
        "disk_images": images * image_bytes(settings.backbones[row.backbone].resolution),
        "disk_scores": space.used(folder / "scores"),
        "disk_record": 0,
    }
    return sum(max(0, planned[part] - there[part]) for part in planned)


def for_the_rest(session: Session) -> AbstractContextManager[None]:
    """For all that the run has yet to write."""
    settings, folder = session.config, session.record.folder
    return _held(session, "the run", lambda: left(settings, session.row, _trainable(session), folder))


def for_checkpoint(session: Session) -> AbstractContextManager[None]:
    """For a checkpoint beside those that are kept."""
    what = f"the checkpoint of update {session.state.update}"
    return _held(session, what, lambda: SAVED_COPIES * SINGLE * _trainable(session))


def for_evaluation(session: Session) -> AbstractContextManager[None]:
    """For the images and scores of an evaluation point."""
    sets, update = session.evaluation_sets, session.state.update
    images = sum(len(each.entries()) for each in sample.due(sets, session.row.task, update == session.updates))
    each = image_bytes(session.policy.resolution) + len(session.scorers) * SCORE_BYTES
    return _held(session, f"the evaluation at update {update}", lambda: round(images * each))


def _trainable(session: Session) -> int:
    return sum(parameter.numel() for parameter in session.state.parameters)


@contextmanager
def _held(session: Session, what: str, needed: Callable[[], int]) -> Iterator[None]:
    """Refuses on every rank where there is too little room; explains a disk that fills inside."""
    folder = session.record.folder
    session.ranks.decide(lambda: space.check(folder, needed(), what))
    with space.explained(folder, what, needed):
        yield
