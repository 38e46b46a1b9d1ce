"""Public prompt sets: only the pinned bytes are taken, served or from a file, and what is written can be loaded."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import bench
from bench import prompt_sets, prompts
from bench.prompt_sets import SETS, PromptFile, PromptSet, main
from bench.prompts import PromptError

TRAIN = b'a sign that says "OPEN"\na cat\na sign that says "OPEN"\n  a d\xc3\xb6g \n'
TEST = b'{"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "two cats"}\n'


def git_object(content: bytes) -> str:
    return subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True).stdout.decode().strip()


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> dict[str, PromptSet]:
    """One small set: a train split known by its sha256, a test split by its git object id."""
    files = {
        "train": PromptFile("little/train.txt", hashlib.sha256(TRAIN).hexdigest(), 4),
        "test": PromptFile("little/test.jsonl", blob=git_object(TEST)),
    }
    made = {"little": PromptSet("ours", files)}
    monkeypatch.setattr(prompt_sets, "SETS", made)
    return made


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a local server that stands for the source."""
    folder = tmp_path / "served" / "little"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_bytes(TRAIN)
    (folder / "test.jsonl").write_bytes(TEST)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(prompt_sets, "SOURCE", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 of the own machine: nobody listens, nothing leaves.
    monkeypatch.setattr(prompt_sets, "SOURCE", "http://127.0.0.1:9/")


def test_a_downloaded_set_can_be_loaded_with_its_targets(sets: object, served: Path, tmp_path: Path) -> None:
    pytest.importorskip("httpx", reason="downloads need httpx")
    written = prompt_sets.get("little", tmp_path / "new" / "prompts")
    folder = tmp_path / "new" / "prompts"
    assert written == [(folder / "little_train.jsonl", 4, 3), (folder / "little_test.jsonl", 1, 1)]
    assert [p.text for p in prompts.load(folder / "little_train.jsonl")] == [
        'a sign that says "OPEN"',
        "a cat",
        "a dög",
    ]
    (test,) = prompts.load(folder / "little_test.jsonl")
    assert test.target == {"tag": "counting", "include": [{"class": "cat", "count": 2}]}
    assert sorted(path.name for path in folder.iterdir()) == ["little_test.jsonl", "little_train.jsonl"]


def test_a_set_has_the_prompts_that_its_source_has_as_plain_text(sets: object, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(TRAIN)
    ((made, _, _),) = prompt_sets.get("little", tmp_path, [tmp_path / "train.txt"])
    assert prompts.load(made) == prompts.load(tmp_path / "train.txt")


def test_a_local_file_is_taken_for_the_split_that_it_is(
    sets: object, offline: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "any name").write_bytes(TEST)
    assert main(["get", "little", "--from", str(tmp_path / "any name"), "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'little_test.jsonl'}: 1 prompts, 1 different\n"
    assert not (tmp_path / "little_train.jsonl").exists()


@pytest.mark.parametrize("content", [TRAIN + b"\n", TEST[:-1], b"", TRAIN.replace(b"\n", b"\r\n")])
def test_a_local_file_with_another_hash_is_refused(
    sets: object, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").write_bytes(content)
    assert main(["get", "little", "--from", str(tmp_path / "f"), "--to", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "is no file of little: wanted little/train.txt (sha256 " in error and "git object" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["train.txt", "test.jsonl"])
def test_a_download_with_another_hash_is_refused_and_leaves_what_was_there(
    sets: object, served: Path, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("httpx", reason="downloads need httpx")
    (tmp_path / "little_train.jsonl").write_text("old")
    (served / name).write_bytes((served / name).read_bytes() + b"one more\n")
    with pytest.raises(PromptError, match=f"little/{name} is not the file wanted"):
        prompt_sets.get("little", tmp_path)
    assert (tmp_path / "little_train.jsonl").read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("get", "litle"), "no prompt set is named 'litle'; there are little"),
        (("get", "little", "--from", "nowhere.txt"), "nowhere.txt cannot be read: No such file"),
        (("get", "little", "--from", "train.txt", "--to", "train.txt"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    sets: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.txt").write_bytes(TRAIN)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_without_a_network_the_error_says_how_to_do_without(
    sets: object, offline: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("httpx", reason="downloads need httpx")
    assert main(["get", "little", "--to", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9/little/train.txt could not be had" in error and "--from FILE" in error
    assert error.count("\n") == 1


def test_a_file_that_the_server_lacks_is_named(sets: object, served: Path, tmp_path: Path) -> None:
    pytest.importorskip("httpx", reason="downloads need httpx")
    (served / "test.jsonl").unlink()
    with pytest.raises(PromptError, match=r"little/test\.jsonl could not be had: the server answered 404"):
        prompt_sets.get("little", tmp_path)


def test_every_prompt_file_of_the_paper_scale_is_one_that_get_makes() -> None:
    conf = OmegaConf.load(Path(bench.__file__).parent / "conf" / "scale" / "paper.yaml")
    proxies = conf.evaluation.proxies
    wanted = {conf.evaluation.prompts, *(each.prompts for each in [*conf.tasks.values(), *proxies.values()])}
    made = {f"prompts/{name}_{split}.jsonl" for name, each in SETS.items() for split in each.files}
    assert wanted <= made
    assert {task: Path(each.prompts).stem for task, each in conf.tasks.items()} == {
        "geneval": "geneval_train",
        "pickscore": "pickscore_train",
        "text": "ocr_train",
    }
    judged = {proxy: (Path(each.prompts).stem, each.images_per_prompt) for proxy, each in proxies.items()}
    assert judged == {"geneval": ("geneval_test", 4), "text": ("ocr_test", 1)}
    for proxy, (stem, images) in judged.items():
        file = SETS[stem.split("_")[0]].files["test"]
        assert (file.different or file.lines or 0) * images == file.lines, proxy  # as often as the published file


def test_a_prompt_file_that_get_makes_and_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=f"`python -m bench.prompts get ocr --to {tmp_path}` makes it"):
        prompts.load(tmp_path / "ocr_train.jsonl")


def test_every_file_of_the_manifest_is_pinned() -> None:
    files = [file for each in SETS.values() for file in each.files.values()]
    assert {len(file.sha256) or len(file.blob) for file in files} == {64, 40}
    assert len({file.identity for file in files}) == len(files) == 9
    assert len(prompt_sets.SOURCE.split("/")[-3]) == 40


def test_the_list_names_every_set_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out and each.licence in out for name, each in SETS.items())
    assert "25432" in out and "?" in out


def test_the_command_is_that_of_bench_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").write_bytes(b"not it")
    monkeypatch.setattr(sys, "argv", ["bench.prompts", "get", "ocr", "--from", str(tmp_path / "f")])
    monkeypatch.delitem(sys.modules, "bench.prompts")  # run once more, as `python -m bench.prompts` runs it
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("bench.prompts", run_name="__main__")
    assert stopped.value.code == 2 and "is no file of ocr" in capsys.readouterr().err


def test_rows_keep_their_order_and_repetitions_their_weight(sets: object, tmp_path: Path) -> None:
    lines = [{"prompt": "b", "tag": 1}, {"prompt": "a", "tag": 2}, {"prompt": " b ", "tag": 1}]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path, count, different = prompt_sets._write(tmp_path / "x.jsonl", PromptFile("x.jsonl"), content)
    assert (count, different) == (3, 2)
    assert [p.text for p in prompts.load(path, repeats=True)] == ["b", "a", "b"]
    assert [(p.text, p.target) for p in prompts.load(path)] == [("b", {"tag": 1}), ("a", {"tag": 2})]
