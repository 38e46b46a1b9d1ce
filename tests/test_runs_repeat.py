"""Identical seeds, meant literally: equal requests give equal bytes, methods share noise, a kill changes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from bench_runs import lines, overrides, settings
from forked_ranks import command, start
from torch import Tensor

from bench import epoch, ledger, noise, rollout, train
from bench.checkpoint import found
from bench.noise import Coordinates
from bench.ranks import Ranks
from bench.session import prepare

SAME = ("run.json", "metrics.jsonl", "diagnostics.jsonl", "lora/pytorch_lora_weights.safetensors")
METHODS = ("sd3_flow_text", "sd3_guard_text", "sd3_temp_text")


def assert_same(one: Path, other: Path, names: Sequence[str] = SAME) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    return train.run(settings("sd3_guard_text", folder, f"runs={folder}/runs"))


def without_paths(folder: Path) -> str:
    return (folder / "run.json").read_text().replace(str(folder.parents[2]), "")


def test_the_same_request_twice_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    again = train.run(settings("sd3_guard_text", tmp_path))
    assert_same(undisturbed, again, SAME[1:])
    assert without_paths(undisturbed) == without_paths(again)
    images = sorted(p.name for p in (undisturbed / "images/update-000004").iterdir())
    assert_same(undisturbed / "images/update-000004", again / "images/update-000004", images)


def test_another_seed_gives_other_numbers(undisturbed: Path, tmp_path: Path) -> None:
    other = train.run(settings("sd3_guard_text", tmp_path, "seed=1"))
    assert ledger.read(other).info["hashes"]["noise"] != ledger.read(undisturbed).info["hashes"]["noise"]
    assert lines(other / "diagnostics.jsonl") != lines(undisturbed / "diagnostics.jsonl")


def test_a_run_killed_in_the_middle_of_an_epoch_ends_as_if_it_had_not_been(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/sd3_guard_text/seed0"
    process = start({}, command, tmp_path, "row=sd3_guard_text", *overrides(tmp_path))
    wait_for(lambda: (folder / "diagnostics.jsonl").exists() and len(lines(folder / "diagnostics.jsonl")) == 3, process)
    process.kill()
    process.join()
    assert not ledger.read(folder).finished
    assert [p.name for p in found(folder / "checkpoints")] == ["update-000000", "update-000002"]
    resumed = train.run(settings("sd3_guard_text", tmp_path))
    assert_same(undisturbed, resumed, SAME[1:])


def wait_for(condition: object, process: BaseProcess, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not come far enough"
        time.sleep(0.005)


def test_a_finished_run_is_not_run_again_unless_forced(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = undisturbed.parents[2]
    before = (undisturbed / "times.jsonl").read_bytes()
    train.run(settings("sd3_guard_text", root))
    assert "is finished" in capsys.readouterr().out
    assert (undisturbed / "times.jsonl").read_bytes() == before


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> set[Coordinates]:
    seen: set[Coordinates] = set()
    real = noise.normal

    def spy(at: Coordinates, shape: Sequence[int]) -> Tensor:
        seen.add(at)
        return real(at, shape)

    monkeypatch.setattr(noise, "normal", spy)
    return seen


def coordinates(row: str, folder: Path, draws: set[Coordinates]) -> dict[str, set[Coordinates]]:
    draws.clear()
    session = prepare(settings(row, folder), Ranks())
    assert session.recipe and session.proxy
    draws.clear()
    epoch.sample_epoch(session, session.recipe, session.proxy)
    return {stream: {at for at in draws if at.stream == stream} for stream in ("initial", "sde")}


def test_methods_of_a_seed_use_the_same_noise_up_to_shared_and_branching_coordinates(
    tmp_path: Path, draws: set[Coordinates]
) -> None:
    flow, guard, temp = (coordinates(row, tmp_path, draws) for row in METHODS)
    assert flow == guard
    assert len(flow["initial"]) == 12
    assert len(flow["sde"]) == 12 * 4
    # TempFlow: 12 members are two trunks of six, one for each prompt; the last of the four steps is never stochastic.
    assert temp["initial"] == {at for at in flow["initial"] if at.member == 0}
    assert temp["sde"] == {at for at in flow["sde"] if at.step < 3}


def test_dance_shares_the_first_members_noise_within_a_group(tmp_path: Path, draws: set[Coordinates]) -> None:
    dance, guard = (coordinates(row, tmp_path, draws) for row in ("flux_dance_text", "flux_guard_text"))
    assert dance == guard
    assert {at.member for at in dance["initial"]} == {0}
    assert {at.member for at in dance["sde"]} == set(range(6))


def test_methods_of_a_backbone_task_and_seed_carry_the_same_hashes(tmp_path: Path) -> None:
    from bench import provenance

    found = [provenance.hashes(prepare(settings(row, tmp_path), Ranks())) for row in METHODS]
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == {"prompts", "noise", "evaluation", "weights", "judges"}


def test_micro_batch_changes_no_noise_and_latents_only_by_rounding(tmp_path: Path, draws: set[Coordinates]) -> None:
    samples, seen = [], []
    for size in (8, 32):
        session = prepare(
            settings("sd3_flow_text", tmp_path, f"sampling.micro_batch={size}", "sampling.groups=6"), Ranks()
        )
        assert session.recipe and session.proxy
        draws.clear()
        samples.append(epoch.sample_epoch(session, session.recipe, session.proxy))
        seen.append(set(draws))
    assert seen[0] == seen[1]
    one, other = samples
    assert torch.allclose(one.rollout.next, other.rollout.next, rtol=0, atol=1e-5)
    assert torch.equal(one.mask, other.mask)


def test_micro_batches_never_cut_a_trunk() -> None:
    members = list(range(36))
    for size in (1, 6, 8, 32, 100):
        batches = rollout.micro_batches(members, size, branches=6)  # type: ignore[arg-type]
        assert [m for batch in batches for m in batch] == members  # type: ignore[comparison-overlap]
        assert all(len(batch) % 6 == 0 for batch in batches)
