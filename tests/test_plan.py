"""What a small run is said to cost, against runs that were made, and how the command answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bench_runs import PROMPTS, settings

from bench import epoch, sample
from bench.costs import plan
from bench.experiments import TABLE1
from bench.passes import evaluations, prompts_in
from bench.plan import SUMMED, main
from bench.prompts import PromptError
from bench.ranks import Ranks
from bench.session import Session, prepare

SMALL_ROWS = ("sd3_flow_text", "sd3_temp_text", "flux_dance_text")


def counted(session: Session) -> list[int]:
    """Rows through the transformer without and with gradient."""
    rows = [0, 0]

    def count(module: torch.nn.Module, args: object, given: dict[str, torch.Tensor]) -> None:
        rows[torch.is_grad_enabled()] += len(given["hidden_states"])

    session.policy.transformer.register_forward_pre_hook(count, with_kwargs=True)
    return rows


@pytest.mark.parametrize("row", SMALL_ROWS)
def test_a_run_makes_the_forwards_images_and_checkpoints_that_were_planned(row: str, tmp_path: Path) -> None:
    made = settings(row, tmp_path, "backbones.sd3.guidance=4.5")
    planned, session = plan(made), prepare(made, Ranks())
    rows = counted(session)
    assert session.recipe and session.proxy
    samples = epoch.sample_epoch(session, session.recipe, session.proxy)
    times = session.policy.times(made.sampling.steps)
    for inner, positions in enumerate(epoch.parts(session)):
        epoch.step(session, session.recipe, samples, torch.tensor(sorted(positions)), times, inner)
    epochs = planned.updates // 2
    assert [planned.forwards_rollout, planned.forwards_training] == [epochs * n for n in rows]
    assert planned.images_rollout == epochs * len(samples.members) * samples.images.shape[1]
    kept = sum(t.numel() * t.element_size() for t in vars(samples.rollout).values())
    assert planned.bytes_trajectories == kept
    state = sum(t.numel() * t.element_size() for t in session.state.tensors().values())
    assert planned.disk_checkpoints == pytest.approx(3 * state + 4 * planned.trainable, rel=1e-3)
    assert planned.trainable == sum(p.numel() for p in session.state.parameters)
    assert planned.parameters == sum(p.numel() for p in session.policy.transformer.parameters()) - planned.trainable


def test_an_evaluation_makes_the_forwards_that_were_planned(tmp_path: Path) -> None:
    own = f"+evaluation.proxies={{text:{{prompts:{PROMPTS}/text.jsonl,images_per_prompt:2}}}}"
    made = settings("flux_base", tmp_path, own)
    planned, session = plan(made), prepare(made, Ranks())
    rows = counted(session)
    sample.evaluate(session)
    written = len(list((session.record.folder / "images").rglob("*.png")))
    assert (planned.forwards_evaluation, planned.images_evaluation) == (rows[0], written)
    assert planned.backwards == planned.bytes_activations == planned.disk_checkpoints == 0


@pytest.mark.parametrize(("updates", "every", "points"), [(0, 60, 1), (60, 60, 2), (480, 60, 9), (100, 60, 3)])
def test_a_run_is_evaluated_before_it_and_at_its_end(updates: int, every: int, points: int) -> None:
    assert evaluations(updates, every) == points


def test_prompts_are_counted_in_the_file_or_in_the_public_set(tmp_path: Path) -> None:
    (tmp_path / "pickscore_test.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    assert prompts_in(tmp_path / "pickscore_test.jsonl") == 2
    assert prompts_in(tmp_path / "nowhere/pickscore_test.jsonl") == 2048
    assert prompts_in(tmp_path / "geneval_test.jsonl") == 553  # each is listed four times
    assert prompts_in(tmp_path / "ocr_train.jsonl", unknown=7) == 7
    for name in ("mine", "ocr_train"):
        with pytest.raises(PromptError, match=name):
            prompts_in(tmp_path / f"{name}.jsonl")


def test_the_total_is_the_sum_of_the_rows_in_text_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    main(["scale=tiny", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in data["rows"]] == list(TABLE1)
    assert set(data["total"]) == set(SUMMED)
    assert data["total"]["updates"] == sum(row["updates"] for row in data["rows"])
    assert data["total"]["GPU-h"] == pytest.approx(sum(row["hours"] for row in data["rows"]))
    main(["scale=tiny"])
    text = capsys.readouterr().out
    total = next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert f"{data['total']['images']:,}" in total.split()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["row=flux_guard_texx"], "flux_guard_text, flux_guard_beta_text"),
        (["row=sd3_base", "sampling.stepz=3"], "sampling.stepz"),
        (["row=sd3_flow_text", "scale=tiny", "updates=3"], "updates=3"),
        (["row=sd3_flow_text", "scale=tiny", "--utilisation=2"], "utilisation"),
        (["row=sd3_temp_text", "scale=tiny", "sampling.group_size=7"], "group_size=7"),
        (["row=sd3_flow_text", "scale=tiny", "backbones.sd3.dtype=float7"], "float7"),
        (["row=sd3_flow_text", "scale=tiny", "backbones.sd3.weights=nobody/nothing"], "nobody/nothing"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(
    arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1 and found in lines[0]
