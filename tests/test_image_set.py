"""An image set is complete or absent, reads back as written, and says which line or file is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gold_metrics import Entry, Picture
from gold_metrics.image_set import MANIFEST, ImageSetError, read, write


def pictures(count: int, seed: int = 0) -> list[Picture]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (8, 6, 3), dtype=np.uint8) for _ in range(count)]


def entries(count: int) -> list[Entry]:
    target = {"family": "text", "text": "K7"}
    return [Entry(f"{i}.png", "", "p1", 'the text "K7" – ü', i, target if i else None) for i in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "set", pictures(3), entries(3))
    return tmp_path / "set"


def edit(folder: Path, line: int, **fields: Any) -> None:
    lines = (folder / MANIFEST).read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **fields})
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")


def test_a_set_reads_back_to_the_bit_with_the_hashes_of_its_files(folder: Path) -> None:
    there = read(folder)
    for image, written in zip(there.images, pictures(3), strict=True):
        assert image is not None and np.array_equal(image, written)
    assert [dataclasses.replace(entry, sha256="") for entry in there.entries] == entries(3)
    sums = [hashlib.sha256((folder / f"{i}.png").read_bytes()).hexdigest() for i in range(3)]
    assert [entry.sha256 for entry in there.entries] == sums
    assert there.faults == ("", "", "")


def test_writing_again_replaces_the_whole_set_and_leaves_nothing_beside_it(folder: Path) -> None:
    write(folder, pictures(2, seed=1), entries(2))
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png", MANIFEST]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_write_that_fails_keeps_the_old_set(folder: Path) -> None:
    bad = [*entries(1), dataclasses.replace(entries(2)[1], file="../1.png")]
    with pytest.raises(ImageSetError, match=r"\.\./1\.png"):
        write(folder, pictures(2, seed=1), bad)
    assert len(read(folder).images) == 3
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(("images", "lines"), [(0, 0), (2, 3)])
def test_a_set_needs_images_and_an_entry_for_each(tmp_path: Path, images: int, lines: int) -> None:
    with pytest.raises(ImageSetError, match=f"found {images} images and {lines} entries"):
        write(tmp_path / "set", pictures(images), entries(lines))
    assert not list(tmp_path.iterdir())


def test_a_missing_a_changed_and_a_broken_image_are_named_and_the_others_are_kept(folder: Path) -> None:
    (folder / "0.png").unlink()
    (folder / "1.png").write_bytes((folder / "2.png").read_bytes())
    there = read(folder)
    assert [image is None for image in there.images] == [True, True, False]
    assert "0.png: No such file" in there.faults[0] and "sha256 differs" in there.faults[1]
    (folder / "2.png").write_bytes(b"no image")
    edit(folder, 2, sha256=hashlib.sha256(b"no image").hexdigest())
    assert "2.png: not an image" in read(folder).faults[2]


def test_a_truncated_png_is_a_fault_and_no_crash(folder: Path) -> None:
    half = (folder / "2.png").read_bytes()[:80]
    (folder / "2.png").write_bytes(half)
    edit(folder, 2, sha256=hashlib.sha256(half).hexdigest())
    there = read(folder)
    assert there.images[2] is None and "2.png" in there.faults[2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": "7"}, "line 2: seed should be int, found '7'"),
        ({"seed": True}, "line 2: seed should be int, found True"),
        ({"prompt": None}, "line 2: prompt should be str"),
        ({"target": [1]}, "line 2: target should be an object or null"),
        ({"file": "../outside.png"}, "outside.png' is not a file inside"),
        ({"file": "/etc/passwd"}, "passwd' is not a file inside"),
        ({"file": "0.png"}, "0.png is listed twice"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(folder: Path, fields: dict[str, Any], message: str) -> None:
    edit(folder, 1, **fields)
    with pytest.raises(ImageSetError) as error:
        read(folder)
    assert message in str(error.value)


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_an_undecodable_line_is_named(folder: Path, line: bytes) -> None:
    lines = (folder / MANIFEST).read_bytes().splitlines()
    (folder / MANIFEST).write_bytes(b"\n".join([lines[0], line, lines[2]]) + b"\n")
    with pytest.raises(ImageSetError, match="line 2"):
        read(folder)


def test_no_folder_no_manifest_and_an_empty_manifest_are_told_apart(folder: Path) -> None:
    with pytest.raises(ImageSetError, match="no such folder"):
        read(folder / "nowhere")
    (folder / MANIFEST).write_text("")
    with pytest.raises(ImageSetError, match="is empty"):
        read(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(ImageSetError, match=r"3 PNGs but no manifest.*prompt_id"):
        read(folder)


def test_a_set_larger_than_memory_is_read_picture_by_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gold_metrics.image_set.KEPT", pictures(1)[0].nbytes)
    there = read(folder)
    for _ in range(2):
        assert all(np.array_equal(image, written) for image, written in zip(there.images, pictures(3), strict=True))
    (folder / "0.png").unlink()
    (folder / "1.png").unlink()
    assert [image is None for image in there.images] == [False, True, False]  # the first was kept in memory


def test_pictures_of_more_than_eight_bits_and_bombs_of_text_are_faults(folder: Path) -> None:
    Image.fromarray(np.full((4, 4), 30_000, np.uint16)).save(folder / "0.png")
    note = PngInfo()
    note.add_text("comment", "a" * 2**22, zip=True)
    Image.new("RGB", (4, 4)).save(folder / "1.png", pnginfo=note)
    for line in (0, 1):
        edit(folder, line, sha256=hashlib.sha256((folder / f"{line}.png").read_bytes()).hexdigest())
    there = read(folder)
    assert "0.png: more than 8 bits a channel" in there.faults[0] and "1.png: not an image" in there.faults[1]
    assert there.images[2] is not None
