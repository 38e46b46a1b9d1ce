"""Weights: missing ones are one line with what to type, changed ones are refused, and the command lists and fetches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.constants import HF_HUB_CACHE

from gold_metrics import weights
from gold_metrics.weights import WEIGHTS, Weight, WeightsError, fetch, locate, notes
from gold_metrics.weights_command import main

FIRST, SECOND, THIRD = "a" * 40, "b" * 40, "c" * 40


class Hub:
    """Stands for huggingface.co: one commit is its newest; downloads go to the cache in its layout."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.newest = FIRST
        self.content: Callable[[str], bytes] = lambda name: f"weights of {name}".encode()
        self.fault: Exception | None = None
        self.asked: list[tuple[str, str | None]] = []

    def download(self, repo: str, file: str, revision: str | None = None) -> str:
        self.asked.append((f"{repo}/{file}", revision))
        if self.fault:
            raise self.fault
        folder = self.cache / f"models--{repo.replace('/', '--')}"
        path = folder / "snapshots" / (revision or self.newest) / file
        if not path.exists():
            content = self.content(f"{repo}/{file}")
            blob = folder / "blobs" / hashlib.sha256(f"weights of {repo}/{file}".encode()).hexdigest()
            for each in (blob.parent, path.parent, folder / "refs"):
                each.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            path.symlink_to(blob)
        if revision is None:
            (folder / "refs" / "main").write_text(self.newest)
        return str(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    # A part of the path that is named like a part of the cache's own layout.
    made = Hub(tmp_path / "snapshots" / "hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(made.cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(made.cache))  # read at import
    monkeypatch.setenv("GOLD_METRICS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.download)
    assert str(made.cache) != HF_HUB_CACHE
    return made


class Reply:
    """As much of an HTTP response as the library's errors read."""

    status_code = 403
    headers: ClassVar[dict[str, str]] = {}
    request = None


def refused(kind: type[errors.HfHubHTTPError], words: str = "403 Client Error\nmore") -> errors.HfHubHTTPError:
    reply: Any = Reply()
    return kind(words, response=reply)


@pytest.mark.parametrize("scorer", sorted(WEIGHTS))
def test_missing_weights_are_one_line_with_the_command_that_gets_them(hub: Hub, scorer: str) -> None:
    with pytest.raises(WeightsError) as caught:
        locate(scorer)
    words = str(caught.value)
    assert f"`python -m gold_metrics weights fetch {scorer}`" in words and WEIGHTS[scorer][0].repo in words
    assert "\n" not in words


@pytest.mark.parametrize("scorer", sorted(WEIGHTS))
def test_what_was_fetched_is_found_in_one_folder_per_repository(hub: Hub, scorer: str) -> None:
    fetch(scorer)
    folders = locate(scorer)
    assert set(folders) == {weight.repo for weight in WEIGHTS[scorer]}
    for weight in WEIGHTS[scorer]:
        assert (folders[weight.repo] / weight.file).read_text() == f"weights of {weight.repo}/{weight.file}"


def test_one_missing_file_of_many_is_named(hub: Hub) -> None:
    fetch("image_reward")
    (locate("image_reward")["bert-base-uncased"] / "vocab.txt").unlink()
    with pytest.raises(WeightsError, match=r"image_reward needs vocab\.txt of huggingface\.co/bert-base-uncased"):
        locate("image_reward")


def test_a_file_that_changed_after_it_was_noted_is_refused(hub: Hub) -> None:
    fetch("hpsv2")
    path = locate("hpsv2")["xswu/HPSv2"] / "HPS_v2.1_compressed.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        WeightsError, match=r"is not the HPS_v2\.1_compressed\.pt of xswu/HPSv2 that was noted in"
    ) as caught:
        locate("hpsv2")
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="that was noted in"):
        fetch("hpsv2")


def test_a_download_that_is_not_what_the_hub_named_is_refused_the_first_time(hub: Hub) -> None:
    hub.content = lambda name: b"torn"
    with pytest.raises(WeightsError, match="that was named by the hub"):
        fetch("hpsv2")
    assert notes() == {}


def test_what_was_noted_is_fetched_again_at_its_commit(hub: Hub) -> None:
    fetch("hpsv2")
    first = notes()
    assert first["xswu/HPSv2/HPS_v2.1_compressed.pt"] == {
        "commit": FIRST,
        "sha256": hashlib.sha256(b"weights of xswu/HPSv2/HPS_v2.1_compressed.pt").hexdigest(),
    }
    hub.newest = SECOND
    fetch("hpsv2")
    assert hub.asked == [("xswu/HPSv2/HPS_v2.1_compressed.pt", None), ("xswu/HPSv2/HPS_v2.1_compressed.pt", FIRST)]
    assert notes() == first


def test_files_of_one_repository_come_from_one_commit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "near", (Weight("xswu/HPSv2-other", "a.pt", "mit"),))
    fetch("near")
    hub.newest = SECOND
    fetch("hpsv2")
    hub.newest = THIRD
    fetch("hpsv2_v2.0")
    assert {name: noted["commit"] for name, noted in notes().items()} == {
        "xswu/HPSv2-other/a.pt": FIRST,
        "xswu/HPSv2/HPS_v2.1_compressed.pt": SECOND,
        "xswu/HPSv2/HPS_v2_compressed.pt": SECOND,
    }


