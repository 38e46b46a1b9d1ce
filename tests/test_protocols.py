"""Under each protocol every row composes, is planned and trains; what its authors published is what it gets."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch
from bench_runs import lines, settings

from baselines.advantage import FLOW_EPSILON, global_std
from baselines.dance_grpo import dance_times
from bench import config, protocols, train
from bench.architectures import build, parameters
from bench.config import Config, ConfigError
from bench.costs import passes_of, plan, shape_of
from bench.counting import count
from bench.experiments import EXTRA, ROWS, TABLE1
from bench.ledger import flatten
from bench.members import members_of
from bench.ranks import Ranks
from bench.rollout import Samples, set_advantages
from bench.session import prepare, recipe_of
from bench.suite import configure


@cache
def released(row: str, scale: str = "paper", *more: str) -> Config:
    return configure(row, [f"scale={scale}", "protocol=released", *more])


def flat(made: Config) -> dict[str, object]:
    return flatten(asdict(made))


def test_paired_rows_of_table_1_have_no_setting_of_their_own() -> None:
    assert not set(protocols.PAIRED) & set(TABLE1)
    made = [flat(configure(name, [])) for name in TABLE1]
    assert all(each | {"row": ""} == made[0] | {"row": ""} for each in made)


@pytest.mark.parametrize("row", protocols.RELEASED)
def test_a_released_row_gets_its_published_settings_and_nothing_else(row: str) -> None:
    changed, shared = flat(released(row)), flat(configure(row, ["scale=paper"]))
    mine = protocols.own(row, "released")
    assert {key: changed[key] for key in mine} == mine
    study = {"protocol", "runs", "suite", "tf32"}
    embeddings = {key for key in changed if key.endswith("embeddings") or key == "tracking"}  # below runs
    assert {key for key in changed if changed[key] != shared[key]} <= {*mine, *study, *embeddings}
    assert (shared["tf32"], changed["tf32"]) == (False, True)


def test_every_row_is_released_but_the_base_that_no_setting_touches() -> None:
    assert set(ROWS) - set(protocols.RELEASED) == {"sd3_base"}


# algorithms as published: flow_grpo config/grpo.py and grpo_guard.py, DanceGRPO finetune_flux_grpo.sh, TempFlow dgx.py.
PUBLISHED = {
    "sd3_flow_geneval": ("global_std", 3e-4, 0.04, "without_dt", 1e-4, 48 * 24, 2, 10),
    "sd3_flow_pickscore": ("global_std", 3e-4, 0.01, "without_dt", 1e-4, 48 * 24, 2, 10),
    "sd3_guard_pickscore": ("group_std", 1e-4, 0.0, "without_dt", 4e-6, 48 * 24, 2, 10),
    "sd3_guard_text": ("group_std", 1e-4, 0.0, "without_dt", 2e-6, 48 * 24, 2, 10),
    "sd3_temp_text": ("group_std", 3e-4, 0.004, "with_dt", 1e-4, 48 * 24, 2, 10),
    "flux_dance_geneval": ("sample_std", 1e-5, 0.0, "with_dt", 1e-4, 16 * 12, 3, 16),
    "flux_guard_text": ("sample_std", 1e-5, 0.0, "with_dt", 2e-6, 16 * 12, 3, 16),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_numbers_arrive_in_recipe_and_plan(row: str) -> None:
    made = released(row)
    recipe, passes = recipe_of(made, ROWS[row]), passes_of(made, ROWS[row])
    assert recipe
    optim, sampling = made.optim, made.sampling
    advantage, rate, beta, unit, clip, members, parts, steps = PUBLISHED[row]
    assert (recipe.advantage.__name__, recipe.clip) == (advantage, clip)
    assert (optim.rate, optim.kl_beta, optim.kl_unit) == (rate, beta, unit)
    assert (sampling.groups * sampling.group_size, optim.updates_per_rollout, sampling.steps) == (members, parts, steps)
    assert passes.images == ROWS[row].paper_updates // parts * members * (9 if "temp" in row else 1)
    assert passes.transitions == ROWS[row].paper_updates // parts * members * 9


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("flux")])
def test_released_flux_paints_720_pixels_and_trains_every_weight_without_an_average(row: str) -> None:
    made, whole = released(row), bool(ROWS[row].recipe)
    assert made.backbones["flux"].resolution == 720
    assert made.backbones["flux"].train == ("full" if whole else "lora")
    assert made.optim.ema_decay == (0 if whole else 0.9)


def test_every_trained_weight_is_planned_with_its_state_and_its_share_of_the_gpus() -> None:
    asked = released("flux_dance_text", "tiny")
    one, four = (plan(asked, gpus=gpus) for gpus in (1, 4))
    adapted = plan(released("flux_dance_text", "tiny", "backbones.flux.train=lora"))
    assert one.trainable == adapted.parameters == parameters(build(asked.backbones["flux"].weights))
    assert one.parameters == one.trainable and one.bytes_weights < adapted.bytes_weights  # none is frozen
    assert one.bytes_optimizer == 7 * 4 * one.trainable
    assert four.bytes_optimizer == one.bytes_optimizer / 4
    # A weight's gradient is one product more for each of the forward's.
    forward = count(shape_of(asked.backbones["flux"])).forward
    assert (one.tflop_training - adapted.tflop_training) * 1e12 == pytest.approx(one.backwards * forward)


def test_sizes_are_the_scales_and_what_a_method_is_the_protocols() -> None:
    tiny, paired = released("flux_dance_text", "tiny"), configure("flux_dance_text", [])
    assert tiny.sampling.groups == paired.sampling.groups == 8
    assert (tiny.sampling.steps, tiny.backbones["flux"].resolution) == (10, 32)
    assert (tiny.optim.rate, tiny.backbones["flux"].train, tiny.sampling.schedule) == (1e-5, "full", "dance")


@pytest.mark.parametrize("row", ROWS)
def test_every_released_row_composes_at_tiny_scale_with_a_recipe_that_fits_its_batch(row: str) -> None:
    made = released(row, "tiny")
    recipe = recipe_of(made, ROWS[row])
    assert (recipe is None) == (not ROWS[row].recipe)
    assert recipe is None or recipe.batch in (1, made.optim.micro_batch)
    assert (made.sampling.groups, made.sampling.group_size, made.optim.updates_per_rollout) == (8, 12, 2)


def test_the_command_line_has_the_last_word() -> None:
    assert released("sd3_flow_text", "paper", "optim.rate=5e-5", "sampling.groups=4").optim.rate == 5e-5
    assert released("sd3_flow_text", "paper", "optim.rate=5e-5").optim.kl_beta == 0.04


def test_a_protocol_that_is_none_is_answered_with_both() -> None:
    with pytest.raises(ConfigError, match="there is no protocol 'other'; wanted one of paired, released"):
        configure("sd3_flow_text", ["protocol=other"])


def test_flow_grpo_with_its_kl_differs_from_flow_grpo_in_the_penalty_alone() -> None:
    for task in ("geneval", "pickscore", "text"):
        plain, penalised = (flat(configure(f"sd3_flow_{kind}{task}", ["scale=paper"])) for kind in ("", "kl_"))
        changed = {key for key in plain if plain[key] != penalised[key]}
        assert changed == {"row", "optim.kl_beta", "optim.kl_unit"}
        assert penalised["optim.kl_beta"] == (0.01 if task == "pickscore" else 0.04)


def test_extra_rows_stand_beside_rows_of_table_1_with_their_task_and_budget() -> None:
    known = {(row.backbone, row.setting, row.task): row.paper_updates for row in TABLE1.values()}
    assert not set(EXTRA) & set(TABLE1)
    for row in EXTRA.values():
        assert known[row.backbone, row.setting, row.task] == row.paper_updates


@pytest.mark.parametrize("override", ["optim.micro_batch=8", "optim.stacked_steps=3"])
def test_the_batch_mean_refuses_another_batch_than_it_is_a_mean_of(override: str) -> None:
    for row, protocol in (("sd3_guard_released_text", "paired"), ("sd3_guard_text", "released")):
        made = configure(row, [f"protocol={protocol}", override])
        with pytest.raises(ConfigError, match=rf"9 samples of one step.*found .*{override}.*; give it") as error:
            recipe_of(made, ROWS[row])
        assert "\n" not in str(error.value)
    free = configure("sd3_guard_text", [override])
    assert recipe_of(free, ROWS["sd3_guard_text"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("method.advantage=mean", "method.advantage=mean is unknown; wanted one of group_std, global_std, sample_std"),
        ("method.recipe=ppo", "method.recipe=ppo is unknown; wanted one of flow_grpo, "),
        ("sampling.schedule=cosine", "sampling.schedule=cosine is unknown; wanted one of pipeline, dance"),
        ("weights=none", "weights=none is unknown; wanted one of published, random"),
    ],
)
def test_a_setting_that_names_nothing_is_answered_with_what_there_is(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare(settings("sd3_flow_text", tmp_path, override), Ranks())


def test_the_global_std_is_of_all_rewards_of_the_epoch_whatever_the_plan(tmp_path: Path) -> None:
    rewards = torch.randn(12, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, images in (("sd3_flow_text", 1), ("sd3_temp_text", 9)):
        recipe = recipe_of(configure(row, ["method.advantage=global_std"]), ROWS[row])
        assert recipe and recipe.advantage is global_std
        members = members_of([None, None], 6)  # type: ignore[list-item]
        empty = torch.zeros(0)
        samples = Samples(members, None, None, None, torch.ones(12, 9), empty, empty)  # type: ignore[arg-type]
        given = rewards[:, :images]
        set_advantages(samples, given, recipe, 2)
        # Two groups of six, each a trunk of six branches: the mean is the group's, per step where each step is judged.
        centred = given.view(2, 6, images) - given.view(2, 6, images).mean(1, keepdim=True)
        wanted = (centred / (given.std(correction=0) + FLOW_EPSILON)).view(12, images).expand(12, 9)
        assert torch.allclose(samples.advantages.double(), wanted, atol=1e-6)


def test_dance_times_are_the_shift_whatever_the_latent_and_the_pipelines_are_not(tmp_path: Path) -> None:
    session = prepare(settings("flux_dance_text", tmp_path, "protocol=released", "sampling.steps=16"), Ranks())
    even = torch.arange(16, -1, -1, dtype=torch.float64) / 16
    assert torch.allclose(session.times().double(), 3 * even / (1 + 2 * even), atol=1e-7)
    assert torch.equal(session.times(), dance_times(16))
    assert (session.times() - session.policy.times(16)).abs().max() > 0.05
    # A time shift of ln 3 is what the pipeline's exponential shift would be at the size where mu = ln 3.
    odds = session.times()[1:-1].double() / (1 - session.times()[1:-1].double())
    assert torch.allclose(odds, 3 * even[1:-1] / (1 - even[1:-1]), rtol=1e-5)


TRAINED = ("sd3_temp_text", "sd3_flow_pickscore", "sd3_guard_geneval", "flux_dance_geneval", "flux_guard_text")


@pytest.mark.slow
@pytest.mark.parametrize("row", TRAINED)
def test_a_released_row_trains_two_updates_and_says_so(row: str, tmp_path: Path) -> None:
    made = settings(row, tmp_path, "protocol=released", "updates=2", "optim.micro_batch=9", f"runs={tmp_path}/runs")
    folder = train.run(made)
    info = json.loads((folder / "run.json").read_text())
    assert (info["protocol"], info["weights"], info["config"]["tf32"]) == ("released", "published", True)
    names = {"sd3_guard_geneval": "guard_flow_grpo_released"}
    assert info["recipe"]["name"] == names.get(row, ROWS[row].recipe)
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("row", ["sd3_flow_kl_text", "sd3_guard_released_text", "flux_guard_beta_text"])
def test_a_row_beside_table_1_trains_and_only_the_penalised_one_has_a_penalty(row: str, tmp_path: Path) -> None:
    folder = train.run(settings(row, tmp_path, "updates=2", "optim.micro_batch=9"))
    penalties = [line["loss/kl"] for line in lines(folder / "metrics.jsonl") if line.get("loss/kl") is not None]
    # The first update starts at the reference, where the distance is 0; the second is away from it.
    assert penalties == [] if "_kl_" not in row else (penalties[0] == 0 < penalties[1])
    assert json.loads((folder / "run.json").read_text())["recipe"]["name"] == ROWS[row].recipe


def test_runs_of_the_two_protocols_go_to_folders_of_their_own() -> None:
    paired, other = configure("sd3_flow_text", []), released("sd3_flow_text", "tiny")
    assert config.folder_of(paired, ROWS["sd3_flow_text"]) == Path("runs/tiny/sd3_flow_text/seed0")
    assert config.folder_of(other, ROWS["sd3_flow_text"]) == Path("runs/tiny_released/sd3_flow_text/seed0")
