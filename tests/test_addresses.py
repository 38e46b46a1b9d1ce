"""No password reaches what a run writes down: addresses that hold one are refused, tokens stay in the environment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench_runs import settings
from omegaconf import OmegaConf

from bench import addresses, ledger, train
from bench.record import LedgerError
from bench.suite import Job, configure

ROW = "sd3_flow_text"
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "UNIFIED_REWARD_API_KEY")


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("https://someone:hunter2@example.org:5000", True),
        ("https://hunter2@example.org", True),
        ("postgresql://someone:hunter2@db/mlflow", True),
        ("postgresql://db/mlflow?user=someone&password=hunter2", True),
        ("http://[hunter2@", True),
        ("postgresql://someone@db/mlflow", False),
        ("http://example.org:5000/path@2", False),
        ("sqlite:////data/me@here/mlflow.db", False),
    ],
)
def test_an_address_with_a_password_is_refused_before_anything_is_written(
    tmp_path: Path, address: str, refused: bool
) -> None:
    assert addresses.has_secret(address) is refused
    if not refused:
        return
    for asked in (f"tracking='{address}'", f"+judges.hpsv2.url='{address}'"):
        with pytest.raises(LedgerError, match=r"in(to)? the environment") as refusal:
            train.run(settings(ROW, tmp_path, asked))
        assert "hunter2" not in str(refusal.value)
    with pytest.raises(LedgerError, match="MLFLOW_TRACKING_TOKEN"):
        Job(configure(ROW, [f"tracking='{address}'", f"runs={tmp_path}/runs"]))
    assert not (tmp_path / "runs").exists()


def test_the_store_is_the_environments_or_the_one_beside_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configure(ROW, ["runs=here"]).tracking == "sqlite:///here/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert configure(ROW, ["runs=here"]).tracking == "http://example.org:5000"
    assert configure(ROW, ["runs=here", "tracking=null"]).tracking is None


def test_no_token_reaches_the_run_folder_the_store_or_the_screen(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"hunter2-{name.lower()}")
    shutil.copy(empty_store, tmp_path)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    folder = train.run(settings(ROW, tmp_path, "updates=2", f"tracking={store}"))
    ledger.mirror(ledger.read(folder), store)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "metrics.jsonl", "mlflow.db"} <= {path.name for path in files}
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert b"sd3_flow_text" in (tmp_path / "mlflow.db").read_bytes()
    shown = capfd.readouterr()
    assert "hunter2" not in shown.out + shown.err


def test_a_configuration_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hunter2")
    for scale in ("tiny", "paper"):
        assert "hunter2" not in OmegaConf.to_yaml(OmegaConf.structured(configure(ROW, [f"scale={scale}"])))
