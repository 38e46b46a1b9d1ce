"""A run of an adapter that was trained elsewhere: the rows' prompts, noise, sampler and judges, and no training.

What it leaves is a run folder as a row's. Its update 0 is the model without the adapter, 1 with it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from baselines.recipe import Recipe
from bench import addresses, config, hub, ledger, loop, lora_files, provenance, running, seals
from bench.checkpoint import State
from bench.config import Config
from bench.ema import Ema
from bench.experiments import TABLE1, Row
from bench.lock import RunLock
from bench.lora_files import Adapter
from bench.machine import check_memory, set_precision
from bench.ranks import Ranks
from bench.record import LedgerError, Record, clear, forced, make_folder
from bench.session import Session, prepare, recipe_of

# Along whose SDE the KL to the base model is summed. Our choice: that of the backbone's rows in Table 1, so that it
# can be read beside theirs; what the adapter was trained with is not known.
SAMPLED_AS = {"sd3": "sd3_flow_text", "flux": "flux_dance_text"}


def score(source: str, row: Row, settings: Config) -> Path:
    """Judges the pipeline without and with an adapter, unless that is done; returns the run's folder.

    What is refused leaves no folder.

    Args:
        source: a folder, or REPOSITORY or REPOSITORY:SUBFOLDER of the Hugging Face hub.
        settings: of the backbone's base model, whose images it is compared with.

    Raises:
        PolicyError: there is no adapter, or it does not fit the backbone.
        LedgerError: the folder has another adapter's run, or one of other settings, or another process works on it.
        OSError, ConfigError and the others of `running.run`: as there.
    """
    addresses.check(settings.tracking, settings.judges)
    found = hub.fetch(source, lora_files.PATTERNS, "adapter")
    adapter, asked = lora_files.read(found), replace(settings, row=row.name)
    folder = config.folder_of(asked, row)
    if not forced(settings.force, folder) and _is_done(folder, asked, row, adapter):
        print(f"{row.name} seed {settings.seed} is judged: {folder} (FORCE=1 repeats it)")
        return folder
    session, process = _session(settings, adapter), _process(settings, row)
    with RunLock(make_folder(folder)):
        if not forced(settings.force, folder) and _is_done(folder, asked, row, adapter):
            return folder  # another process did it while the model was loaded
        clear(folder)
        session = replace(session, config=asked, row=row, record=Record(folder), updates=1)
        origin = {"source": source, "commit": hub.commit(found), "sha256": adapter.sha256, "sampled_as": process.name}
        running.begin(session, provenance.describe(session) | {"adapter": origin})
        with running.noted(folder, 1, writes=True):
            _evaluate_twice(replace(session, recipe=process), adapter)
    print(f"{row.name} seed {settings.seed} is judged without and with its adapter: {folder}")
    return folder


def _is_done(folder: Path, asked: Config, row: Row, adapter: Adapter) -> bool:
    """Whether this adapter was judged with these settings; what was cut short is judged anew.

    Raises:
        LedgerError: a finished run is in the way, of another adapter or of other settings.
    """
    if not (folder / "run.json").exists() or not (run := ledger.read(folder)).finished:
        return False
    if run.info.get("adapter", {}).get("sha256") != adapter.sha256:
        raise LedgerError(f"the run in {folder} is of another adapter; FORCE=1 repeats it, --name puts it elsewhere")
    provenance.check_same(run.info, asked, folder)
    provenance.check_same_inputs(run.info, provenance.inputs(asked, row), folder)
    return True


def _session(settings: Config, adapter: Adapter) -> Session:
    """The base model's session; the adapter is put in later, and only looked at here."""
    ranks = Ranks()
    set_precision(settings.tf32)
    check_memory(settings, ranks.device, ranks.count)
    with TemporaryDirectory() as beside:  # the base model has no run here
        session = prepare(replace(settings, runs=beside), ranks)
    lora_files.check_fit(session.policy, adapter)
    return session


def _process(settings: Config, row: Row) -> Recipe:
    recipe = recipe_of(settings, TABLE1[SAMPLED_AS[row.backbone]])
    assert recipe
    return recipe


def _evaluate_twice(session: Session, adapter: Adapter) -> None:
    loop.evaluate(session)
    names, parameters = lora_files.put(session.policy, adapter)
    optim = session.config.optim
    average = Ema(parameters, optim.ema_decay, optim.ema_interval)
    session.state = State(names, parameters, average, torch.optim.AdamW(parameters), update=1)
    loop.evaluate(session)
    record = session.record
    seals.seal(record.folder, record.folder / "metrics.jsonl")
    record.status("finished", 1, 1)
    loop.mirror(session)
