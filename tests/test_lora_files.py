"""The files of adapters: ranks and alphas of each layer, and everything that is no adapter of linear layers refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bench_runs import settings
from safetensors.torch import save_file

from bench import lora_files
from bench.policy import PolicyError
from bench.ranks import Ranks
from bench.session import prepare


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


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, r"no \*\.safetensors, it is empty; name the adapter's folder"),
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
