"""Adapters that others trained: put in to the bit, judged as the rows are, and shown as a row of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_runs import overrides, settings
from safetensors.torch import load_file, save_file

from bench import hub, judged, ledger, lora_files, score_lora, train
from bench.config import ConfigError
from paper_tables import drawing
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
    monkeypatch.setattr(drawing, "save", lambda figure, path: [])
    assert make_tables(["--runs", str(runs / "runs"), "--out", str(tmp_path)]) == 0
    [mine] = cells(tmp_path / "extra.md")["mine"]
    assert mine[0] == "—" and mine[1:-1] in [line[1:] for line in cells(tmp_path / "table1.md")["GRPO-Guard, text"]]
    kl = read(runs, "mine").metrics()["kl/base"].dropna().iloc[-1]
    assert mine[-1] == f"{kl**0.5:.1f}"
    assert "Judged, not trained here: mine (mine)." in (tmp_path / "extra.md").read_text()


def test_what_is_judged_is_left_alone_and_another_adapter_of_its_name_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged, "_session", lambda *arguments: pytest.fail("judged again"))
    before = (read(runs, "mine").path / "metrics.jsonl").read_bytes()
    assert call(runs, "--name", "mine", "--proxy", "text") == 0
    tensors = load_file(lora_of(runs) / LORA)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / LORA)
    assert call(runs, "--name", "mine", source=tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is of another adapter" in error
    assert (read(runs, "mine").path / "metrics.jsonl").read_bytes() == before


def test_what_another_process_judged_while_the_model_was_loaded_is_kept(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, answers, asked = (read(runs, "mine").path / "metrics.jsonl").read_bytes(), [False], judged._is_done
    monkeypatch.setattr(judged, "_is_done", lambda *given: answers.pop() if answers else asked(*given))
    monkeypatch.setattr(judged, "_session", lambda *given: None)
    assert call(runs, "--name", "mine", "--proxy", "text") == 0 and not answers
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


def test_an_adapter_of_another_backbone_is_one_line_with_its_keys_and_leaves_no_folder(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(runs, "--name", "wrong", backbone="tiny_flux") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "made for another backbone than this FluxPipeline: transformer_blocks." in error
    assert "name its own with --backbone" in error
    assert not (runs / "runs" / "wrong").exists()


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
    assert error.startswith("bench.score_lora: there is no folder 'someone/nowhere' here, and ")


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
    monkeypatch.setattr(judged, "_evaluate_twice", lambda *arguments: None)
    assert call(runs, source="their/lora:runs/step-60") == 0
    assert asked == ["their/lora", *(f"runs/step-60/{pattern}" for pattern in lora_files.PATTERNS)]
    adapter = read(runs, "their_step-60").info["adapter"]
    assert (adapter["source"], adapter["commit"]) == ("their/lora:runs/step-60", commit)
    assert read(runs, "mine").info["adapter"]["commit"] == ""
    shutil.rmtree(read(runs, "their_step-60").path.parent)
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


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("jieliu/SD3.5M-FlowGRPO-Text", "SD3.5M-FlowGRPO-Text"),
        ("their/lora", "their"),
        ("their/grpo:checkpoints/checkpoint-120/lora", "grpo_checkpoint-120"),
        ("their/grpo:ocr/step_60", "ocr_step_60"),
        ("runs/tiny/sd3_flow_text/seed1/lora", "sd3_flow_text_seed1"),
        ("runs/tiny/sd3_flow_text/seed1/lora/", "sd3_flow_text_seed1"),
        ("../ours", "ours"),
    ],
)
def test_a_row_is_called_by_what_tells_its_adapter_from_others(
    source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/tiny/sd3_flow_text/seed1/lora").mkdir(parents=True)
    (tmp_path / "ours").mkdir()
    monkeypatch.chdir(tmp_path / "ours" if source.startswith("..") else tmp_path)
    assert score_lora.row_for(source, "", "sd3", "").name == name


def test_a_path_that_tells_nothing_wants_a_name() -> None:
    with pytest.raises(ConfigError, match="cannot be called ''; give it another --name"):
        score_lora.row_for("/lora", "", "sd3", "")


def test_what_cannot_be_judged_is_one_line_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for file in (tmp_path / "other/model.bin", tmp_path / "lora.safetensors"):
        file.touch()
    asked = {
        (str(tmp_path / "nowhere"), "tiny_sd3"): "bench.score_lora: there is no folder '/",
        ("nowhere", "tiny_sd3"): "there is no folder 'nowhere' here, nor is that OWNER/NAME",
        (str(tmp_path / "lora.safetensors"), "tiny_sd3"): "lora.safetensors' is a file: name the folder",
        (str(tmp_path / "empty"), "tiny_sd3"): "it is empty; name the adapter's folder",
        (str(tmp_path / "other"), "tiny_sd3"): "but model.bin; name the adapter's folder",
        ("their/lora", "tiny_sd"): "there is no --backbone 'tiny_sd'; did you mean tiny_sd3 or tiny_flux?",
    }
    for (source, backbone), words in asked.items():
        assert call(tmp_path, source=source, backbone=backbone) in (1, 2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "runs").exists()


def test_the_kl_to_the_base_is_that_of_the_run_it_was_trained_in(runs: Path) -> None:
    found = (read(runs, row).metrics().set_index("update")["kl/base"].dropna() for row in ("mine", "sd3_guard_text"))
    ours, theirs = found
    assert ours[0] == 0 and ours[1] == theirs[2] > 0
    assert read(runs, "mine").info["adapter"]["sampled_as"] == "flow_grpo"
