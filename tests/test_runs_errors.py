"""Bad input ends with one clear line and exit code 2, and loses nothing that was finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bench_runs import settings
from forked_ranks import command, fork

from bench import epoch, ledger, loop, provenance, running, train, update
from bench.config import ConfigError
from bench.experiments import RowError
from bench.lock import RunLock
from bench.policy import PolicyError
from bench.prompts import PromptError
from bench.ranks import Ranks
from bench.record import BusyError, LedgerError, Record
from bench.rewarding import RewardError
from bench.session import prepare
from bench.space import SpaceError
from bench.update import GateError
from gold_metrics.judge_server import JudgeServerError

ROW = "sd3_flow_text"


def test_the_command_line_answers_a_wrong_row_in_one_line(tmp_path: Path) -> None:
    assert fork(1, command, tmp_path, "row=sd3_flow_txt") == [2]
    errors = (tmp_path / "errors-0.txt").read_text()
    assert errors.startswith("bench.train: no row is called 'sd3_flow_txt'; did you mean one of: sd3_flow_text")
    assert len(errors.splitlines()) == 1


def test_a_row_like_no_other_is_answered_with_the_command_that_lists_them(tmp_path: Path) -> None:
    with pytest.raises(RowError, match=r"no row is called 'nonsense'; `python -m bench\.suite table1 --list`"):
        train.run(settings("nonsense", tmp_path))


def test_a_command_without_a_row_names_the_rows(tmp_path: Path) -> None:
    assert fork(1, command, tmp_path) == [2]
    errors = (tmp_path / "errors-0.txt").read_text()
    assert errors.startswith("bench.train: say which row: row=NAME with NAME one of sd3_base, ")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("optim.rat=1", "there is no setting optim.rat; did you mean optim.rate"),
        ("optim.rate=fast", "'fast' of type 'str' could not be converted to Float"),
        ("row=x; touch pwned", "row=x; touch pwned"),
    ],
)
def test_what_hydra_refuses_is_answered_in_one_line(argument: str, words: str, tmp_path: Path) -> None:
    assert fork(1, command, tmp_path, f"row={ROW}", argument, f"runs={tmp_path}") == [2]
    errors = (tmp_path / "errors-0.txt").read_text()
    assert errors.startswith("bench.train: ") and words in errors
    assert len(errors.splitlines()) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"file/runs.*cannot be written.*choose another runs="):
        train.run(settings(ROW, tmp_path, f"runs={tmp_path}/file/runs"))


def test_a_missing_prompt_file_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"nowhere\.jsonl cannot be read"):
        train.run(settings(ROW, tmp_path, "tasks.text.prompts=nowhere.jsonl"))


def test_missing_weights_are_named_also_in_the_status_of_a_run_that_has_not_begun(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no pipeline could be loaded from folder '/nowhere/sd3'"):
        train.run(settings(ROW, tmp_path, "backbones.sd3.weights=/nowhere/sd3"))
    status = json.loads((tmp_path / "runs" / ROW / "seed0/status.json").read_text())
    assert (status["state"], status["update"], status["of"]) == ("failed", 0, 4)
    assert status["error"].startswith("PolicyError: no pipeline could be loaded")


@pytest.mark.parametrize("setting", ["updats", "optim.rat", "evaluation.latr", "backbones.sd3.lora.rnk"])
def test_a_setting_that_no_code_reads_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no setting {setting}"):
        settings(ROW, tmp_path, f"+{setting}=1")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("updates=3", "updates=3 is not a positive multiple of optim.updates_per_rollout=2"),
        ("updates=-2", "updates=-2 is not a positive multiple"),
        ("evaluation.every=3", "evaluation.every=3 is not a positive multiple"),
        ("sampling.group_size=8", "group_size=8 must be a multiple of temp_flow_grpo's 6 branches"),
    ],
)
def test_settings_that_do_not_fit_are_explained(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train.run(settings("sd3_temp_text", tmp_path, override))


def test_a_resolution_that_the_autoencoder_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="resolution must be a multiple of 8"):
        train.run(settings(ROW, tmp_path, "backbones.sd3.resolution=30"))


def test_a_second_process_on_a_run_is_turned_away(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / ROW / "seed0"
    folder.mkdir(parents=True)
    with RunLock(folder), pytest.raises(LedgerError, match="another process works on"):
        train.run(settings(ROW, tmp_path))


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after its first epoch: two updates, one checkpoint, no end."""
    folder = tmp_path_factory.mktemp("half")
    session = prepare(settings(ROW, folder), Ranks())
    session.record.begin(provenance.describe(session))
    session.updates = 2
    loop.train(session)
    session.record.status("running", 2, 4)
    return folder


def test_a_run_with_other_settings_is_neither_continued_nor_shown(half_done: Path) -> None:
    with pytest.raises(LedgerError, match=r"other settings \(optim\.rate was .*, now 0\.5\); FORCE=1 repeats it"):
        train.run(settings(ROW, half_done, "optim.rate=0.5"))


def test_a_policy_whose_means_do_not_repeat_is_stopped_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = prepare(settings("sd3_guard_text", tmp_path), Ranks())
    assert session.recipe and session.proxy
    samples = epoch.sample_epoch(session, session.recipe, session.proxy)
    rows, times = torch.arange(12), session.policy.times(4)
    exact = update.gradients(session.policy, session.recipe, samples, rows, times, 6, session.ranks)
    update.check_on_policy(exact, session.recipe)
    samples.rollout.mean.copy_(samples.rollout.mean.bfloat16())
    rounded = update.gradients(session.policy, session.recipe, samples, rows, times, 6, session.ranks)
    with pytest.raises(GateError, match="keep latents and means in float32"):
        update.check_on_policy(rounded, session.recipe)


def test_neither_a_finished_nor_a_preempted_run_is_taken_for_one_on_prompts_that_changed(tmp_path: Path) -> None:
    asked = settings(ROW, tmp_path, "updates=2")
    folder = train.run(asked)
    path = Path(asked.evaluation.prompts)
    path.write_text(path.read_text(encoding="utf-8").replace('"color": "', '"color": "dark '), encoding="utf-8")
    for state in ("finished", "preempted"):
        Record(folder).status(state, 2, 2)
        with pytest.raises(LedgerError, match="made with other evaluation; FORCE=1 repeats it"):
            train.run(asked)
        assert ledger.read(folder).status["state"] == state  # a refusal leaves the record as it was


def test_what_may_pass_is_told_from_what_will_not_by_its_code() -> None:
    codes = {BusyError: 75, JudgeServerError: 1, RewardError: 1, ConnectionResetError: 1}
    codes |= {SpaceError: 2, ConfigError: 2, LedgerError: 2}
    assert {kind: running.code_of(kind("why")) for kind in codes} == codes
