"""Adapters that others trained: read in every layout, put in to the bit, judged as the rows are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_runs import overrides, settings
from safetensors.torch import load_file, save_file

from bench import hub, ledger, lora_files, score_lora, train
from bench.policy import PolicyError
from bench.ranks import Ranks
from bench.session import prepare
from paper_tables import outputs
from paper_tables.__main__ import main as make_tables

LORA = "pytorch_lora_weights.safetensors"
SHORT = "updates=2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs/ has a trained row, its base model, and the row's own adapter judged as a stranger's."""
    folder = tmp_path_factory.mktemp("judged")
    for row in ("sd3_base", "sd3_guard_text"):
        train.run(settings(row, folder, SHORT))
    assert call(folder, "--name", "mine", "--proxy", "text") == 0
    return folder


def lora_of(folder: Path) -> Path:
    return folder / "runs" / "sd3_guard_text" / "seed0" / "lora"


def call(folder: Path, *more: str, source: Path | str = "", backbone: str = "tiny_sd3") -> int:
    return score_lora.main([str(source or lora_of(folder)), "--backbone", backbone, *overrides(folder, SHORT), *more])


def read(folder: Path, row: str) -> ledger.Run:
    return ledger.read(folder / "runs" / row / "seed0")


def test_a_runs_own_adapter_gives_the_runs_own_scores_and_images_to_the_bit(runs: Path) -> None:
    ours, theirs = read(runs, "mine").scores(), read(runs, "sd3_guard_text").scores()
    columns = ["image", "image_sha256", "prompt_id", "seed", "scorer", "definition", "score"]
    for update, trained in ((0, 0), (1, 2)):
        one, other = ours[ours["update"] == update], theirs[theirs["update"] == trained]
        assert one[columns].reset_index(drop=True).equals(other[columns].reset_index(drop=True))
    first, last = (theirs[theirs["update"] == update]["score"].to_numpy() for update in (0, 2))
    assert not np.array_equal(first, last)  # else nothing was shown


def cells(table: Path) -> dict[str, list[list[str]]]:
    """The cells after the first of each line, by the first."""
    found: dict[str, list[list[str]]] = {}
    for line in table.read_text().splitlines():
        if line.startswith("| "):
            first, *others = (cell.strip() for cell in line.split("|")[1:-1])
            found.setdefault(first, []).append(others)
    return found


def test_the_table_has_a_judged_adapter_as_a_row_of_its_own_and_says_so(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "save", lambda figure, path: [])
    assert make_tables(["--runs", str(runs / "runs"), "--out", str(tmp_path)]) == 0
    [mine] = cells(tmp_path / "extra.md")["mine"]
    assert mine[0] == "—" and mine[1:] in [line[1:] for line in cells(tmp_path / "table1.md")["GRPO-Guard"]]
    assert "Judged, not trained here: mine (mine)." in (tmp_path / "extra.md").read_text()


def test_what_is_judged_is_left_alone_and_another_adapter_of_its_name_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_lora, "_session", lambda *arguments: pytest.fail("judged again"))
    before = (read(runs, "mine").path / "metrics.jsonl").read_bytes()
    assert call(runs, "--name", "mine", "--proxy", "text") == 0
    tensors = load_file(lora_of(runs) / LORA)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / LORA)
    assert call(runs, "--name", "mine", source=tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is of another adapter" in error
    assert (read(runs, "mine").path / "metrics.jsonl").read_bytes() == before


def rewritten(layout: str, source: Path, folder: Path) -> Path:
    """The adapter in another layout; alpha is 16 and the rank 8 (bench/conf/scale/tiny.yaml)."""
    stem = {name.removeprefix("transformer."): tensor for name, tensor in load_file(source / LORA).items()}
    if layout == "peft":
        save_file(
            {f"base_model.model.{name}": each for name, each in stem.items()}, folder / "adapter_model.safetensors"
        )
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16, "use_dora": False}))
        return folder
    old = (
        {"lora_A": "lora.down", "lora_B": "lora.up"}
        if layout == "old"
        else {"lora_A": "lora_down", "lora_B": "lora_up"}
    )
    for new, name in old.items():
        stem = {key.replace(new, name): tensor for key, tensor in stem.items()}
    layers = {name.partition(".lora")[0] for name in stem}
    alphas = {f"transformer.{layer}.alpha": torch.tensor(16.0) for layer in layers}
    save_file({f"transformer.{name}": each for name, each in stem.items()} | alphas, folder / "any_name.safetensors")
    return folder


