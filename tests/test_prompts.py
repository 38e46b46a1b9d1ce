"""Prompt files: what is read, what is refused and with which words, and who gets which prompt when."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import prompts
from bench.prompts import PromptError
from bench.tiny import prompt_files
from bench.tiny.grammar import held_out


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"a cat\n\na dog\n", "line 2 is empty"),
        ("a.txt", b"a cat\na d\xf6g\n", "line 2 is not UTF-8"),
        ("a.jsonl", b'{"prompt": "a cat"}\n{"text": "a dog"}\n', 'line 2 must be an object with a string "prompt"'),
        ("a.jsonl", b'{"prompt": "a cat"\n', "line 1 must be an object"),
        ("a.jsonl", b'{"prompt": "  "}\n', "line 1 is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(PromptError, match=words) as caught:
        prompts.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"nothing\.txt cannot be read: No such file"):
        prompts.load(tmp_path / "nothing.txt")


def test_ids_follow_the_text_alone_and_repetitions_are_dropped(tmp_path: Path) -> None:
    plain = prompts.load(write(tmp_path / "a.txt", b"a cat\na dog\na cat\n"))
    rich = prompts.load(write(tmp_path / "b.jsonl", b'{"prompt": "a dog", "target": {"x": 1}}\n'))
    assert [p.text for p in plain] == ["a cat", "a dog"]
    assert rich[0].id == plain[1].id
    assert rich[0].target == {"x": 1}


def test_an_epoch_takes_different_prompts_and_every_epoch_others() -> None:
    pool = prompts.load(prompt_files.FOLDER / "geneval.jsonl")
    first, again, second, other = (
        [p.id for p in prompts.of_epoch(pool, 8, seed, epoch)] for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert first == again
    assert len(set(first)) == 8
    assert first != second
    assert first != other


def test_an_epoch_that_needs_more_prompts_than_there_are_is_refused(tmp_path: Path) -> None:
    pool = prompts.load(write(tmp_path / "a.txt", b"a cat\na dog\n"))
    with pytest.raises(PromptError, match="needs 3 different prompts and the file has 2"):
        prompts.of_epoch(pool, 3, 0, 0)


def test_shipped_prompt_files_are_what_the_grammar_makes() -> None:
    for name, pairs in prompt_files.files().items():
        stored = prompts.load(prompt_files.FOLDER / f"{name}.jsonl")
        assert [(p.text, p.target) for p in stored] == pairs


def test_no_held_out_prompt_is_trained_on_and_evaluation_uses_them() -> None:
    files = prompt_files.files()
    trained = {prompt for name in ("geneval", "pickscore", "text") for prompt, _ in files[name]}
    evaluated = [(p, t) for p, t in files["evaluation"] if t["category"] not in ("single_object", "counting")]
    assert all(held_out(p, t) and p not in trained for p, t in evaluated)


def test_a_prompt_that_a_training_file_repeats_is_drawn_as_much_more_often(tmp_path: Path) -> None:
    lines = b"".join(b"%d\n" % (i if i < 10 else 0) for i in range(20))  # the prompt 0 eleven times, nine others once
    pool = prompts.load(write(tmp_path / "a.txt", lines), repeats=True)
    drawn = [prompts.of_epoch(pool, 1, 0, epoch)[0].text for epoch in range(2000)]
    assert drawn.count("0") / 2000 == pytest.approx(11 / 20, abs=4 * (0.55 * 0.45 / 2000) ** 0.5)
    assert all(len({p.id for p in prompts.of_epoch(pool, 10, 0, epoch)}) == 10 for epoch in range(20))
    assert len(prompts.load(tmp_path / "a.txt")) == 10
