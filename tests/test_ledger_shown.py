"""MLflow shows proxy and gold on one scale, what went into a run, its pictures; and each run is found from a cell."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from fake_ledger import UPDATES, metrics, write_run, write_study
from PIL import Image

from bench import ledger
from bench.experiments import PAIRS, ROWS
from bench.ledger import __main__ as command
from bench.ledger import shown
from bench.ledger.scaled import scaled
from bench.record import Record, read_lines
from paper_tables import frame

STORED = "sqlite:///{}/mlflow.db"
GOLDS, SORTS = ("one", "two"), ("proxy/", "gold/")


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path)
    return tmp_path


def line(update: int, **scores: float | None) -> dict[str, Any]:
    names = {name: f"{'proxy' if name == 'text' else 'gold'}/{name}" for name in scores}
    return {"update": update, "epoch": 0} | {names[name]: value for name, value in scores.items()}


def client(runs: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(STORED.format(runs))


def history(runs: Path, run_id: str, name: str) -> dict[int, float]:
    return {m.step: m.value for m in client(runs).get_metric_history(run_id, name)}


def test_each_score_is_over_its_value_at_update_0_and_the_gap_is_their_difference() -> None:
    found = scaled([line(0, text=0.5, one=0.8, two=2.0), line(20, text=0.75, one=0.6, two=2.2)], "text", GOLDS)
    assert {name for (name, update), value in found.items() if update == 0 and value == (name[:3] != "gap")} == {
        name for name, update in found if update == 20
    }
    assert {name: value for (name, update), value in found.items() if update == 20} == pytest.approx(
        {
            "proxy/normalized": 1.5,
            "gold/average": (0.75 + 1.1) / 2,
            "gap/average": 1.5 - 0.925,
            "gap/one": 0.75,
            "gap/two": 0.4,
        }
    )


@pytest.mark.parametrize("base", [0.0, -0.3, None, float("nan"), float("inf")])
def test_there_is_neither_a_ratio_to_such_a_base_score_nor_an_average_of_fewer_golds(base: float | None) -> None:
    found = scaled([line(0, text=0.5, one=base, two=2.0), line(20, text=0.75, one=0.6, two=2.2)], "text", GOLDS)
    assert {name for name, update in found if update == 20} == {"proxy/normalized", "gap/two"}
    assert scaled([line(20, text=0.75, one=0.6)], "text", GOLDS) == {}


def test_the_average_is_that_of_the_table(runs: Path) -> None:
    folder = write_study(runs, ("sd3_base", "sd3_flow_text", "sd3_guard_text"))
    curves = frame.curves(frame.read(folder)).set_index(["row", "update"])["gold/average"]
    for row in ("sd3_base", "sd3_flow_text", "sd3_guard_text"):
        run_id = ledger.mirror(ledger.read(runs / row / "seed0"), STORED.format(runs))
        assert history(runs, run_id, "gold/average") == pytest.approx(curves[row].to_dict(), rel=1e-12)


def test_judges_asked_later_give_every_value_that_waited_for_them_once(runs: Path) -> None:
    # The base's golds are known last of all: update 20 has its average only then.
    record = Record(runs / "sd3_flow_text/seed0")
    record.begin({"row": "sd3_flow_text", "seed": 0, "task": "text", "scale": "tiny"})
    whole = [metrics(ROWS["sd3_flow_text"], 0, "tiny", update) for update in UPDATES]
    parts = {sort: [{k: v for k, v in each.items() if sort in k or k == "update"} for each in whole] for sort in SORTS}
    seen = []
    for row in [*parts["proxy/"], *reversed(parts["gold/"])]:
        record.append("metrics", row | {"epoch": 0})
        run_id = ledger.mirror(ledger.read(record.folder), STORED.format(runs))
        seen.append(len(history(runs, run_id, "gold/average")))
    assert seen == [0, 0, 0, 0, 0, len(UPDATES)]
    expected = scaled(whole, "text", ("correctness", "cleanliness", "variety"))
    for name in ("proxy/normalized", "gold/average", "gap/average", "gap/variety"):
        assert history(runs, run_id, name) == {u: value for (n, u), value in expected.items() if n == name}
        points = client(runs).get_metric_history(run_id, name)
        assert len(points) == len(UPDATES)


def images(run: Path, update: int, color: str) -> None:
    folder = run / f"images/update-{update:06d}"
    folder.mkdir(parents=True)
    entries = [{"file": f"p{p}-{m}.png", "sha256": color, "prompt_id": f"p{p}"} for m in (0, 1) for p in range(3)]
    for entry in entries:
        Image.new("RGB", (32, 32), color).save(folder / entry["file"])
    (folder / "p1-1.png").write_bytes(b"torn")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def scored(run: Path, update: int) -> None:
    (run / "scores").mkdir(exist_ok=True)
    pd.DataFrame({"score": [float(update)]}).to_parquet(run / f"scores/update-{update:06d}.parquet")


def artifacts(runs: Path, run_id: str) -> Path:
    return Path(client(runs).get_run(run_id).info.artifact_uri.removeprefix("file://"))


def test_the_page_of_a_run_has_its_scores_and_the_pictures_of_its_last_evaluation(runs: Path) -> None:
    folder = write_run(runs, "sd3_guard_text")
    for update, color in ((0, "red"), (20, "blue")):
        images(folder, update, color)
        scored(folder, update)
        run_id = ledger.mirror(ledger.read(folder), STORED.format(runs))
    there = artifacts(runs, run_id)
    for name in ("scores/update-000000.parquet", "scores/update-000020.parquet"):
        assert (there / name).read_bytes() == (folder / name).read_bytes()
    manifest = folder / "images/update-000020/manifest.jsonl"
    assert (there / "images/manifest.jsonl").read_bytes() == manifest.read_bytes()
    with Image.open(there / "images/sheet.png") as sheet:
        tiles = {at: sheet.getpixel((at * shown.TILE + 5, 5)) for at in range(6)}
    # Three prompts of two members side by side; the torn picture is blank.
    assert tiles == {at: (255, 255, 255) if at == 3 else (0, 0, 255) for at in range(6)}
    assert (there / "config.yaml").read_text().startswith("clip_scale: 11.3")


def test_a_sheet_shows_whole_prompts_of_the_whole_set(tmp_path: Path) -> None:
    entries = [{"file": f"{p}-{m}.png", "prompt_id": str(p)} for p in range(500) for m in range(4)]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for member in range(4):
        for prompt in (0, 499):
            Image.new("RGB", (256, 256), "green").save(tmp_path / f"{prompt}-{member}.png")
    sheet = shown.sheet(tmp_path)
    assert sheet.size == (shown.COLUMNS * shown.TILE, shown.LINES * shown.TILE)
    green = [
        sheet.getpixel((x * shown.TILE + 9, y * shown.TILE + 9)) == (0, 128, 0) for y in (0, 11) for x in range(16)
    ]
    assert green == [True] * 4 + [False] * 12 + [False] * 12 + [True] * 4


def test_prompts_and_base_model_are_inputs_that_runs_share(runs: Path) -> None:
    prompts = runs / "text.jsonl"
    prompts.write_text('{"prompt": "A"}\n\n{"prompt": "B"}\n')
    config = {"tasks": {"text": {"prompts": str(prompts)}}, "evaluation": {"prompts": "gone/evaluation.jsonl"}}
    found = []
    for row in ("sd3_flow_text", "sd3_guard_text"):
        run_id = ledger.mirror(ledger.read(write_run(runs, row, config=config)), STORED.format(runs))
        found.append(client(runs).get_run(run_id).inputs)
    tags = [{tag.key: tag.value for tag in each.tags} for each in found[0].dataset_inputs]
    by_context = {each["mlflow.data.context"]: each for each in tags}
    assert by_context["training"] == {
        "mlflow.data.context": "training", "file": "text.jsonl", "hash": "prompts-text", "prompts": "2",
        "sha256": hashlib.sha256(prompts.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert by_context["evaluation"] == {
        "mlflow.data.context": "evaluation", "file": "evaluation.jsonl", "hash": "evaluation-0",
    }  # fmt: skip
    digests = [{each.dataset.name: each.dataset.digest for each in inputs.dataset_inputs} for inputs in found]
    assert digests[0] == digests[1] == {"text.jsonl": "prompts-text", "evaluation.jsonl": "evaluation-0"}
    (one,), (other,) = ([each.model_id for each in inputs.model_inputs] for inputs in found)
    assert one == other
    assert client(runs).get_logged_model(one).tags["hash"] == "sd3"


def run_command(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        command.main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_a_run_is_found_from_its_cell_and_the_cell_and_folder_from_mlflow(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(runs, "sd3_guard_text", seed=3)
    write_run(runs, "sd3_flow_text", seed=3)
    run_id = ledger.mirror(ledger.read(folder), STORED.format(runs))
    for words in (["sd3_guard_text-seed3"], ["sd3_guard_text", "3"], ["sd3_guard_text"], [run_id]):
        assert run_command("find", *words, "--runs", runs) == 0
        told = capsys.readouterr().out
        assert f"folder  {folder}\n" in told and f"/#/experiments/1/runs/{run_id}" in told and "sd3_flow" not in told
    tags = client(runs).get_run(run_id).data.tags
    assert tags["folder"] == str(folder)
    assert "Table 1: line `sd3_guard_text` of `table1.csv`" in tags["mlflow.note.content"]
    assert "`sd3_guard_text-seed3`" in tags["mlflow.note.content"]
    assert run_command("find", "sd3_flow_text", "3", "--runs", runs) == 0
    assert "not there: python -m bench.ledger reconcile" in capsys.readouterr().out
    assert run_command("find", "sd3_guard_text", "4", "--runs", runs) == 2
    assert "no run sd3_guard_text seed 4" in (told := capsys.readouterr().err) and "sd3_flow_text-seed3" in told


def test_tables_and_figures_are_a_run_of_their_own_that_is_made_anew_only_when_they_change(runs: Path) -> None:
    write_run(runs, "sd3_base")
    out = runs / "out"
    out.mkdir()
    (out / "table1.csv").write_text("old")
    seen = []
    for content in ("old", "old", "new"):
        (out / "table1.csv").write_text(content)
        assert run_command("reconcile", runs, "--out", out) == 0
        (kept,) = client(runs).search_runs(["1"], "tags.`mlflow.runName` = 'tables and figures'")
        seen.append(kept.info.run_id)
        assert (artifacts(runs, kept.info.run_id) / "table1.csv").read_text() == content
        assert kept.info.status == "FINISHED"
    assert seen[0] == seen[1] != seen[2]


def test_every_method_of_table_1_under_guard_has_its_twin() -> None:
    found = {pair.guard.name: pair.base.name for pair in PAIRS}
    assert found == {
        "sd3_guard_geneval": "sd3_flow_geneval",
        "sd3_guard_pickscore": "sd3_flow_pickscore",
        "sd3_guard_text": "sd3_flow_text",
        "flux_guard_geneval": "flux_dance_geneval",
        "flux_guard_text": "flux_dance_text",
    }


def test_links_compare_a_method_and_its_twin_of_one_seed_on_one_scale(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("links", runs) == 0 and "no method and its" in capsys.readouterr().out
    ids = {}
    for row, seed in (("sd3_flow_text", 0), ("sd3_guard_text", 0), ("sd3_guard_text", 1), ("flux_dance_text", 1)):
        ids[row, seed] = ledger.mirror(ledger.read(write_run(runs, row, seed)), STORED.format(runs))
    assert run_command("links", runs, "--page", "http://127.0.0.1:7/") == 0
    what, link = capsys.readouterr().out.splitlines()
    assert what == "FlowGRPO and GRPO-Guard on sd3, text, seed 0"
    page, asked = unquote(link.strip()).split("/#/metric?")
    wanted = {key: json.loads(value) for key, value in (each.split("=") for each in asked.split("&")[:-1])}
    assert page == "http://127.0.0.1:7" and asked.endswith("&x_axis=step")
    assert wanted == {
        "runs": [ids["sd3_flow_text", 0], ids["sd3_guard_text", 0]],
        "metric": "proxy/normalized",
        "experiments": ["1"],
        "plot_metric_keys": ["proxy/normalized", "gold/average"],
    }
    assert len(read_lines(runs / "sd3_guard_text/seed0/metrics.jsonl")) == len(UPDATES)  # nothing is written there
