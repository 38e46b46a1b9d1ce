"""Addresses among the settings: they are written down with a run, so none may hold a password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bench.record import LedgerError

SECRET = ("password", "passwd", "pwd", "token", "secret")  # our choice: what queries of addresses call theirs


def check(tracking: str | None, judges: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Whether a run with these addresses may be written down.

    Args:
        tracking: of the MLflow store.
        judges: options of scorers by name; an option `url` is an address.

    Raises:
        LedgerError: one holds a password; the message does not.
    """
    if has_secret(tracking or ""):
        raise LedgerError(
            "the tracking address holds a password, which would be written down with every run: take it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"
        )
    for name, options in (judges or {}).items():
        if has_secret(str(options.get("url") or "")):
            raise LedgerError(
                f"judges.{name}.url holds a user name or a password, which would be written down with every run: take "
                "it out and put the server's token into the environment"
            )


def has_secret(address: str) -> bool:
    """Whether an address holds a password, or for a web server a user name, which may be a token."""
    try:
        parts = urlsplit(address)
    except ValueError:  # not an address; whoever opens it will say so
        return "@" in address
    user = parts.password is not None or (parts.scheme.startswith("http") and "@" in parts.netloc)
    return user or any(key.lower() in SECRET for key, _ in parse_qsl(parts.query))
