"""An MLflow store. The only file that imports mlflow, and only when a store is opened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from bench import addresses
from bench.ledger import shown
from bench.ledger.runs import Run
from bench.record import LedgerError

EXPERIMENT = "grpo-guard-bench"
BATCH = 1000  # MLflow's limit of metrics in one log_batch call
TAGS = ("run_id", "row", "method", "backbone", "task", "seed", "scale", "suite", "protocol", "weights")
KEPT = (".csv", ".json", ".md", ".pdf", ".png", ".svg", ".tex")  # what the tables and figures are written as
SQLITE = "sqlite:///"
# A store that others write to answers busy after 20 s (mlflow/store/db/utils.py). Our choice: six such answers.
PATIENCE = 120.0  # seconds
BUSY = ("locked", "busy", "deadlock")  # as sqlite's and other databases' messages have it
LONGEST_PAUSE = 10.0  # seconds between two attempts; our choice: half of such an answer
CREATION = 600.0  # seconds to wait for who makes the store; our choice: it takes ten on a slow disk
# MLflow's own attempts at a server that is away; its 7 keep a run waiting for minutes. Our choice: 2 + 4 + 8 seconds.
HTTP_ATTEMPTS = "3"
# MLflow accepts these characters in a metric's name (mlflow/utils/validation.py).
_FORBIDDEN = re.compile(r"[^\w\-. :/]")


class StoreError(LedgerError):
    """An MLflow store cannot be used; the message names it."""


def default_uri(runs: Path) -> str:
    """The environment's store, else the one beside the runs, as conf/train.yaml has it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{runs}/mlflow.db"


