"""`python -m bench.train row=NAME`: one row of a table, from prompts to scores; an interrupted one goes on.

Row and settings are found to be good before torch and diffusers are imported, which takes ten seconds of a core.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig, OmegaConf

from bench import config
from bench.config import Config, ConfigError
from bench.experiments import ROWS, RowError, find_row
from bench.refusals import REFUSED, explained, leave

if TYPE_CHECKING:
    from bench.preemption import Stop


def run(settings: Config, stop: Stop | None = None) -> Path:
    """`bench.running.run`: trains one row unless it is finished; returns its folder."""
    from bench import running

    return running.run(settings, stop)


def asked(composed: DictConfig) -> Config:
    """The settings of a row that there is and that can be planned.

    Raises:
        RowError, ConfigError: there is no such row or setting, or the settings do not fit together.
    """
    if OmegaConf.is_missing(composed, "row"):
        raise RowError(f"say which row: row=NAME with NAME one of {', '.join(ROWS)}")
    settings = config.plain(composed)
    config.planned_updates(settings, find_row(settings.row))
    return settings


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> None:
    """Command line, by Hydra; `bench.running.work` says which codes it ends with."""
    try:
        settings = asked(composed)
    except (RowError, ConfigError, *REFUSED) as error:  # Hydra would print its overrides above what is raised
        leave("bench.train", explained(error), 2)
    from bench import running

    running.work(settings)


def command() -> None:
    """`main`, where also what Hydra refuses ends in one line."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here, to be told apart from each other
    config.register()
    try:
        main()
    except REFUSED as error:
        leave("bench.train", explained(error), 2)


if __name__ == "__main__":
    command()
