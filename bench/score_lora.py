"""`python -m bench.score_lora REPO_OR_FOLDER --backbone sd35_medium`: judges an adapter that was trained elsewhere.

The prompts, the noise, the sampler and the judges are those of the rows, and what it leaves is a run folder, so that
tables show it beside them as judged, not trained here. Its update 0 is the model without the adapter, 1 with it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bench import addresses, config, hub, ledger, loop, lora_files, provenance, seals, suite, train
from bench.checkpoint import State
from bench.config import Config, ConfigError
from bench.ema import Ema
from bench.experiments import JUDGED, PROXIES, ROWS, Row
from bench.ledger.runs import NAME
from bench.lock import RunLock
from bench.lora_files import Adapter
from bench.machine import check_memory, set_precision
from bench.ranks import Ranks
from bench.record import LedgerError, Record, clear, make_folder
from bench.session import Session, prepare

BACKBONES = {  # name: scale, backbone
    "sd35_medium": ("paper", "sd3"),
    "flux": ("paper", "flux"),
    "tiny_sd3": ("tiny", "sd3"),
    "tiny_flux": ("tiny", "flux"),
}
FAULTS = (*train.KNOWN_ERRORS, HydraException, OmegaConfBaseException)


def row_for(source: str, name: str, backbone: str, proxy: str) -> Row:
    """The row of an adapter; its name, unless one is given, is the last part of where it comes from.

    Raises:
        ConfigError: the name is a row's of the paper, or no name of a folder.
    """
    name = name or Path(source.replace(":", "/")).name
    if not re.fullmatch(NAME, name) or name in ROWS:
        raise ConfigError(f"a row of one's own cannot be called {name!r}; give it another --name")
    return Row(name, backbone, JUDGED, name, task=proxy)


def score(source: str, row: Row, settings: Config) -> Path:
    """Judges the pipeline without and with an adapter, unless that is done; returns the run's folder.

    Args:
        source: a folder, or REPOSITORY or REPOSITORY:SUBFOLDER of the Hugging Face hub.
        settings: of the backbone's base model, whose images it is compared with.

    Raises:
        PolicyError: there is no adapter, or it does not fit the backbone.
        LedgerError: the folder has another adapter's run, or one of other settings, or another process works on it.
        OSError, ConfigError and the others of `train.run`: as there.
    """
    addresses.check(settings.tracking, settings.judges)
    found = hub.fetch(source, lora_files.PATTERNS, "adapter")
    adapter = lora_files.read(found)
    asked = replace(settings, row=row.name)
    folder = make_folder(config.folder_of(asked, row))
    with RunLock(folder):
        if not train.forced(settings.force, folder) and _is_done(folder, asked, row, adapter):
            print(f"{row.name} seed {settings.seed} is judged: {folder} (FORCE=1 repeats it)")
            return folder
        session = _session(settings, asked, row, folder, adapter)
        clear(folder)
        origin = {"source": source, "commit": hub.commit(found), "sha256": adapter.sha256}
        info = provenance.describe(session) | {"adapter": origin}
        train.begin(session, info)
        with train.noted(folder, asked, writes=True):
            _evaluate_twice(session, adapter)
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


def _session(settings: Config, asked: Config, row: Row, folder: Path, adapter: Adapter) -> Session:
    """The base model's session under the adapter's name; the adapter is put in later, and only looked at here."""
    ranks = Ranks()
    set_precision(settings.tf32)
    check_memory(settings, ranks.device, ranks.count)
    session = prepare(settings, ranks)
    lora_files.check_fit(session.policy, adapter)
    return replace(session, config=asked, row=row, record=Record(folder), updates=1)


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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.score_lora", description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        metavar="REPO_OR_FOLDER",
        help="with one *.safetensors, of peft or of diffusers; REPO:SUBFOLDER for one of a repository's",
    )
    parser.add_argument("overrides", nargs="*", help="as for bench.train: seed=1 runs=FOLDER ...")
    parser.add_argument("--backbone", required=True, choices=BACKBONES)
    parser.add_argument("--name", default="", help="of the row (default: the last part of REPO_OR_FOLDER)")
    parser.add_argument("--proxy", default="", choices=PROXIES, help="what it was trained on, for the table's brackets")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 judged, else `train.code_of` the error, with one line."""
    args = parse(arguments)
    torch.set_num_threads(1)
    scale, backbone = BACKBONES[args.backbone]
    try:
        row = row_for(args.source, args.name, backbone, args.proxy)
        score(args.source, row, suite.configure(f"{backbone}_base", [f"scale={scale}", *args.overrides]))
    except FAULTS as error:
        print(f"bench.score_lora: {' '.join(str(error).split())}", file=sys.stderr)
        return train.code_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
