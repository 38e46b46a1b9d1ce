"""Stored prompt embeddings change no number, free the text encoders and are never taken from other encoders."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from bench_runs import PROMPTS, settings

from bench import config, embeddings, prompts, train
from bench.embeddings import attach
from bench.policy import Policy, PolicyError, load
from bench.ranks import Ranks
from bench.session import prepare

WEIGHTS = Path(config.__file__).parent / "tiny/weights"
RECORDS = ("metrics.jsonl", "diagnostics.jsonl", "lora/pytorch_lora_weights.safetensors")
TEXTS = [prompt.text for prompt in prompts.load(PROMPTS / "text.jsonl")]  # 97 prompts: two files of unequal length


def policy_of(backbone: str, weights: Path | None = None, text_tokens: int = 10, dtype: str = "float32") -> Policy:
    return load(str(weights or WEIGHTS / backbone), 32, text_tokens, 4.5, dtype=dtype)


@pytest.mark.parametrize(("row", "guidance"), [("sd3_guard_text", 4.5), ("flux_guard_text", 3.5)])
def test_a_run_is_the_same_with_and_without_stored_embeddings(row: str, guidance: float, tmp_path: Path) -> None:
    name = f"backbones.{row.split('_')[0]}"
    # Four prompts an epoch: below that a CPU kernel rounds a projection in another way.
    asked = (f"{name}.guidance={guidance}", "updates=2", "sampling.groups=4")
    without = train.run(settings(row, tmp_path, *asked))
    more = (f"{name}.embeddings={tmp_path}/embeddings", f"runs={tmp_path}/stored")
    stored = train.run(settings(row, tmp_path, *asked, *more))
    for record in RECORDS:
        assert (without / record).read_bytes() == (stored / record).read_bytes(), record


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_stored_rows_are_the_encoders_own_in_any_order(backbone: str, tmp_path: Path) -> None:
    policy = policy_of(backbone)
    fresh = policy.encode(TEXTS)
    attach(policy, str(WEIGHTS / backbone), tmp_path, [TEXTS])
    order = torch.randperm(len(TEXTS), generator=torch.Generator().manual_seed(0))
    stored = policy.encode([TEXTS[i] for i in order])
    assert torch.equal(stored.tokens, fresh.tokens[order])
    assert torch.equal(stored.pooled, fresh.pooled[order])
    sizes = sorted(len(list(folder.glob("*.safetensors"))) for folder in tmp_path.iterdir())
    assert sizes == [1, 2]  # the empty prompt, and 97 prompts in files of at most 64


def test_the_text_encoders_leave_memory(tmp_path: Path) -> None:
    policy = policy_of("sd3")
    encoders = [weakref.ref(encoder) for encoder in policy.text_encoders()]
    assert len(encoders) == 3
    attach(policy, str(WEIGHTS / "sd3"), tmp_path, [TEXTS[:4]])
    gc.collect()
    assert [encoder() for encoder in encoders] == [None] * 3
    assert policy.text_encoders() == []
    assert policy.pipe.text_encoder_3 is None


def test_a_second_run_reads_what_the_first_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings("sd3_flow_text", tmp_path, f"backbones.sd3.embeddings={tmp_path}/embeddings")
    first = prepare(asked, Ranks())

    def refuse(self: Policy, texts: list[str]) -> None:
        raise AssertionError(f"encoded again: {texts}")

    monkeypatch.setattr("bench.sd3.SD3Policy.encode_now", refuse)
    second = prepare(asked, Ranks())
    for listed in (first.train_prompts, first.eval_prompts):
        texts = [prompt.text for prompt in listed]
        assert torch.equal(first.policy.encode(texts).tokens, second.policy.encode(texts).tokens)
    second.policy.encode([""])


def test_an_interrupted_computation_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, encoded = policy_of("sd3"), list[int]()
    own = policy.encode_now

    def once(texts: list[str]) -> object:
        encoded.append(len(texts))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return own(texts)

    monkeypatch.setattr(policy, "encode_now", once)
    with pytest.raises(KeyboardInterrupt):
        attach(policy, str(WEIGHTS / "sd3"), tmp_path, [TEXTS])
    attach(policy, str(WEIGHTS / "sd3"), tmp_path, [TEXTS])
    assert encoded == [1, 49, 48, 48]


def changed_copy(folder: Path, part: str) -> Path:
    shutil.copytree(WEIGHTS / "sd3", folder)
    content = bytearray((folder / part).read_bytes())
    content[-3] ^= 1
    (folder / part).write_bytes(content)
    return folder


@pytest.mark.parametrize("part", ["text_encoder_2/model.safetensors", "tokenizer_3/tokenizer.json"])
def test_embeddings_of_another_encoder_are_refused(part: str, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    attach(policy_of("sd3"), str(WEIGHTS / "sd3"), stored, [TEXTS[:4]])
    policy, other = policy_of("sd3"), changed_copy(tmp_path / "other", part)
    with pytest.raises(PolicyError, match=r"were made with text encoders \w{16}, this run has \w{16}; delete") as error:
        attach(policy, str(other), stored, [TEXTS[:4]])
    assert "\n" not in str(error.value)
    assert len(policy.text_encoders()) == 3


def test_another_transformer_may_share_embeddings(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    attach(policy_of("sd3"), str(WEIGHTS / "sd3"), stored, [TEXTS[:4]])
    other = changed_copy(tmp_path / "other", "transformer/diffusion_pytorch_model.safetensors")
    attach(policy_of("sd3", other), str(other), stored, [TEXTS[:4]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_tokens": 12}, "text_tokens 10, this run has 12"),
        ({"dtype": "bfloat16"}, "dtype float32, this run has b"),
    ],
)
def test_embeddings_of_another_length_or_type_are_refused(changes: dict, words: str, tmp_path: Path) -> None:
    attach(policy_of("flux"), str(WEIGHTS / "flux"), tmp_path, [TEXTS[:4]])
    with pytest.raises(PolicyError, match=words):
        attach(policy_of("flux", **changes), str(WEIGHTS / "flux"), tmp_path, [TEXTS[:4]])


def test_a_damaged_file_and_a_prompt_that_is_not_stored_are_named(tmp_path: Path) -> None:
    policy = policy_of("sd3")
    attach(policy, str(WEIGHTS / "sd3"), tmp_path, [TEXTS[:4]])
    with pytest.raises(PolicyError, match=r"holds no embedding of 'a unicorn'"):
        policy.encode([TEXTS[0], "a unicorn"])
    path = tmp_path / embeddings.digest(TEXTS[:4]) / "00001-of-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(PolicyError, match=r"00001-of-00001\.safetensors cannot be read .*; delete the file"):
        attach(policy_of("sd3"), str(WEIGHTS / "sd3"), tmp_path, [TEXTS[:4]])
