"""What is judged later is what the run would have judged itself; nothing is asked twice, nothing doubled."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from bench_runs import lines, settings

from bench import judge, ledger, rewards, train
from bench.config import ConfigError
from bench.experiments import GOLD, STATISTICS
from bench.lock import RunLock
from bench.ranks import Ranks
from bench.session import prepare
from gold_metrics import Entry, Picture, Score, Scorer, missing
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.unified_reward import UnifiedReward
from paper_tables.frame import read
from paper_tables.table1 import measured

ROW, SEED = "sd3_guard_text", "sd3_guard_text/seed0"
GOLDS = GOLD["tiny"]
TWICE = "evaluation.images_per_prompt=2"  # one image of a prompt has no variety
LATER = f"evaluation.later=[{','.join(GOLDS)}]"


@pytest.fixture(scope="module")
def itself(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that asked all judges."""
    return train.run(settings(ROW, tmp_path_factory.mktemp("itself"), TWICE))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a run that left its golds to later."""
    return train.run(settings(ROW, tmp_path_factory.mktemp("left"), TWICE, LATER)).parents[1]


@pytest.fixture
def runs(left: Path, tmp_path: Path) -> Path:
    """The same, for one test alone."""
    return Path(shutil.copytree(left, tmp_path / "runs"))


def points(run: Path) -> list[tuple[int, str, Any]]:
    """Every (update, name, value) of the metrics."""
    return sorted((row["update"], *item) for row in lines(run / "metrics.jsonl") for item in row.items())


def content(folder: Path) -> dict[str, bytes]:
    """Of every file but the lock's."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def assert_complete(itself: Path, run: Path) -> None:
    """The scores are those of the run that asked all judges itself; each metric of an update is there once."""
    for path in (itself / "scores").rglob("*"):
        assert (run / path.relative_to(itself)).read_bytes() == path.read_bytes(), path.name
    found = [(update, name) for update, name, _ in points(run) if name not in ("update", "epoch")]
    assert len(found) == len(set(found))
    assert set(points(run)) == set(points(itself))
    assert not [path.name for path in run.rglob(".*") if path.name != ".lock"]


def test_what_is_judged_later_is_what_the_run_judges_itself(itself: Path, runs: Path) -> None:
    run = runs / SEED
    asked_none = ledger.read(run).scores()
    assert set(asked_none["scorer"]) == {"geneval", "pickscore", "text", *STATISTICS}
    assert ledger.read(run).info["definitions"] == ledger.read(itself).info["definitions"]
    assert judge.main([str(runs)]) == 0
    assert_complete(itself, run)


def test_a_second_call_loads_no_judge_and_changes_no_byte(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.main([str(runs)])
    before = content(runs)
    monkeypatch.setattr(rewards, "judge", lambda *_: pytest.fail("a judge was loaded"))
    assert judge.main([str(runs)]) == 0
    assert content(runs) == before
    assert capsys.readouterr().out.splitlines()[-1] == f"1 runs in {runs}: all judged"


def test_a_judge_that_is_none_is_refused_and_one_for_later_needs_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"later names hpsv2; the judges are geneval, .*, variety"):
        prepare(settings(ROW, tmp_path, "evaluation.later=[hpsv2]"), Ranks())
    asked = UnifiedReward(base_url="http://127.0.0.1:9/v1", attempts=1)
    monkeypatch.setattr("bench.sample.judges", lambda settings: [asked])
    session = prepare(settings("sd3_base", tmp_path, "evaluation.later=[unified_reward]"), Ranks())
    assert session.scorers == [asked]


def test_another_judge_than_the_runs_is_refused_with_both_definitions(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / SEED / "run.json"
    wanted = ledger.read(path.parent).info["definitions"]["variety"]
    path.write_text(path.read_text().replace(wanted, "0123456789abcdef"))
    before = content(runs)
    assert judge.main([str(runs)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"wanted the definition 0123456789abcdef, found {wanted}" in error
    assert content(runs) == before


class Wrapped:
    """A judge that says of each image what `before` lets it."""

    def __init__(self, judge: Scorer, before: Callable[[str, Entry], str]) -> None:
        self._judge, self._before = judge, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        reasons = [self._before(self._judge.name, entry) for entry in entries]
        scores = self._judge.score(images, entries)
        if len(scores) != len(reasons):
            return scores
        return [missing(reason) if reason else score for score, reason in zip(scores, reasons, strict=True)]


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, Entry], str]], None]:
    load = rewards.judge

    def put(before: Callable[[str, Entry], str]) -> None:
        monkeypatch.setattr(rewards, "judge", lambda *asked: Wrapped(load(*asked), before))

    return put


