"""The measuring of speed: operations against a second count, every stage named, the official code where it is here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from bench import costs, gradient, update
from bench.counting import count
from bench.perf import __main__ as perf
from bench.perf import peer, side_by_side
from bench.perf.meter import Clock, matmul_peak
from bench.perf.side_by_side import Case, by_turns, ratio
from bench.perf.stages import gradients, operations
from bench.perf.subjects import Subject, settings_of, subject
from bench.policy import Conditioning

CPU = torch.device("cpu")
OFFICIAL = os.environ.get("FLOW_GRPO_DIR")
beside = pytest.mark.skipif(not OFFICIAL, reason="FLOW_GRPO_DIR names no checkout of the official flow_grpo")
SMALL = Case("small", 2, 64, 0.04)


@pytest.fixture(scope="module")
def flux() -> Subject:
    return subject(settings_of("flux_guard_text", "tiny", 3, ["sampling.steps=4"]), CPU)


def rows_seen(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Rows of each forward from now on, and whether it kept a graph."""
    seen, own = [], subject.policy.transformer.forward

    def forward(*args: object, **given: Tensor) -> object:
        seen.append((len(given["hidden_states"]), torch.is_grad_enabled()))
        return own(*args, **given)

    monkeypatch.setattr(subject.policy.transformer, "forward", forward)
    return seen


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_stages_operations_are_those_of_a_row_times_the_rows_that_it_really_sends(
    beta: float, flux: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flux.settings.optim, "kl_beta", beta)
    row = count(costs.shape_of(flux.backbone))
    counted = operations(costs.plan(flux.settings), row)
    seen = rows_seen(flux, monkeypatch)
    samples = flux.sample()
    sent = sum(rows for rows, _ in seen)
    assert counted.decode == 3 * row.decode
    assert counted.rollout == sent * row.forward + len(samples.images) * row.decode
    seen.clear()
    gradients(flux, samples, perf.Ranks())
    trained = sum(rows for rows, kept in seen if kept)
    assert counted.update == sum(rows for rows, _ in seen) * row.forward + trained * row.backward
    assert (sent, trained) == (3 * 4, 3 * 1)  # DanceGRPO trains int(0.6 x 3) steps


def test_a_subjects_adapter_is_nowhere_zero_so_that_all_of_it_has_a_gradient(flux: Subject) -> None:
    gradients(flux, flux.sample(), perf.Ranks())
    for parameter in update.trainable(flux.policy):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
    gradient.take(update.trainable(flux.policy))


def test_random_embeddings_belong_to_their_text(flux: Subject) -> None:
    made = side_by_side.subject_of(SMALL, steps=3).policy
    one, other = made.encode(["a", "b"]), made.encode(["b", "a", "a"])
    assert isinstance(one, Conditioning) and torch.equal(one.tokens[[1, 0, 0]], other.tokens)
    assert torch.equal(one.pooled[[1, 0, 0]], other.pooled)
    assert one.tokens.std().item() == pytest.approx(1, rel=0.05)


def test_the_peak_is_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "seconds", lambda self, work: 0.5)
    assert matmul_peak(Clock(CPU), torch.float32) == 2 * 1024**3 / 0.5


def test_a_ratio_is_theirs_over_ours_and_turns_alternate() -> None:
    made = ratio([4.0, 2.0, 6.0], [1.0, 2.0, 1.5])
    assert (made.theirs, made.ours, made.ratio, made.quartiles[1]) == (2.0, 1.0, 2.0, 4.0)
    assert made.quartiles[0] <= 4.0 <= made.quartiles[2]
    order: list[str] = []
    spent = by_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab"
    assert [len(each) for each in spent.values()] == [3, 3]


