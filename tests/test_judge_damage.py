"""Torn and bit-flipped scores, images and manifests are named; what is whole is judged, and nothing wrong is shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench_runs import settings

from bench import judge, ledger, train
from bench.record import LedgerError
from paper_tables.frame import StudyError, read

ROW, SEED = "sd3_guard_text", "sd3_guard_text/seed0"
SCORES, MANIFEST = "scores/update-000002.parquet", "images/update-000002/manifest.jsonl"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a run that left one judge to later."""
    folder = tmp_path_factory.mktemp("left")
    asked = ("evaluation.images_per_prompt=2", "evaluation.later=[correctness]")
    return train.run(settings(ROW, folder, *asked)).parents[1]


@pytest.fixture
def runs(left: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(left, tmp_path / "runs"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE = pytest.mark.parametrize("damage", [flip, tear])


def judged(run: Path) -> list[int]:
    """The updates whose images have a score of the judge that was left to later."""
    metrics = ledger.read(run).metrics()
    return [] if "gold/correctness" not in metrics else list(metrics.dropna(subset="gold/correctness")["update"])


@DAMAGE
def test_damaged_scores_are_named_and_made_again_when_asked(
    damage: object, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.main([str(runs)])
    path = runs / SEED / SCORES
    whole = path.read_bytes()
    damage(path)  # type: ignore[operator]
    with pytest.raises(LedgerError, match=f"{SCORES} is not what was written"):
        ledger.read(runs / SEED).scores()
    assert judge.main([str(runs)]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"{SCORES} is not what was written; its images are judged again by `python -m bench.judge --anew`")
    )
    assert judge.main([str(runs), "--anew"]) == 0
    assert path.read_bytes() == whole
    path.unlink()
    assert judge.main([str(runs)]) == 0
    assert path.read_bytes() == whole
    assert len(ledger.read(runs / SEED).scores())


def reword(path: Path) -> None:
    """Another manifest that is read without a complaint."""
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 4', 1))


@pytest.mark.parametrize(
    ("what", "damage"),
    [("image", flip), ("image", tear), ("manifest", flip), ("manifest", tear), ("manifest", reword)],
)
def test_damaged_images_are_named_and_not_judged_and_the_others_are(
    what: str, damage: object, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = runs / SEED / MANIFEST
    path = manifest if what == "manifest" else next(manifest.parent.glob("*.png"))
    whole, before = path.read_bytes(), (runs / SEED / SCORES).read_bytes()
    damage(path)  # type: ignore[operator]
    assert judge.main([str(runs)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench.judge")]
    assert len(errors) == 1 and str(path) in errors[0]
    assert judged(runs / SEED) == [0, 4]
    assert (runs / SEED / SCORES).read_bytes() == before
    path.write_bytes(whole)
    assert judge.main([str(runs)]) == 0
    assert sorted(judged(runs / SEED)) == [0, 2, 4]


@pytest.mark.parametrize("name", ["metrics.jsonl", "diagnostics.jsonl", "run.json", "files.json"])
def test_no_table_is_made_of_a_damaged_record(name: str, runs: Path) -> None:
    read(runs)
    flip_digit(runs / SEED / name)
    with pytest.raises(StudyError, match=rf"{SEED}/{name} is (not what was written|damaged)"):
        read(runs)


def flip_digit(path: Path) -> None:
    """Makes another number of the last digit, which is read without a complaint."""
    text = path.read_text()
    at = max(i for i, letter in enumerate(text) if letter.isdigit())
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