def test_a_file_in_a_subfolder_leads_to_the_folder_of_its_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "deep", (Weight("a/b", "c/d/e.pt", "mit"), Weight("a/b", "config.json", "mit")))
    fetch("deep")
    assert (locate("deep")["a/b"] / "c/d/e.pt").is_file() and locate("deep")["a/b"].name == FIRST


@pytest.mark.parametrize("content", ["{", "[]", '{"a/b": {"commit": "x"}}', '{"a/b": 1}'])
def test_notes_that_cannot_be_understood_are_named(hub: Hub, content: str) -> None:
    weights.home().mkdir()
    (weights.home() / "weights.json").write_text(content)
    with pytest.raises(WeightsError, match=r"weights\.json is not"):
        locate("hpsv2")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (refused(errors.GatedRepoError), "accept its licence at https://huggingface.co/xswu/HPSv2 and put a token"),
        (refused(errors.RepositoryNotFoundError), "HF_TOKEN should hold a token"),
        (refused(errors.RemoteEntryNotFoundError), "no such file at its newest commit"),
        (errors.LocalEntryNotFoundError("An error happened\nwhile"), "no answer from the hub"),
        (errors.OfflineModeIsEnabled("offline"), "no answer from the hub"),
        (refused(errors.HfHubHTTPError, "502 Bad Gateway\nlong"), "could not be had: 502 Bad Gateway"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError(""), "could not be had: RuntimeError"),
    ],
)
def test_a_refused_download_says_in_one_line_what_to_do(
    hub: Hub, fault: Exception, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.fault = fault
    assert main(["fetch", "hpsv2"]) == 1
    error = capsys.readouterr().err
    assert words in error and "HPS_v2.1_compressed.pt of huggingface.co/xswu/HPSv2" in error
    assert error.count("\n") == 1 and "hf_secret" not in error


def test_fetching_goes_on_after_a_scorer_that_failed(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    download = hub.download

    def failing(repo: str, file: str, revision: str | None = None) -> str:
        if repo == "xswu/HPSv2":
            raise errors.LocalEntryNotFoundError("no network")
        return download(repo, file, revision)

    huggingface_hub.hf_hub_download = failing  # type: ignore[assignment]  # the fixture puts it back
    assert main(["fetch", "hpsv2", "clip_score"]) == 1
    assert "clip_score: " in capsys.readouterr().out
    assert locate("clip_score")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fetch", "hpsv3"), "no scorer with weights is named 'hpsv3'; did you mean hpsv2"),
        (("list", "picksore"), "did you mean pickscore"),
        (("fetch", "hpsv2", "saturation"), "saturation needs no weights from here"),
    ],
)
def test_a_wrong_scorer_is_one_line_and_nothing_is_fetched(
    hub: Hub, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and hub.asked == []


def test_the_list_says_what_is_here_and_what_is_still_to_be_fetched(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "hpsv2", "image_reward"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert before[2].split() == ["hpsv2", "HPS_v2.1_compressed.pt", "xswu/HPSv2", "?", "apache-2.0", "no", "-"]
    assert before[-1] == "files: 4, 1,790 MB and 1 of unknown size; to fetch: 4, 1,790 MB and 1 of unknown size"
    fetch("hpsv2")
    assert main(["list", "hpsv2", "image_reward"]) == 0
    after = capsys.readouterr().out.splitlines()
    assert after[2].split()[-2:] == ["yes", FIRST[:12]]
    assert after[-1].endswith("to fetch: 3, 1,790 MB")


def test_the_list_of_all_counts_a_shared_file_once(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + sum(len(files) for files in WEIGHTS.values()) + 1
    shared = {(weight.repo, weight.file) for files in WEIGHTS.values() for weight in files}
    assert lines[-1].startswith(f"files: {len(shared)}, ")


def test_notes_are_json_that_can_be_taken_to_another_machine(hub: Hub, tmp_path: Path) -> None:
    fetch("hpsv2")
    noted = json.loads((tmp_path / "home" / "weights.json").read_text())
    assert noted == notes() and not list((tmp_path / "home").glob("weights.json.[0-9]*"))
