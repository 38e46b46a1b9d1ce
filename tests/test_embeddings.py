"""Stored prompt embeddings change no number, spare the text encoders and are never taken from other encoders."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from bench_runs import PROMPTS, settings
from safetensors import safe_open

from bench import config, loading, policy, prompts, space, train
from bench.costs import plan
from bench.embeddings import Store, Stored, free_text_encoders
from bench.experiments import find_row
from bench.policy import Policy, PolicyError
from bench.ranks import Ranks
from bench.session import prepare
from bench.space import SpaceError

WEIGHTS = Path(config.__file__).parent / "tiny/weights"
RECORDS = ("metrics.jsonl", "diagnostics.jsonl", "lora/pytorch_lora_weights.safetensors")
TEXTS = [prompt.text for prompt in prompts.load(PROMPTS / "text.jsonl")]  # 97 prompts: two files of unequal length


def policy_of(backbone: str, dtype: str = "float32") -> Policy:
    return policy.load(str(WEIGHTS / backbone), 32, 10, 4.5, dtype=dtype)


def store_of(folder: Path, weights: Path = WEIGHTS / "sd3", text_tokens: int = 10, dtype: str = "float32") -> Store:
    return Store(folder, str(weights), text_tokens, dtype)


def sizes(folder: Path) -> list[int]:
    """Prompts in each file."""
    return sorted(len(safe_open(path, "pt").get_tensor("pooled")) for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize(("row", "guidance"), [("sd3_guard_text", 4.5), ("flux_guard_text", 3.5)])
def test_a_run_is_the_same_with_and_without_stored_embeddings(row: str, guidance: float, tmp_path: Path) -> None:
    name = f"backbones.{row.split('_')[0]}"
    # Four prompts an epoch: below that a CPU kernel rounds a projection in another way.
    asked = (f"{name}.guidance={guidance}", "updates=2", "sampling.groups=4")
    without = train.run(settings(row, tmp_path, *asked))
    for runs in ("made", "read"):
        more = (f"{name}.embeddings={tmp_path}/embeddings", f"runs={tmp_path}/{runs}")
        stored = train.run(settings(row, tmp_path, *asked, *more))
        for record in RECORDS:
            assert (without / record).read_bytes() == (stored / record).read_bytes(), record


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_stored_rows_are_the_encoders_own_in_any_order(backbone: str, tmp_path: Path) -> None:
    made = policy_of(backbone)
    fresh = made.encode(TEXTS)
    stored = store_of(tmp_path, WEIGHTS / backbone).fill(made, TEXTS)
    order = torch.randperm(len(TEXTS), generator=torch.Generator().manual_seed(0))
    found = stored([TEXTS[i] for i in order])
    assert torch.equal(found.tokens, fresh.tokens[order])
    assert torch.equal(found.pooled, fresh.pooled[order])
    assert sizes(tmp_path) == [1, 33, 64]  # the empty prompt, and 97 prompts in files of at most 64


def test_only_what_was_never_asked_for_is_computed_and_beside_what_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = policy_of("sd3"), list[list[str]]()
    own = made.encode_now
    monkeypatch.setattr(made, "encode_now", lambda texts: asked.append(texts) or own(texts))
    store = store_of(tmp_path / "grown")
    for texts in (TEXTS[:1], TEXTS[:1], TEXTS[:3], TEXTS):
        stored = store.fill(made, texts)
    assert [list(dict.fromkeys(texts)) for texts in asked] == [[""], TEXTS[:1], TEXTS[1:3], TEXTS[3:67], TEXTS[67:]]
    at_once = store_of(tmp_path / "at_once").fill(made, TEXTS)
    assert torch.equal(stored(TEXTS).tokens, at_once(TEXTS).tokens)
    assert torch.equal(stored(TEXTS).pooled, at_once(TEXTS).pooled)


def test_embeddings_that_would_not_fit_are_refused_as_soon_as_the_size_of_one_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, store = policy_of("sd3"), store_of(tmp_path)
    store.fill(made, [])
    needed = len(TEXTS) * space.used(tmp_path) + space.RESERVE  # the empty prompt alone is there
    for free in (needed - 1, needed):
        shutil.rmtree(tmp_path)
        monkeypatch.setattr(space, "free", lambda _, free=free: free)
        if free < needed:
            with pytest.raises(SpaceError, match="too little room for the embeddings of 97 prompts"):
                store.fill(made, TEXTS)
            assert sizes(tmp_path) == [1]
    store.fill(made, TEXTS)


def test_the_text_encoders_leave_memory(tmp_path: Path) -> None:
    made = policy_of("sd3")
    encoders = [weakref.ref(encoder) for encoder in made.text_encoders()]
    assert len(encoders) == 3
    free_text_encoders(made)
    gc.collect()
    assert [encoder() for encoder in encoders] == [None] * 3
    assert made.text_encoders() == []


@pytest.mark.parametrize("backbone", ["sd3", "flux"])
def test_a_run_whose_embeddings_are_there_never_reads_the_text_encoders(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    asked = settings(f"{backbone}_guard_text", tmp_path, f"backbones.{backbone}.embeddings={tmp_path}/embeddings")
    first, loaded = prepare(asked, Ranks()), list[type]()

    def refuse(kind: type, *args: object, **given: object) -> None:
        loaded.append(kind)
        raise AssertionError(f"{kind.__name__} was loaded")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(refuse))
    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "from_pretrained", classmethod(refuse))
    second = prepare(asked, Ranks())
    assert loaded == [] and second.policy.text_encoders() == []
    texts = [prompt.text for prompt in first.evaluation_sets[0].prompts]
    assert torch.equal(first.policy.encode(texts).tokens, second.policy.encode(texts).tokens)
    second.policy.encode([""])
    longer = settings(f"{backbone}_guard_text", tmp_path, f"backbones.{backbone}.embeddings={tmp_path}/embeddings")
    longer.updates = 40
    with pytest.raises(AssertionError, match="was loaded"):
        prepare(longer, Ranks())


def test_a_rank_that_does_not_compute_loads_no_text_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings("sd3_guard_text", tmp_path, f"backbones.sd3.embeddings={tmp_path}/embeddings")
    own, wanted = policy.load, list[bool]()

    def spy(*args: object, text_encoders: bool, **given: object) -> Policy:
        wanted.append(text_encoders)
        return own(*args, text_encoders=text_encoders, **given)  # type: ignore[arg-type]

    class Second(Ranks):
        first = False

        def decide(self, question: object) -> object:
            return answers.pop(0)

    answers = [True, Stored(tmp_path, {})]  # something is lacking; what the first rank has filled
    monkeypatch.setattr(policy, "load", spy)
    texts = loading.texts_of(asked, find_row(asked.row), prompts.load(PROMPTS / "text.jsonl"), [])
    for ranks in (Second(), Ranks()):
        loading.load(asked, find_row(asked.row), ranks, texts)
    assert wanted == [False, True]


def test_what_is_stored_is_what_a_run_draws_and_is_evaluated_on_and_what_was_planned(tmp_path: Path) -> None:
    asked = settings("sd3_guard_pickscore", tmp_path, f"backbones.sd3.embeddings={tmp_path}/embeddings")
    made = prepare(asked, Ranks())
    drawn = {p.text for epoch in (0, 1) for p in prompts.of_epoch(made.train_prompts, 2, 0, epoch)}
    wanted = drawn | {prompt.text for prompt in made.evaluation_sets[0].prompts}
    assert len(wanted) < 9 < len(made.train_prompts) == 636
    assert sizes(tmp_path / "embeddings") == [1, len(wanted)]
    rows = made.policy.encode(sorted(wanted | {""}))
    kept = sum(tensor.numel() * tensor.element_size() for tensor in (rows.tokens, rows.pooled))
    assert plan(asked).shared_embeddings == kept


def test_an_interrupted_computation_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, encoded = policy_of("sd3"), list[int]()
    own = made.encode_now

    def once(texts: list[str]) -> object:
        encoded.append(len(set(texts)))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return own(texts)

    monkeypatch.setattr(made, "encode_now", once)
    with pytest.raises(KeyboardInterrupt):
        store_of(tmp_path).fill(made, TEXTS)
    store_of(tmp_path).fill(made, TEXTS)
    assert encoded == [1, 64, 33, 33]


def changed_copy(folder: Path, part: str) -> Path:
    shutil.copytree(WEIGHTS / "sd3", folder)
    content = bytearray((folder / part).read_bytes())
    content[-3] ^= 1
    (folder / part).write_bytes(content)
    return folder


@pytest.mark.parametrize("part", ["text_encoder_2/model.safetensors", "tokenizer_3/tokenizer.json"])
def test_embeddings_of_another_encoder_are_refused(part: str, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    store_of(stored).fill(policy_of("sd3"), TEXTS[:4])
    other = store_of(stored, changed_copy(tmp_path / "other", part))
    with pytest.raises(PolicyError, match=r"were made with text encoders \w{16}, this run has \w{16}; delete") as error:
        other.lacking(TEXTS[:4])
    assert "\n" not in str(error.value)


def test_another_transformer_may_share_embeddings(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    store_of(stored).fill(policy_of("sd3"), TEXTS[:4])
    other = changed_copy(tmp_path / "other", "transformer/diffusion_pytorch_model.safetensors")
    assert store_of(stored, other).lacking(TEXTS[:5]) == TEXTS[4:5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_tokens": 12}, "text_tokens 10, this run has 12"),
        ({"dtype": "bfloat16"}, "dtype float32, this run has b"),
    ],
)
def test_embeddings_of_another_length_or_type_are_refused(changes: dict, words: str, tmp_path: Path) -> None:
    store_of(tmp_path).fill(policy_of("sd3"), TEXTS[:4])
    with pytest.raises(PolicyError, match=words):
        store_of(tmp_path, **changes).lacking(TEXTS[:4])


def test_of_encoders_that_were_never_downloaded_nothing_is_taken_for_stored(tmp_path: Path) -> None:
    store_of(tmp_path).fill(policy_of("sd3"), TEXTS[:4])
    assert store_of(tmp_path, Path("nobody/nothing")).lacking(TEXTS[:2]) == ["", *TEXTS[:2]]


def test_a_damaged_file_and_a_prompt_that_is_not_stored_are_named(tmp_path: Path) -> None:
    stored = store_of(tmp_path).fill(policy_of("sd3"), TEXTS[:4])
    with pytest.raises(PolicyError, match=r"holds no embedding of 'a unicorn'"):
        stored([TEXTS[0], "a unicorn"])
    path = max(tmp_path.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(PolicyError, match=rf"{path.name} cannot be read .*; delete the file"):
        store_of(tmp_path).lacking(TEXTS[:4])
    path.unlink()
    assert store_of(tmp_path).lacking(TEXTS[:4]) == TEXTS[:4]
