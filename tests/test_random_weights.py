"""Random weights: the architecture asked for, the same on every call, nothing read but its settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_runs import PROMPTS, settings

from bench import config, ledger, provenance, train
from bench.architectures import FLUX_DEV, PUBLISHED, SD35_MEDIUM, parameters
from bench.experiments import ROWS
from bench.policy import Policy, PolicyError, load
from bench.random_weights import SCHEDULERS, RandomEmbeddings
from bench.random_weights import load as random_policy
from bench.ranks import Ranks
from bench.session import prepare
from bench.suite import configure
from paper_tables.frame import StudyError, read

TINY = Path(config.__file__).parent / "tiny/weights"
ROW = {"sd3": "sd3_guard_text", "flux": "flux_dance_text"}
BACKBONES = tuple(ROW)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Pipeline folders of which only the settings are left."""
    for name in BACKBONES:
        shutil.copytree(TINY / name, tmp_path / "bare" / name, ignore=shutil.ignore_patterns("*.safetensors", "*.txt"))
    return tmp_path / "bare"


def drawn(backbone: str, folder: Path, *more: str, seed: int = 0) -> Policy:
    asked = (f"backbones.{backbone}.weights={folder / backbone}", *(f"backbones.{backbone}.{item}" for item in more))
    return random_policy(configure(ROW[backbone], asked).backbones[backbone], torch.device("cpu"), seed)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_drawn_is_the_pipeline_in_everything_but_its_numbers(backbone: str, bare: Path) -> None:
    drawn_policy, shipped = drawn(backbone, bare), load(str(TINY / backbone), 32, 10, 1.0)
    for name in ("transformer", "vae"):
        one, other = (
            {key: value.shape for key, value in getattr(policy.pipe, name).state_dict().items()}
            for policy in (drawn_policy, shipped)
        )
        assert one == other
    assert drawn_policy.latent_shape == shipped.latent_shape
    assert torch.equal(drawn_policy.times(7), shipped.times(7))
    ours, theirs = (policy.encode(["a red circle", ""]) for policy in (drawn_policy, shipped))
    assert (ours.tokens.shape, ours.pooled.shape) == (theirs.tokens.shape, theirs.pooled.shape)
    assert parameters(drawn_policy.transformer) == parameters(shipped.transformer)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("weights=nobody/nothing", "no architecture is known of 'nobody/nothing'"),
        ("dtype=half", "dtype must be one of float32,"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(setting: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=words) as error:
        prepare(settings("sd3_base", tmp_path, "weights=random", f"backbones.sd3.{setting}"), Ranks())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", PUBLISHED)
def test_there_is_a_schedule_for_every_published_architecture(weights: str) -> None:
    assert PUBLISHED[weights]["transformer"].kind in SCHEDULERS


def test_weights_follow_the_seed_and_embeddings_seed_and_text(bare: Path) -> None:
    one, same, other = (drawn("sd3", bare, seed=seed).transformer.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    make = [RandomEmbeddings(5, 8, 6, torch.float32, seed) for seed in (0, 0, 1)]
    first, again, moved = (each(["b", "a"]) for each in make)
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.pooled, again.pooled)
    assert torch.equal(first.tokens[1], make[0](["a"]).tokens[0])
    assert not torch.equal(first.tokens[0], first.tokens[1]) and not torch.equal(first.tokens, moved.tokens)


def test_half_precision_and_checkpointing_reach_the_transformer_alone(bare: Path) -> None:
    policy = drawn("flux", bare, "dtype=bfloat16", "checkpointing=true")
    assert policy.dtype == policy.encode(["a"]).tokens.dtype == torch.bfloat16
    assert {p.dtype for p in policy.pipe.vae.parameters()} == {torch.float32}
    assert policy.transformer.gradient_checkpointing
    whole = drawn("flux", bare, "dtype=bfloat16", "train=full")
    assert {p.dtype for p in whole.transformer.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_random_run_trains_without_weights_and_the_tables_refuse_it_by_name(
    backbone: str, bare: Path, tmp_path: Path
) -> None:
    row = ROW[backbone]
    asked = ("weights=random", "updates=2", f"backbones.{backbone}.weights={bare / backbone}")
    folder = train.run(settings(row, tmp_path, *asked))
    info = json.loads((folder / "run.json").read_text())
    assert (info["weights"], info["hashes"]["weights"]) == ("random", "random")
    run = ledger.read(folder)
    assert run.finished
    judged = {key for key in run.metrics() if key.startswith(("gold/", "proxy/"))}
    assert {key.split("/")[1].split("_n")[0].split("_m")[0] for key in judged} <= {"stand_in", "reward", "reward_std"}
    with pytest.raises(StudyError, match=rf"^runs with random weights .* mean nothing: {row} seed 0; move") as error:
        read(tmp_path / "runs")
    assert "\n" not in str(error.value)


@pytest.fixture
def few_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architectures with a layer or two, narrow, under their names."""
    autoencoder = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    sd3 = {"num_layers": 2, "num_attention_heads": 2, "caption_projection_dim": 128, "dual_attention_layers": (0,)}
    flux = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1}
    for weights, changes in ((SD35_MEDIUM, sd3), (FLUX_DEV, flux)):
        for name, smaller in (("transformer", changes), ("vae", autoencoder)):
            part = PUBLISHED[weights][name]
            monkeypatch.setitem(PUBLISHED[weights], name, replace(part, config=part.config | smaller))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_random_run_at_paper_scale_asks_the_hub_for_nothing(
    backbone: str, few_layers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail(f"asked the hub: {args}")

    monkeypatch.setattr("bench.policy.DiffusionPipeline.from_pretrained", refuse)
    monkeypatch.setattr("bench.hub.snapshot_download", refuse)
    monkeypatch.setattr("bench.running.check_memory", lambda *_: None)  # it counts the full-size text encoders
    monkeypatch.chdir(tmp_path)  # where the scale looks for prompts
    (tmp_path / "prompts").mkdir()
    lines = (PROMPTS / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()
    for name in ("geneval_train", "geneval_test", "ocr_train", "ocr_test"):
        (tmp_path / f"prompts/{name}.jsonl").write_text("\n".join([*lines[:2], *lines[-2:]]), encoding="utf-8")
    small = (f"backbones.{backbone}.{item}" for item in ("resolution=64", "text_tokens=16", "dtype=bfloat16"))
    folder = train.run(settings(ROW[backbone], tmp_path, "scale=paper", "weights=random", "updates=2", *small))
    assert ledger.read(folder).finished
    info = json.loads((folder / "run.json").read_text())
    assert (info["scale"], info["weights"]) == ("paper", "random")


def test_a_finished_run_is_not_taken_for_one_with_random_weights(tmp_path: Path) -> None:
    published, random = (settings("sd3_base", tmp_path, *more) for more in ((), ("weights=random",)))
    hashes = [provenance.inputs(made, ROWS["sd3_base"]) for made in (published, random)]
    assert hashes[0]["weights"] != hashes[1]["weights"] == "random"
    provenance.check_same({"config": json.loads(json.dumps(vars(published), default=vars))}, published, tmp_path)


def test_random_weights_load_no_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.sample.judges", lambda settings: pytest.fail("a judge was loaded"))
    monkeypatch.setattr("bench.rewards.load", lambda *_, **__: pytest.fail("a proxy was loaded"))
    session = prepare(settings("sd3_guard_text", tmp_path, "weights=random"), Ranks())
    assert [scorer.name for scorer in session.scorers] == ["stand_in"]
