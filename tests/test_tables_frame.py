"""Which runs are put into one table, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_ledger import write_run, write_study
from fake_scores import golds, write_scored

from bench.experiments import JUDGED, ROWS
from paper_tables.frame import StudyError, find_pair, read

TWO = ("sd3_flow_text", "sd3_guard_text")


def test_a_folder_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no run folder at .*nowhere: train with `make table1`"):
        read(tmp_path / "nowhere")


def test_a_folder_without_a_finished_run_says_what_was_found(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text", state="failed", update=7, error="out of memory")
    with pytest.raises(StudyError, match="sd3_flow_text seed 0: failed at update 7 of 40, out of memory"):
        read(tmp_path)


def test_an_empty_folder_has_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no run at all"):
        read(tmp_path)


@pytest.mark.parametrize("key", ["prompts", "noise", "evaluation", "weights"])
def test_runs_that_saw_other_prompts_or_noise_are_refused_by_name(tmp_path: Path, key: str) -> None:
    hashes = {"prompts": "prompts-text", "noise": "noise-0", "evaluation": "evaluation-0", "weights": "sd3"}
    write_run(tmp_path, "sd3_flow_text")
    write_run(tmp_path, "sd3_guard_text", hashes=hashes | {key: "other"})
    with pytest.raises(StudyError, match=rf"differ in {key}.*sd3_flow_text.*sd3_guard_text"):
        read(tmp_path)


def test_a_run_without_a_hash_is_not_compared_with_one_that_has_it(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text")
    write_run(
        tmp_path, "sd3_guard_text", hashes={"prompts": "prompts-text", "evaluation": "evaluation-0", "weights": "sd3"}
    )
    with pytest.raises(StudyError, match="differ in noise"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name, changed",
    [("optim.rate", {"optim": {"rate": 1e-3}}), ("sampling.groups", {"sampling": {"groups": 4}}), ("clip_scale", {})],
)
def test_methods_trained_under_other_settings_are_refused_by_name(tmp_path: Path, name: str, changed: Any) -> None:
    settings = {"optim": {"rate": 2e-3}, "sampling": {"groups": 8}, "clip_scale": 11.3}
    write_run(tmp_path, "sd3_flow_text", config=settings)
    write_run(tmp_path, "sd3_guard_text", config=(settings | changed) if changed else settings | {"clip_scale": 1})
    with pytest.raises(StudyError, match=rf"differ in {name} .*sd3_flow_text.*sd3_guard_text"):
        read(tmp_path)


def test_seeds_that_were_trained_on_other_weights_or_settings_are_not_averaged(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text", seed=0)
    write_run(tmp_path, "sd3_flow_text", seed=1, config={"optim": {"rate": 1e-3}})
    with pytest.raises(StudyError, match=r"differ in optim.rate .*seed 0.*seed 1"):
        read(tmp_path)


def test_a_base_model_judged_in_another_way_normalises_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_base", config={"evaluation": {"steps": 40}, "optim": {"rate": 1}})
    write_run(tmp_path, "sd3_flow_text", config={"evaluation": {"steps": 10}, "optim": {"rate": 2}})
    with pytest.raises(StudyError, match=r"differ in evaluation.steps .*sd3_base"):
        read(tmp_path)


@pytest.mark.parametrize("key", ["guidance", "resolution", "text_tokens", "dtype", "tf32", "proxies"])
@pytest.mark.parametrize("row", ["sd3_base", "mine"])
def test_images_painted_in_another_way_are_not_compared_with_the_rows(tmp_path: Path, row: str, key: str) -> None:
    def painted(value: Any) -> dict[str, Any]:
        of_backbone = {"sd3": {key: value, "noise_level": value}}
        own = {"text": {"images_per_prompt": value}}
        return {"backbones": of_backbone, "tf32": value, "evaluation": {"proxies": own}}

    one, other = painted(1), painted(1)
    place = {"tf32": other, "proxies": other["evaluation"]["proxies"]["text"]}.get(key, other["backbones"]["sd3"])
    place[key if key != "proxies" else "images_per_prompt"] = 2
    other["backbones"]["sd3"]["noise_level"] = 2  # which no evaluation uses
    write_run(tmp_path, "sd3_flow_text", config=one)
    changes = {} if row in ROWS else {"row": row, "setting": JUDGED, "method": row}
    folder = write_run(tmp_path, "sd3_base", config=other, **changes)
    folder.parent.rename(tmp_path / row)
    with pytest.raises(StudyError, match=rf"differ in [\w.]*{key}"):
        read(tmp_path)
    place[key if key != "proxies" else "images_per_prompt"] = 1
    write_run(tmp_path / "alike", "sd3_flow_text", config=one)
    write_run(tmp_path / "alike", "sd3_base", config=other, **changes)
    assert len(read(tmp_path / "alike").runs) == 2


@pytest.mark.parametrize(
    ("shift", "noise", "fits"), [(0, 0, True), (0, 0.02, True), (0.05, 0, False), (0.05, 0.02, False)]
)
def test_a_row_begins_at_its_base_model_up_to_the_noise_of_other_hardware(
    tmp_path: Path, shift: float, noise: float, fits: bool
) -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(0.6, 0.1, (32, 2))
    at = {"base": golds(base), "row": golds(base + shift + noise * generator.normal(size=base.shape))}
    at["row"] = {name: np.where(base == base.max(), np.nan, values) for name, values in at["row"].items()}  # one failed
    write_scored(tmp_path, "sd3_base", {0: at["base"]})
    write_scored(tmp_path, "sd3_flow_text", {0: at["row"], 40: at["base"]})
    if fits:
        assert len(read(tmp_path).runs) == 2
    else:
        with pytest.raises(
            StudyError, match=r"^sd3_flow_text seed 0 does not begin at its base model, sd3_base seed 0: "
        ):
            read(tmp_path)


def test_adapters_of_other_backbones_are_no_setting_of_this_one(tmp_path: Path) -> None:
    lora = {"sd3": {"lora": {"rank": 8}}, "flux": {"lora": {"rank": 8}}}
    write_run(tmp_path, "sd3_flow_text", config={"backbones": lora})
    write_run(tmp_path, "sd3_guard_text", config={"backbones": lora | {"flux": {"lora": {"rank": 64}}}})
    assert len(read(tmp_path).runs) == 2
    write_run(tmp_path, "sd3_guard_text", config={"backbones": lora | {"sd3": {"lora": {"rank": 64}}}})
    with pytest.raises(StudyError, match=r"differ in backbones.sd3.lora.rank"):
        read(tmp_path)


def test_micro_batches_may_differ_since_they_change_no_number(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text", config={"optim": {"rate": 2e-3, "micro_batch": 48}})
    write_run(tmp_path, "sd3_guard_text", config={"optim": {"rate": 2e-3, "micro_batch": 8}})
    assert len(read(tmp_path).runs) == 2


def test_a_base_model_judged_on_other_prompts_normalises_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_base", hashes={"evaluation": "other", "weights": "sd3", "noise": "noise-0"})
    write_run(tmp_path, "sd3_flow_text")
    with pytest.raises(StudyError, match=r"differ in evaluation.*sd3_base"):
        read(tmp_path)


def test_other_seeds_tasks_and_backbones_may_differ_in_their_hashes(tmp_path: Path) -> None:
    rows = ("sd3_flow_text", "sd3_flow_geneval", "flux_dance_text")
    assert len(read(write_study(tmp_path, rows, seeds=(0, 1))).runs) == 6


def test_an_unfinished_run_with_other_hashes_is_no_obstacle(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text")
    write_run(tmp_path, "sd3_guard_text", state="running", update=3, hashes={})
    study = read(tmp_path)
    assert [run.info["row"] for run in study.runs] == ["sd3_flow_text"]
    assert study.unfinished == ("sd3_guard_text seed 0: running at update 3 of 40",)


def test_runs_of_two_scales_are_not_one_study(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text")
    write_run(tmp_path, "sd3_base", scale="paper")
    with pytest.raises(StudyError, match=r"runs of one scale.*paper \(sd3_base seed 0\), tiny \(sd3_flow"):
        read(tmp_path)


def test_random_weights_are_refused_by_name_and_published_ones_are_not(tmp_path: Path) -> None:
    write_run(tmp_path, "sd3_flow_text", weights="published")
    assert len(read(tmp_path).runs) == 1
    write_run(tmp_path, "sd3_guard_text", 3, weights="random")
    with pytest.raises(StudyError, match=r"^runs with random weights .*: sd3_guard_text seed 3; move"):
        read(tmp_path)


def test_a_record_that_lacks_a_field_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "sd3_flow_text")
    record = folder / "run.json"
    record.write_text(record.read_text().replace('"hashes"', '"hash"'))
    with pytest.raises(StudyError, match="seed0 lacks hashes"):
        read(tmp_path)


def test_runs_come_in_the_order_of_table1(tmp_path: Path) -> None:
    write_study(tmp_path, ("sd3_guard_text", "flux_base", "sd3_base"), seeds=(1, 0))
    found = [(run.info["row"], run.info["seed"]) for run in read(tmp_path).runs]
    rows = ("sd3_base", "sd3_guard_text", "flux_base")
    assert found == [(row, seed) for row in rows for seed in (0, 1)]


def test_the_pair_is_the_papers_or_the_nearest_that_has_been_run(tmp_path: Path) -> None:
    write_study(tmp_path / "a", (*TWO, "flux_dance_text", "flux_guard_text"))
    write_study(tmp_path / "b", ("sd3_guard_text", "flux_dance_geneval", "flux_guard_geneval"))
    write_study(tmp_path / "c", ("sd3_temp_text", "sd3_guard_text"))
    paper, nearest = find_pair(read(tmp_path / "a")), find_pair(read(tmp_path / "b"))
    assert paper is not None and (paper.base.name, paper.guard.name) == TWO
    assert nearest is not None and nearest.base.method == "DanceGRPO"
    assert find_pair(read(tmp_path / "c")) is None  # TempFlowGRPO is not what GRPO-Guard guards
