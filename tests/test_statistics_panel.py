"""What becomes of score files before anything is resampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_scores import GOLDS, lines, write_scored

from bench import seals
from paper_tables.frame import StudyError, read
from paper_tables.statistics.bootstrap import column_means, strata
from paper_tables.statistics.panel import missing, panel, scores

NAN = np.nan


def test_a_prompt_has_the_mean_of_its_images_and_none_from_a_judge_that_does_not_judge_it(tmp_path: Path) -> None:
    text = np.array([[NAN, NAN], [0.0, 1.0], [1.0, 1.0]])
    write_scored(tmp_path, "sd3_base", {0: {"text": text, **dict.fromkeys(GOLDS, np.array([[1.0, 3.0]] * 3))}})
    found = panel(scores(read(tmp_path)), "sd3_base", [(0, "text"), (0, "variety")], [0])
    np.testing.assert_array_equal(found.values, [[[NAN, 2.0], [0.5, 2.0], [1.0, 2.0]]])
    assert len(set(strata(found))) == 2


def test_a_score_that_could_not_be_had_is_dropped_and_counted(tmp_path: Path) -> None:
    values = np.array([[0.2, NAN], [0.6, 0.8]])
    write_scored(tmp_path, "sd3_base", {0: dict.fromkeys(GOLDS, values)})
    study = read(tmp_path)
    found = panel(scores(study), "sd3_base", [(0, "variety")], [0])
    np.testing.assert_allclose(found.values[0, :, 0], [0.2, 0.7])
    assert not scores(study)["score"].isna().any()
    assert missing(study)[["scorer", "missing"]].to_numpy().tolist() == [[gold, 1] for gold in sorted(GOLDS)]


def test_the_prompts_of_a_proxys_own_set_are_not_taken_for_those_of_the_gold_set(tmp_path: Path) -> None:
    folder = write_scored(tmp_path, "sd3_base", {0: dict.fromkeys(GOLDS, np.ones((2, 2)))})
    (folder / "scores" / "geneval").mkdir()
    lines({"geneval": np.ones((2, 2))}).to_parquet(folder / "scores" / "geneval" / "update-000000.parquet")
    found = panel(scores(read(tmp_path)), "sd3_base", [(0, "geneval"), (0, "variety")], [0])
    assert set(found.prompts) == {"p000", "p001", "geneval/p000", "geneval/p001"}


def test_the_parts_of_a_score_count_alike_however_many_prompts_they_have(tmp_path: Path) -> None:
    folder = write_scored(tmp_path, "sd3_base", {0: dict.fromkeys(GOLDS, np.ones((4, 1)))})
    scored = {"geneval": np.array([[1.0, 1], [0, 0], [0, 0], [0.0, 0]]), "variety": np.array([[4.0], [0], [0], [0]])}
    part = {0: "counting", 1: "colors", 2: "colors", 3: "colors"}
    lines(scored, part).to_parquet(folder / "scores" / "update-000000.parquet")
    found = panel(scores(read(tmp_path)), "sd3_base", [(0, "geneval")], [0])
    assert column_means(found)[0, 0, 0] == pytest.approx((1 + 0) / 2)
    assert list(np.bincount(strata(found))) == [1, 3]


def test_a_seed_without_scores_is_named(tmp_path: Path) -> None:
    write_scored(tmp_path, "sd3_base", {0: dict.fromkeys(GOLDS, np.ones((2, 1)))})
    with pytest.raises(KeyError, match=r"wanted scores of sd3_base under seeds \[0, 7\], found none under \[7\]"):
        panel(scores(read(tmp_path)), "sd3_base", [(0, "variety")], [0, 7])


def test_a_score_file_that_is_not_what_was_written_is_named_in_a_line(tmp_path: Path) -> None:
    folder = write_scored(tmp_path, "sd3_base", {0: dict.fromkeys(GOLDS, np.ones((2, 1)))})
    path = folder / "scores" / "update-000000.parquet"
    seals.seal(folder, path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StudyError, match=r"update-000000.parquet .*FORCE=1"):
        scores(read(tmp_path))