class Store:
    """The experiment of this program in one store, made if need be. May be written by many processes at once."""

    def __init__(self, uri: str, runs: Path) -> None:
        """Opens the store, or makes it.

        Args:
            uri: sqlite:///FILE, or a server's http address.
            runs: folder beside whose runs a store in a file keeps its artifacts; a server keeps them itself.

        Raises:
            StoreError: it cannot be used.
            LedgerError: a password in the address.
        """
        addresses.check(uri)
        self.uri = _absolute(uri)
        _quiet()
        from mlflow.tracking import MlflowClient

        with self._named(), _alone(self.uri):
            self._client = MlflowClient(tracking_uri=self.uri)
            if self._client.get_experiment_by_name(EXPERIMENT) is None:
                self._create(None if self.uri.startswith("http") else (runs / "mlartifacts").resolve().as_uri())
            self._experiment = str(self._client.get_experiment_by_name(EXPERIMENT).experiment_id)

    @property
    def experiment(self) -> str:
        """MLflow's id of the experiment."""
        return self._experiment

    def replace(self, run: Run) -> str:
        """A new run with nothing but what was asked; earlier copies of the same folder go.

        Tags, a note, the recipe, the configuration, and as inputs the prompts and the base model.
        """
        from mlflow.entities import Param

        record = _record(run.path)
        with self._named():
            for old in self._call("search_runs", [self._experiment], f"tags.record = '{record}'"):
                self._call("delete_run", old.info.run_id)
            tags = {key: str(run.info[key]) for key in TAGS if key in run.info}
            tags |= {"folder": str(run.path), "record": record, "mlflow.note.content": shown.note(run)}
            name = f"{run.info.get('row', run.path.parent.name)} seed {run.info.get('seed', '?')}"
            began = _milliseconds(run.path / "run.json")
            made = self._call("create_run", self._experiment, start_time=began, tags=tags, run_name=name).info.run_id
            recipe = run.info.get("recipe") or {}
            self._call("log_batch", made, params=[Param(key, str(value)) for key, value in recipe.items()])
            self._call("log_dict", made, run.info, "run.json")
            self._call("log_dict", made, run.info.get("config", {}), "config.yaml")
            self._log_inputs(made, run)
        return str(made)

    def log(self, run_id: str, points: Sequence[tuple[str, float, int]]) -> None:
        """Adds points, (name, value, update) each, in batches; a point that is there already stays one."""
        from mlflow.entities import Metric

        # One time for all: equal points of two attempts are then the same to MLflow.
        metrics = [Metric(_FORBIDDEN.sub("_", name), value, 0, update) for name, value, update in points]
        with self._named():
            for start in range(0, len(metrics), BATCH):
                self._call("log_batch", run_id, metrics=metrics[start : start + BATCH])

    def attach(self, run_id: str, files: Mapping[str, Path]) -> None:
        """Copies files to the run's artifacts, each to its name there."""
        with self._named():
            for name, path in files.items():
                folder = str(Path(name).parent)
                self._call("log_artifact", run_id, str(path), None if folder == "." else folder)

    def keep(self, out: Path) -> None:
        """Has a folder's tables and figures as artifacts of a run of their own, which is made anew if they change."""
        files = {path.name: path for path in sorted(out.iterdir()) if path.suffix in KEPT}
        content = hashlib.sha256(
            b"".join(name.encode() + path.read_bytes() for name, path in files.items())
        ).hexdigest()
        tags = {"folder": str(out), "record": _record(out), "content": content}
        with self._named():
            there = self._call("search_runs", [self._experiment], f"tags.record = '{tags['record']}'")
            if not files or content in [run.data.tags.get("content") for run in there]:
                return
            for old in there:
                self._call("delete_run", old.info.run_id)
            made = self._call("create_run", self._experiment, tags=tags, run_name="tables and figures").info.run_id
        self.attach(made, files)
        with self._named():
            self._call("set_terminated", made, "FINISHED")

    def show(self, run: Run, run_id: str, status: str, tags: Mapping[str, str]) -> None:
        """Gives the run its tags and its status, RUNNING as well, which it has again when it goes on."""
        from mlflow.entities import RunTag

        with self._named():
            self._call("log_batch", run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            if status == "RUNNING":
                self._call("update_run", run_id, status=status)
            else:
                self._call("set_terminated", run_id, status, _milliseconds(run.path / "status.json"))

    def _log_inputs(self, run_id: str, run: Run) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        datasets = []
        for each in shown.inputs(run):
            name, source = Path(each.prompts).name, json.dumps({"uri": each.prompts})
            tags = [InputTag(key, value) for key, value in each.tags().items()]
            datasets.append(DatasetInput(Dataset(name, each.record, "local", source), tags))
        model = shown.base_model(run)
        models = [LoggedModelInput(self._model(model))] if model else []
        if datasets or models:
            self._call("log_inputs", run_id, datasets, models)

    def _model(self, base: Mapping[str, str]) -> str:
        """The logged model of these weights, which all their runs share; two first runs at once may make two."""
        name = f"{base['backbone']}-{base['hash']}"
        found = self._call("search_logged_models", [self._experiment], f"name = '{name}'", max_results=1)
        if found:
            return str(found[0].model_id)
        made = self._call("create_logged_model", self._experiment, name, tags=dict(base), model_type="base model")
        self._call("finalize_logged_model", made.model_id, "READY")
        return str(made.model_id)

    def _create(self, artifacts: str | None) -> None:
        from mlflow.exceptions import MlflowException

        kind = {"mlflow.experimentKind": "custom_model_development"}  # else its page opens in another mode
        try:
            self._client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=kind)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # a server was asked by two at once
                raise

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        pause = wait_random_exponential(max=LONGEST_PAUSE)
        patient = Retrying(retry=retry_if_exception(_busy), stop=stop_after_delay(PATIENCE), wait=pause, reraise=True)
        return patient(getattr(self._client, name), *arguments, **named)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the store in a line that names it."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StoreError(
                f"the MLflow store {self.uri} cannot be used ({' '.join(str(error).split())[:300]}); it is a copy: "
                "python -m bench.ledger import RUNS --uri URI makes it again, there or in another place"
            ) from error


def _record(folder: Path) -> str:
    """What tells the copies of one folder from those of another."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def _busy(error: BaseException) -> bool:
    passing = getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE"  # so is a full disk, to MLflow
    return passing and any(word in str(error).lower() for word in BUSY)


def _quiet() -> None:
    defaults = {"DISABLE_TELEMETRY": "true", "LOGGING_LEVEL": "WARNING", "HTTP_REQUEST_MAX_RETRIES": HTTP_ATTEMPTS}
    for key, value in defaults.items():
        os.environ.setdefault(f"MLFLOW_{key}", value)


def _absolute(uri: str) -> str:
    """The same for a database whatever the working folder."""
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}" if uri.startswith(SQLITE) else uri


def _alone(uri: str) -> contextlib.AbstractContextManager[Any]:
    """Two first calls at once would break a new database for good."""
    if not uri.startswith(SQLITE):
        return contextlib.nullcontext()
    database = Path(uri.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(database.with_name(f".{database.name}.lock"), timeout=CREATION)


def _milliseconds(path: Path) -> int | None:
    """When a file was last written; MLflow takes now for None."""
    return int(path.stat().st_mtime * 1000) if path.exists() else None
