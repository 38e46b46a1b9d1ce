"""A folder of one's own images becomes an image set in one command, and is judged by the next."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from gold_metrics.__main__ import main
from gold_metrics.image_set import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    for number, name in enumerate(("10.png", "2.jpg", "1.webp")):
        Image.new("RGB", (40, 30), (number, number, number)).save(tmp_path / "mine" / name)
    return tmp_path / "mine"


def asked(folder: Path, *lines: str, suffix: str = "txt") -> Path:
    path = folder.parent / f"prompts.{suffix}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_two_commands_judge_a_folder_of_images(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prompts = asked(folder, "first", "second", "tenth")
    assert main(["describe", str(folder), "--prompts", str(prompts)]) == 0
    assert "3 images, 3 prompts" in capsys.readouterr().out
    out = tmp_path / "scores.parquet"
    judge = [str(folder), "--scorers", "saturation,edge_density", "--out", str(out), "--cache", str(tmp_path / "kept")]
    assert main(judge) == 0
    frame = pd.read_parquet(out)
    assert frame.groupby("scorer")["score"].count().to_dict() == {"edge_density": 3, "saturation": 3}


def test_lines_go_to_images_by_the_numbers_in_their_names(folder: Path) -> None:
    main(["describe", str(folder), "--prompts", str(asked(folder, "first", "second", "tenth"))])
    assert {e.file: e.prompt for e in read(folder).entries} == {"1.webp": "first", "2.jpg": "second", "10.png": "tenth"}


def test_json_lines_name_the_image_the_seed_and_the_meaning(folder: Path) -> None:
    files = ("2.jpg", "10.png", "1.webp")
    lines = (json.dumps({"file": file, "prompt": "p", "seed": 7, "target": {"a": 1}}) for file in files)
    assert main(["describe", str(folder), "--prompts", str(asked(folder, *lines, suffix="jsonl"))]) == 0
    entries = read(folder).entries
    assert {(e.seed, e.prompt, str(e.target)) for e in entries} == {(7, "p", "{'a': 1}")}
    assert len({e.prompt_id for e in entries}) == 1


@pytest.mark.parametrize(
    ("lines", "suffix", "message"),
    [
        (["a", "b"], "txt", "has 3 images and"),
        (["a", "", "c"], "txt", "line 2 is empty"),
        (['{"file": "2.jpg"}'], "jsonl", 'wanted an object with "file" and "prompt"'),
        (['{"file": "2.jpg", "prompt": "p"}'], "jsonl", "the first an image without a prompt: 1.webp"),
        (['{"file": "gone.png", "prompt": "p"}'] * 3, "jsonl", "has 3 images and"),
    ],
)
def test_prompts_that_do_not_fit_the_images_are_one_clear_line(
    folder: Path, capsys: pytest.CaptureFixture, lines: list[str], suffix: str, message: str
) -> None:
    assert main(["describe", str(folder), "--prompts", str(asked(folder, *lines, suffix=suffix))]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not (folder / "manifest.jsonl").exists()


def test_a_folder_without_images_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    prompts = tmp_path / "p.txt"
    prompts.write_text("a\n")
    assert main(["describe", str(tmp_path / "empty"), "--prompts", str(prompts)]) == 2
    assert "no image is there; wanted files that end in .png" in capsys.readouterr().err


def test_what_was_scored_is_kept_when_the_disk_fills(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gold_metrics.image_statistics import EdgeDensity

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    main(["describe", str(folder), "--prompts", str(asked(folder, "first", "second", "tenth"))])
    out = tmp_path / "scores.parquet"
    judge = [str(folder), "--scorers", "saturation,edge_density", "--out", str(out), "--cache", str(tmp_path / "kept")]
    with monkeypatch.context() as patched:
        patched.setattr(EdgeDensity, "score", full)
        assert main(judge) == 2
    assert "No space left on device; finished scores are kept: the same command goes on" in capsys.readouterr().err
    assert set(pd.read_parquet(out)["scorer"]) == {"saturation"}
    assert main(judge) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hpsv2.version=v2.0", "--set wants SCORER.OPTION=VALUE with SCORER one of saturation"),
        ("saturation.colour=1", "saturation has no option 'colour'"),
        ("saturation", "--set wants SCORER.OPTION=VALUE"),
    ],
)
def test_an_option_that_no_judge_here_has_is_one_clear_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, setting: str, message: str
) -> None:
    main(["describe", str(folder), "--prompts", str(asked(folder, "first", "second", "tenth"))])
    capsys.readouterr()
    out = str(tmp_path / "scores.parquet")
    assert main([str(folder), "--scorers", "saturation", "--set", setting, "--out", out]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_who_judges_other_images_than_the_little_worlds_has_to_be_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    main(["describe", str(folder), "--prompts", str(asked(folder, "first", "second", "tenth"))])
    capsys.readouterr()
    assert main([str(folder), "--out", str(tmp_path / "s.parquet")]) == 2
    assert "name who judges, --scorers hpsv2,image_reward,unified_reward" in capsys.readouterr().err
