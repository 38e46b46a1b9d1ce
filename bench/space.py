"""Room on a disk: what is free, what is used, and one message where it is not enough or gives out in the middle."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 4096  # bytes: files take whole blocks of it on ext4, XFS, btrfs and tmpfs
RESERVE = 2**20  # bytes; our choice: for status, times, log and folders, which no plan counts
FULL = (errno.ENOSPC, errno.EDQUOT)
# What safetensors and pyarrow say of them, whose errors carry no errno.
FULL_WORDS = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")


class SpaceError(OSError):
    """Too little room on a disk; the message says how much is needed, how much is free, and what to do."""


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def free(folder: Path) -> int:
    """Bytes that the user may still write where the folder is or will be; quotas are not seen."""
    return shutil.disk_usage(existing(folder)).free


def mount(folder: Path) -> Path:
    """Where the disk that holds the folder is mounted."""
    path = existing(folder).resolve()
    return next(each for each in (path, *path.parents) if each.is_mount())


def blocks(size: float) -> int:
    """Bytes that a file of `size` bytes takes on the disk."""
    return -(-round(size) // BLOCK) * BLOCK


def used(*folders: Path) -> int:
    """Bytes that all files in the folders take, in whole blocks; 0 for a folder that is not there."""
    files = (Path(at) / name for folder in folders for at, _, names in os.walk(folder) for name in names)
    return sum(_size(file) for file in files)


def _size(file: Path) -> int:
    try:
        return blocks(file.lstat().st_size)
    except FileNotFoundError:  # another process of the run has renamed or removed it
        return 0


def check(folder: Path, needed: int, what: str) -> None:
    """Whether `needed` bytes can be written where the folder is, and a little beside them.

    Raises:
        SpaceError: they cannot.
    """
    if needed + RESERVE > free(folder):
        raise SpaceError(f"too little room for {what}: {_figures(folder, needed)}")


@contextmanager
def explained(folder: Path, what: str, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """A disk that is full inside this context ends in one message, whichever library met it.

    Args:
        needed: asked only then, what is still to be written to the folder, in bytes.

    Raises:
        SpaceError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        told = next((each for each in _chain(error) if isinstance(each, SpaceError)), None)
        if told:
            raise told from None
        if not is_full(error):
            raise
        name = getattr(error, "filename", None)
        where = f"{what}, {name}" if name else what
        figures = _figures(folder, needed() if needed else 0)
        raise SpaceError(f"the disk is full while writing {where}: {figures}") from error


def is_full(error: BaseException) -> bool:
    """Whether an error, or one behind it, says that a disk or a quota is full."""
    return any(
        getattr(each, "errno", None) in FULL or any(words in str(each) for words in FULL_WORDS)
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _figures(folder: Path, needed: int) -> str:
    wanted = f"{size(needed + RESERVE)} more are needed in {folder} and " if needed else ""
    return (
        f"{wanted}{size(free(folder))} are free on the disk at {mount(folder)}; make room there, and the same command "
        "goes on"
    )


def size(count: float) -> str:
    """Bytes for people: 3.2 GB, 410.0 MB."""
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if count >= pair[0]), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"
