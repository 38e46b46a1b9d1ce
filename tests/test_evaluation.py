"""Evaluation sets: who is scored on which prompts and when, and images that do not depend on who makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_runs import PROMPTS, lines, settings

from bench import ledger, prompts, provenance, sample, train
from bench.config import Config, ConfigError
from bench.experiments import STATISTICS, TABLE1
from bench.policy import Policy, PolicyError
from bench.prompts import PromptError
from bench.ranks import Ranks
from bench.sample import EvaluationSet
from bench.session import prepare
from gold_metrics import image_set
from gold_metrics.judge_server import JudgeServerError
from gold_metrics.unified_reward import UnifiedReward
from paper_tables.frame import read
from paper_tables.table1 import measured

GOLDS = ("correctness", "cleanliness", "variety")


def family(folder: Path, name: str, count: int, repeats: int = 1) -> Path:
    """The first of the shipped evaluation prompts of a family."""
    every = (PROMPTS / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()
    found = [line for line in every if json.loads(line)["target"]["family"] == name][:count]
    path = folder / f"{name}{count}.jsonl"
    path.write_text("\n".join(found * repeats) + "\n", encoding="utf-8")
    return path


def own_sets(folder: Path, texts: int = 3, objects: int = 2) -> tuple[str, ...]:
    """Golds on four objects, two images each; the text proxy on texts, two each; GenEval on objects of its own."""
    text, gold = family(folder, "text", texts), family(folder, "objects", 4)
    geneval = family(folder, "objects", objects, repeats=2)
    own = f"text:{{prompts:{text},images_per_prompt:2}},geneval:{{prompts:{geneval},images_per_prompt:1}}"
    return (f"evaluation.prompts={gold}", "evaluation.images_per_prompt=2", f"+evaluation.proxies={{{own}}}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for row in ("sd3_base", "sd3_guard_text"):
        made = train.run(settings(row, folder, *own_sets(folder)))
    return made


def scored(folder: Path) -> dict[int, dict[str, int]]:
    """Scores of each scorer at each evaluation point, by metrics.jsonl."""
    points = [line for line in lines(folder / "metrics.jsonl") if "gold/variety" in line]
    counts = {
        line["update"]: {k[:-2].split("/")[1]: v for k, v in line.items() if k.endswith("_n") and k != "kl/base_n"}
        for line in points
    }
    return counts


def test_a_point_on_the_way_scores_golds_and_the_own_proxy_and_the_last_point_all(run: Path) -> None:
    golds = {"correctness": 8, "cleanliness": 8, "variety": 4, "pickscore": 8}
    golds |= {"diversity": 4, "duplicates": 4, "stripes": 8, "edge_density": 8}
    on_the_way = golds | {"text": 6}
    found = scored(run)
    assert list(found) == [0, 2, 4]
    assert found[0] == found[2] == on_the_way
    assert found[4] == on_the_way | {"geneval": 2}
    assert scored(run.parents[1] / "sd3_base/seed0") == {0: found[4]}


def test_image_sets_and_scores_of_every_set_are_found_in_the_run_folder(run: Path) -> None:
    frame = ledger.read(run).scores()
    kept = {(own, update) for own, update in zip(frame["own"], frame["update"], strict=True)}
    assert kept == {("", 0), ("", 2), ("", 4), ("text", 0), ("text", 2), ("text", 4), ("geneval", 4)}
    assert {own: set(part["scorer"]) for own, part in frame.groupby("own")} == {
        "": {*GOLDS, "pickscore", *STATISTICS},
        "text": {"text"},
        "geneval": {"geneval"},
    }
    for own, update in kept:
        entries = image_set.read(run / "images" / own / f"update-{update:06d}").entries
        of_point = frame[(frame["own"] == own) & (frame["update"] == update) & frame["image"].notna()]
        assert {entry.sha256 for entry in entries} == set(of_point["image_sha256"])


def test_table_1_has_every_proxy_of_every_row_though_the_curve_has_one(run: Path) -> None:
    table = measured(read(run.parents[1]))
    for row in ("sd3_base", "sd3_guard_text"):
        cells = table.rows[list(TABLE1).index(row)]
        found = {head: cell.n for head, cell in zip(table.heads, cells, strict=True) if head in ("GenEval", "Text")}
        assert found == {"GenEval": 2, "Text": 6}
        assert all(cell.value is not None for cell in cells[2:-1])  # of two steps the base has no variety to divide by


def test_a_proxy_scores_a_prompt_the_same_in_a_set_of_its_own_as_in_the_gold_set(tmp_path: Path) -> None:
    one_at_a_time = ("evaluation.micro_batch=1", "evaluation.images_per_prompt=2")
    gold, text = family(tmp_path, "objects", 2), family(tmp_path, "text", 2)
    both = tmp_path / "both.jsonl"
    both.write_text(gold.read_text() + text.read_text())
    together = train.run(settings("sd3_base", tmp_path, f"evaluation.prompts={both}", *one_at_a_time))
    own = f"+evaluation.proxies={{text:{{prompts:{text},images_per_prompt:2}}}}"
    more = (f"evaluation.prompts={gold}", own, f"runs={tmp_path}/apart")
    apart = train.run(settings("sd3_base", tmp_path, *one_at_a_time, *more))
    (one,), (other,) = lines(together / "metrics.jsonl"), lines(apart / "metrics.jsonl")
    for name in ("proxy/text", "proxy/geneval", "proxy/text_n", "proxy/geneval_n"):
        assert one[name] == other[name]
    assert (one["gold/variety_n"], other["gold/variety_n"]) == (4, 2)
    images = [path / "images" for path in (together / "images/update-000000", apart / "images/text/update-000000")]
    for picture in images[1].glob("*.png"):
        assert picture.read_bytes() == (images[0] / picture.name).read_bytes()


def test_the_evaluation_hash_covers_every_set_and_is_the_gold_sets_where_there_is_no_other(tmp_path: Path) -> None:
    def hashed(*more: str) -> str:
        asked = settings("sd3_base", tmp_path, *more)
        return provenance.inputs(asked, TABLE1["sd3_base"])["evaluation"]

    alone = settings("sd3_base", tmp_path).evaluation.prompts
    assert hashed() == prompts.fingerprint(prompts.load(Path(alone)))
    own = own_sets(tmp_path)
    found = {
        hashed(*own),
        hashed(*own_sets(tmp_path, texts=2)),
        hashed(*own_sets(tmp_path, objects=3)),
        hashed(*own[:2]),
    }
    assert len(found | {hashed(*own, "evaluation.proxies.text.images_per_prompt=3")}) == 5


@pytest.mark.parametrize(
    ("proxies", "kind", "words"),
    [
        ("hpsv2:{prompts:TEXTS}", ConfigError, r"proxies names hpsv2; the proxies are geneval, pickscore, text"),
        ("text:{prompts:TEXTS,images_per_prompt:0}", ConfigError, r"text\.images_per_prompt must be at least 1, found"),
        ("geneval:{prompts:TEXTS}", PromptError, r"no prompt of evaluation\.proxies\.geneval is for the proxy geneval"),
        ("text:{prompts:nowhere.jsonl}", PromptError, r"nowhere\.jsonl cannot be read"),
    ],
)
def test_a_set_that_its_proxy_cannot_judge_is_refused_before_anything_is_loaded(
    proxies: str, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.policy.load", lambda *args, **given: pytest.fail("the pipeline was loaded"))
    listed = proxies.replace("TEXTS", str(family(tmp_path, "text", 2)))
    with pytest.raises(kind, match=words):
        prepare(settings("sd3_base", tmp_path, f"+evaluation.proxies={{{listed}}}"), Ranks())


class Rank(Ranks):
    """One of `count` ranks that never wait: what it hands to the first is kept, round by round."""

    index = 0
    count = 1

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count  # type: ignore[misc]
        self.rounds: list[list[Any]] = []

    def attempt(self, work: Any) -> Any:
        return work()

    def collect(self, items: list[Any]) -> list[Any]:
        self.rounds.append(list(items))
        return []

    def decide(self, question: Callable[[], Any]) -> Any:
        return None


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Policy, EvaluationSet]:
    """Seven prompts twice, in batches of two: eight batches, of which every fourth has one prompt."""
    folder = tmp_path_factory.mktemp("asked")
    made = settings("sd3_base", folder, "evaluation.micro_batch=2", f"evaluation.prompts={family(folder, 'text', 7)}")
    session = prepare(made, Ranks())
    return made, session.policy, EvaluationSet("", session.evaluation_sets[0].prompts, 2)


@pytest.mark.parametrize("count", [2, 3, 5, 11])
def test_ranks_make_the_images_of_one_process_in_equally_many_forwards(
    count: int, asked: tuple[Config, Policy, EvaluationSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, policy, wanted = asked
    calls, own = [0] * count, policy.velocity
    sample.write(policy, wanted, 0, made.evaluation, tmp_path / "alone", Ranks())
    alone = list(image_set.read(tmp_path / "alone").images)
    rounds = []
    for index in range(count):

        def counted(*args: Any, at: int = index) -> Any:
            calls[at] += 1
            return own(*args)

        monkeypatch.setattr(policy, "velocity", counted)
        rank = Rank(index, count)
        sample.write(policy, wanted, 0, made.evaluation, tmp_path / "shared", rank)
        rounds.append(rank.rounds)
    assert calls == [-(-8 // count) * made.evaluation.steps] * count
    shared = [picture for each in zip(*rounds, strict=True) for batch in each for picture in batch]
    assert len(shared) == len(alone) == 14
    assert all(np.array_equal(one, other) for one, other in zip(alone, shared, strict=True))


def test_a_rank_that_cannot_make_its_images_stops_all_and_leaves_no_image_set(
    asked: tuple[Config, Policy, EvaluationSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, policy, wanted = asked
    ranks = Ranks()
    # As seen from a rank that succeeded while its neighbour did not.
    monkeypatch.setattr(ranks, "gather", lambda errors: [*errors, PolicyError("out of memory")])
    with pytest.raises(PolicyError, match="out of memory"):
        sample.write(policy, wanted, 0, made.evaluation, tmp_path / "images", ranks)
    assert not (tmp_path / "images").exists()


def test_where_forwards_have_a_fixed_size_every_batch_takes_one_a_step(
    asked: tuple[Config, Policy, EvaluationSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batches of two would be cut into one forward or two, and ranks of a sharded transformer would not meet.
    made, policy, wanted = asked
    rows, own = [], policy._velocity
    monkeypatch.setattr(policy, "_velocity", lambda *args: rows.append(len(args[0])) or own(*args))
    monkeypatch.setattr(policy, "rows", 1)
    ranks = Rank(0, 1)
    sample.write(policy, wanted, 0, made.evaluation, tmp_path / "images", ranks)
    assert [len(made) for made in ranks.rounds] == [1] * 14
    assert rows == [1] * 14 * made.evaluation.steps


def test_a_set_whose_proxy_is_not_asked_is_made_and_judged_by_nobody(tmp_path: Path) -> None:
    own = EvaluationSet("text", prompts.load(family(tmp_path, "text", 2)), 1)
    assert sample.judges_of(own, [own], []) == []


def test_a_judge_whose_server_is_not_there_stops_a_run_before_weights_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = UnifiedReward(base_url="http://127.0.0.1:9/v1", attempts=1)
    monkeypatch.setattr("bench.sample.judges", lambda settings: [asked])
    monkeypatch.setattr("bench.loading.load", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(JudgeServerError, match=r"127\.0\.0\.1:9"):
        prepare(settings("sd3_base", tmp_path), Ranks())
