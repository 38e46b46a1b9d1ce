"""Eight processes write one MLflow store at once and lose nothing; `measure_ledger.py` does it for a minute."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from measure_ledger import LIMIT, Writer, counted, report, server, together

WRITERS, KEYS, UPDATES = 8, 20, 3
NOTHING = Writer(0, 0, 0, 0, 0)


def check(did: list[Writer], uri: str) -> None:
    assert [(each.updates, each.error) for each in did] == [(UPDATES, "")] * WRITERS
    assert counted(uri) == (WRITERS * KEYS * UPDATES, 0)


def test_eight_processes_write_one_sqlite_store(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    check(together(uri, tmp_path, WRITERS, KEYS, updates=UPDATES), uri)


@pytest.mark.skipif("CI" not in os.environ, reason="starts an MLflow server, 10 to 20 s: set CI=1")
def test_eight_processes_write_one_server(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    with server(tmp_path) as uri:
        check(together(uri, tmp_path, WRITERS, KEYS, updates=UPDATES), uri)


def test_a_point_that_is_lost_wrong_or_there_twice_is_told(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (did,) = together(uri, tmp_path, 1, 4, updates=3)
    assert counted(uri) == (12, 0) and report([NOTHING], did, 12, 0, 1e9)[1]
    for change, expected in {
        "update metrics set value = 7 where step = 1 and key = 'ratio/001'": (12, 1),
        "delete from metrics where step = 2 and key = 'ratio/002'": (11, 1),
        "insert into metrics select key, 9.5, timestamp, run_uuid, step, is_nan from metrics where key = 'ratio/003'"
        " and step = 0": (12, 2),
    }.items():
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            database.execute(change)
        assert counted(uri) == expected
        assert not report([NOTHING], did, *expected, 1e9)[1]


def test_a_cost_above_the_limit_or_an_error_is_told() -> None:
    for cost, good in ((0.9, True), (1.1, False)):
        assert report([NOTHING], Writer(10, 40, 0, cost * 10 * LIMIT * 70, 0), 40, 0, 70)[1] is good
    text, good = report([Writer(0, 0, 0, 0, 0, "locked")], Writer(10, 40, 0, 0, 0), 40, 0, 70)
    assert not good and text.endswith("locked")