@pytest.mark.parametrize("layout", ["peft", "old", "underscored"])
def test_every_layout_is_the_same_adapter(runs: Path, tmp_path: Path, layout: str) -> None:
    ours, other = lora_files.read(lora_of(runs)), lora_files.read(rewritten(layout, lora_of(runs), tmp_path))
    assert ours.alpha == other.alpha and set(ours.alpha.values()) == {16.0}
    for one, two in ((ours.down, other.down), (ours.up, other.up)):
        assert one.keys() == two.keys() and all(torch.equal(one[layer], two[layer]) for layer in one)


def test_ranks_and_alphas_of_each_layer_are_its_own(tmp_path: Path) -> None:
    policy = prepare(settings("flux_base", tmp_path), Ranks()).policy
    layers = (
        "transformer_blocks.0.attn.to_q",
        "single_transformer_blocks.0.attn.to_k",
        "transformer_blocks.0.ff.net.2",
    )
    modules = [policy.transformer.get_submodule(layer).base_layer for layer in layers]
    generator = torch.Generator().manual_seed(0)
    down, up, inputs = {}, {}, {}
    for rank, (layer, module) in enumerate(zip(layers, modules, strict=True), start=1):
        down[layer] = torch.randn(rank, module.in_features, generator=generator)
        up[layer] = torch.randn(module.out_features, rank, generator=generator)
        inputs[layer] = torch.randn(2, module.in_features, generator=generator)
    alpha = dict(zip(layers, (1.0, 3.0, 5.0), strict=True))
    names, _ = lora_files.put(policy, lora_files.Adapter(down, up, alpha, ""))
    assert len(names) == 2 * len(layers)
    for layer, module in zip(layers, modules, strict=True):
        gain = alpha[layer] / len(down[layer]) * inputs[layer] @ down[layer].T @ up[layer].T
        found = policy.transformer.get_submodule(layer)(inputs[layer])
        torch.testing.assert_close(found, module(inputs[layer]) + gain)
    with policy.reference():
        assert torch.equal(
            policy.transformer.get_submodule(layers[0])(inputs[layers[0]]), modules[0](inputs[layers[0]])
        )


def test_an_adapter_of_another_backbone_is_one_line_with_its_keys_and_leaves_no_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(runs, "--name", "wrong", backbone="tiny_flux") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "made for another backbone than this FluxPipeline: transformer_blocks." in error
    assert not (runs / "runs" / "wrong" / "seed0" / "run.json").exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "found 0: none"),
        ({"a": {"x.lora_A.weight": 1}, "b": {"x.lora_A.weight": 1}}, r"found 2: a\.safetensors, b\.safetensors"),
        ({"a": {"text_model.q.weight": 1}}, r"no part of an adapter: text_model\.q\.weight"),
        ({"a": {"x.lora_A.weight": 1}}, "x without its other half"),
        ({"a": {"x.lora_A.weight": 1, "x.lora_B.weight": 1, "x.lora_magnitude_vector": 1}}, "lora_magnitude_vector"),
    ],
)
def test_what_is_no_adapter_is_named(tmp_path: Path, files: dict[str, dict[str, int]], words: str) -> None:
    for name, keys in files.items():
        save_file({key: torch.ones(1, 1) for key in keys}, tmp_path / f"{name}.safetensors")
    with pytest.raises(PolicyError, match=words):
        lora_files.read(tmp_path)