def test_the_command_prints_every_stage_and_says_that_it_does_not_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLOW_GRPO_DIR", raising=False)
    out = tmp_path / "new" / "perf.json"
    perf.main(["sampling.steps=3", "--batch", "2", "--repeats", "2", "--json", str(out)])
    printed = capsys.readouterr().out.splitlines()
    for name in ("rollout", "update", "decode", "scoring (text)"):
        assert any(line.strip().startswith(name) for line in printed)
    assert printed[-1].startswith("flow_grpo: not compared; FLOW_GRPO_DIR=")
    written = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert [each["name"] for each in written["stages"]] == ["rollout", "update", "decode", "scoring (text)"]
    for each in written["stages"][:3]:
        share = each["operations"] / each["seconds"] / written["peak_flop_per_second"]["float32"]
        assert each["share"] == pytest.approx(share)
        assert 0 < each["share"] < 1


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        perf.main(arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    return lines[0]


def test_full_size_says_what_it_needs_and_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLOW_GRPO_DIR", raising=False)
    monkeypatch.setattr(perf, "Ranks", lambda: SimpleNamespace(device=CPU))
    monkeypatch.setattr(costs, "plan", lambda settings: SimpleNamespace(total={"bytes_": 52e9}.__getitem__))
    asked = ["--scale", "paper"]
    assert "needs 52 GB of a GPU by bench.costs" in refusal(asked, capsys)
    monkeypatch.setattr(perf, "Ranks", lambda: SimpleNamespace(device=torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8e9, 16e9))
    assert refusal(asked, capsys).endswith("and 8 GB are free; lower --batch or give checkpointing=true")


def test_another_checkout_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOW_GRPO_DIR", str(tmp_path))
    assert "scripts/train_sd3.py is missing; clone it" in refusal([], capsys)
    for name in peer.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise SystemError('this file must not run')\n", encoding="utf-8")
    assert "scripts/train_sd3.py is another one; check that commit out" in refusal([], capsys)


@pytest.mark.parametrize("content", ["", "hello\n"])
def test_a_files_hash_is_the_one_that_git_gives_it(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "hello\n": "ce013625030ba8dba906f756967f9e9ca394464a"}
    monkeypatch.setattr(peer, "FILES", {"a": known[content]})
    (tmp_path / "a").write_text(content, encoding="utf-8")
    peer.check(tmp_path)
    (tmp_path / "a").write_text(content + " ", encoding="utf-8")
    with pytest.raises(peer.CheckoutError, match="another one"):
        peer.check(tmp_path)


@beside
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_rollout_ratio_and_gradient_are_those_of_the_official_code(beta: float) -> None:
    found = peer.Peer(Path(OFFICIAL or ""))
    made = side_by_side.subject_of(Case("small", 2, 64, beta), steps=5)
    agreed = side_by_side.agreement(found, made)
    assert agreed.latents < 1e-5
    assert agreed.log_probs < 2e-6
    assert agreed.official_ratio == 0
    for stacked in side_by_side.STACKS:
        assert agreed.ratio[stacked] <= 2e-7
        assert agreed.gradients[stacked] < 1e-6


@beside
def test_off_policy_too_where_some_ratios_are_clipped() -> None:
    found, made = peer.Peer(Path(OFFICIAL or "")), side_by_side.subject_of(Case("six", 6, 64, 0.04), steps=5)
    theirs, ours, parameters = side_by_side.same_rollout(found, made), made.sample(), update.trainable(made.policy)
    samples = side_by_side.on(theirs, ours)
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(1.3)
    ratios = torch.stack(found.train_epoch(made, theirs.as_batch(), samples.advantages[:, 0]))
    wanted = gradient.take(parameters)[0]
    records = side_by_side.train(made, samples, 1, perf.Ranks())
    logs = torch.stack([record.log_ratio for record in records])
    assert torch.allclose(ratios.log(), logs, rtol=1e-3, atol=5e-7)
    shift, clip, rising = ratios - 1, made.recipe.clip, samples.advantages[:, 0] > 0
    assert (rising & (shift > clip)).any() and (~rising & (shift < -clip)).any()  # what clipping acts on, either side
    assert (shift.abs() < clip).any()
    difference = gradient.take(parameters)[0] - wanted
    assert difference.norm() < 2e-6 * wanted.norm()