def test_scores_that_could_not_be_had_are_asked_for_again_alone_and_their_metrics_replaced(
    itself: Path, runs: Path, wrap: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = lambda name, entry: "the server died" if name == "correctness" and entry.seed else ""  # noqa: E731
    wrap(dead)
    assert judge.main([str(runs)]) == 1
    assert "4 scores of correctness could not be had, the first because the server died" in capsys.readouterr().err
    assert [value for _, name, value in points(runs / SEED) if name == "gold/correctness_missing"] == [4, 4, 4]
    asked: list[tuple[str, int]] = []
    wrap(lambda name, entry: asked.append((name, entry.seed)) or "")
    assert judge.main([str(runs)]) == 0
    assert asked == [("correctness", 1)] * 4 * 3
    assert_complete(itself, runs / SEED)


def test_a_call_that_is_cut_short_goes_on_where_it_was(itself: Path, runs: Path, wrap: Any) -> None:
    asked: list[str] = []

    def interrupted(name: str, entry: Entry) -> str:
        asked.append(name)
        if asked.count("cleanliness") > 8:  # in the second image set
            raise KeyboardInterrupt
        return ""

    wrap(interrupted)
    with pytest.raises(KeyboardInterrupt):
        judge.main([str(runs)])
    asked.remove("cleanliness")
    wrap(lambda name, entry: asked.append(name) or "")
    assert judge.main([str(runs)]) == 0
    assert [asked.count(name) for name in GOLDS] == [8 * 3] * 3
    assert_complete(itself, runs / SEED)


def test_a_server_is_waited_for_and_not_for_ever(
    runs: Path, wrap: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[float] = []

    def check(scorer: Any) -> None:
        looks.append(0)
        if len(looks) < 3:
            raise JudgeServerError("nobody answers")

    monkeypatch.setattr(Wrapped, "check", check, raising=False)
    monkeypatch.setattr(judge, "POLL", 0.01)
    wrap(lambda name, entry: "")
    assert judge.main([str(runs)]) == 2
    assert capsys.readouterr().err.splitlines() == ["bench.judge: nobody answers"]
    assert judge.main([str(runs), "--wait", "60"]) == 0


def test_a_run_that_another_process_works_on_or_that_is_not_finished_is_left_and_named(
    itself: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy, stopped = (Path(shutil.copytree(runs / SEED, runs / ROW / name)) for name in ("seed1", "seed2"))
    status = json.loads((stopped / "status.json").read_text())
    (stopped / "status.json").write_text(json.dumps(status | {"state": "preempted"}))
    before = content(stopped), content(busy)
    with RunLock(busy):
        assert judge.main([str(runs)]) == 1
    errors = capsys.readouterr().err
    assert f"another process works on {busy}" in errors
    assert f"{stopped} is not finished" in errors
    assert (content(stopped), content(busy)) == before
    assert_complete(itself, runs / SEED)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--row", "sd3_flow_text"], "no such run in"),
        (["--row", "sd3_flow_txt"], "did you mean one of: sd3_flow_text"),
        (["--set", "variety"], "--set wants SCORER.OPTION=VALUE"),
        (["--set", "variety.color=red"], "variety has no option 'color'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    arguments: list[str], words: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge.main([str(runs), *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert words in errors[-1] and len(errors) == 1


def test_the_table_says_what_nobody_has_judged_yet_and_shows_the_rest(itself: Path, runs: Path) -> None:
    def cells(runs: Path) -> dict[str, Any]:
        table = measured(read(runs))
        row = table.keys.index(ROW)
        return dict(zip(table.heads, table.rows[row], strict=True)) | {"notes": " ".join(table.notes)}

    found, wanted = cells(runs), cells(itself.parents[1])
    assert [found[head].display for head in ("Correctness", "Cleanliness", "Variety", "Average")] == ["not judged"] * 4
    assert found["Text"] == wanted["Text"] and not math.isnan(found["Text"].value)
    unjudged = ", ".join(f"gold/{name}" for name in GOLDS)
    assert f"Not judged yet, `python -m bench.judge RUNS` does it: {unjudged} of {ROW} seed 0." in found["notes"]
    judge.main([str(runs)])
    assert cells(runs) == wanted