def test_what_an_adapter_would_need_beyond_two_matrices_is_refused(tmp_path: Path) -> None:
    save_file({f"x.lora_{part}.weight": torch.ones(1, 1) for part in "AB"}, tmp_path / "a.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 2, "use_rslora": true}')
    with pytest.raises(PolicyError, match="made with use_rslora"):
        lora_files.read(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    assert lora_files.read(tmp_path).alpha == {"x": 1.0}  # its rank, where nothing says otherwise


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["lora_alpha"], "its settings are no object but list"),
        ({"lora_alpha": "x"}, "lora_alpha above 0, found 'x'"),
        ({"lora_alpha": 0}, "lora_alpha above 0, found 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha above 0, found nan"),
        ({"init_lora_weights": "pissa_niter_4"}, "made with init_lora_weights 'pissa_niter_4'"),
        ({"init_lora_weights": "loftq"}, "made with init_lora_weights 'loftq'"),
        ({"layer_replication": [[0, 4]]}, "made with layer_replication"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_settings_that_cannot_be_followed_are_one_line(
    tmp_path: Path, settings: object, words: str, beside: bool
) -> None:
    pair = {f"x.lora_{part}.weight": torch.ones(1, 1) for part in "AB"}
    metadata = {} if beside else {lora_files.METADATA: json.dumps(settings)}
    save_file(pair, tmp_path / "a.safetensors", metadata=metadata)
    if beside:
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(PolicyError, match=words):
        lora_files.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "tensor", "words"),
    [
        ("lora_A.weight", torch.tensor(1.0), "unlike A of x"),
        ("lora_B.weight", torch.ones(1, 1, 1), "unlike B of x"),
        ("lora_A.weight", torch.full((1, 1), torch.nan), "unlike A of x"),
        ("alpha", torch.ones(2), "unlike alpha of x"),
        ("alpha", torch.tensor(0.0), "unlike alpha of x"),
        ("alpha", torch.tensor(torch.inf), "unlike alpha of x"),
    ],
)
def test_tensors_that_are_no_adapters_are_named(tmp_path: Path, key: str, tensor: torch.Tensor, words: str) -> None:
    pair = {f"x.lora_{part}.weight": torch.ones(1, 1) for part in "AB"}
    save_file(pair | {f"x.{key}": tensor}, tmp_path / "a.safetensors")
    with pytest.raises(PolicyError, match=words):
        lora_files.read(tmp_path)


def test_of_a_repository_nothing_but_the_adapter_is_fetched(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(source: str, allow_patterns: list[str]) -> str:
        asked.append((source, allow_patterns))
        if source.endswith("nowhere"):
            raise OSError("no connection\nat all")
        return str(lora_of(runs))

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert hub.fetch("someone/their-lora", lora_files.PATTERNS, "adapter") == lora_of(runs)
    assert asked == [("someone/their-lora", list(lora_files.PATTERNS))]
    assert all(pattern.endswith((".safetensors", ".json")) for pattern in lora_files.PATTERNS)  # no pickle
    assert call(runs, source="someone/nowhere") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no adapter could be loaded from hub repository or folder" in error


def test_one_of_a_repositorys_checkpoints_is_named_and_its_commit_recorded(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit, asked = "0123456789abcdef" * 2 + "01234567", list[str]()
    cache = tmp_path / "models--their--lora" / "snapshots" / commit
    for step in (60, 120):
        shutil.copytree(lora_of(runs), cache / "runs" / f"step-{step}")

    def download(source: str, allow_patterns: list[str]) -> str:
        asked.extend([source, *allow_patterns])
        return str(cache)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(score_lora, "_evaluate_twice", lambda *arguments: None)
    assert call(runs, source="their/lora:runs/step-60") == 0
    assert asked == ["their/lora", *(f"runs/step-60/{pattern}" for pattern in lora_files.PATTERNS)]
    adapter = read(runs, "step-60").info["adapter"]
    assert (adapter["source"], adapter["commit"]) == ("their/lora:runs/step-60", commit)
    assert read(runs, "mine").info["adapter"]["commit"] == ""
    shutil.rmtree(read(runs, "step-60").path.parent)
    for source, words in {
        "their/lora": "REPO:SUBFOLDER",
        "their/lora:nowhere": "it has none in a folder 'nowhere'",
        "their/lora:../other": "a folder inside the repository",
    }.items():
        assert call(runs, source=source, backbone="tiny_sd3") in (1, 2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and words in error


@pytest.mark.parametrize("name", ["sd3_base", "../elsewhere", "a b"])
def test_a_name_that_is_a_papers_row_or_no_folders_is_refused(
    runs: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(runs, "--name", name) == 2
    assert "give it another --name" in capsys.readouterr().err
