"""Giving a machine back: a signal is noted, and all ranks of a run stop together where nothing finished is lost."""

from __future__ import annotations

import signal
from types import FrameType

from bench.ranks import Ranks

RETRY = 75  # exit code: try again (EX_TEMPFAIL of sysexits.h)


class Preempted(Exception):
    """The run was asked to stop; what it had finished is saved."""


class Stop:
    """Whether this process was asked to stop, by SIGUSR1 (a scheduler's warning) or SIGTERM."""

    def __init__(self) -> None:
        self.by = ""

    def listen(self) -> None:
        """Takes the two signals from now on; a second SIGTERM interrupts at once."""
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._note)

    def check(self, ranks: Ranks) -> None:
        """To be called by all ranks at the same point.

        Raises:
            Preempted: one of them was asked to stop.
        """
        asked = next((name for name in ranks.gather([self.by]) if name), "")
        if asked:
            raise Preempted(asked)

    def _note(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.by == name == "SIGTERM":
            raise KeyboardInterrupt
        self.by = name
