"""A small server that judges images for other machines: `python -m gold_metrics serve --scorers geneval`.

The protocol is that of `gold_metrics.wire`; `gold_metrics.remote` is the client.
"""

from __future__ import annotations

import argparse
import hmac
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, cast

from gold_metrics import ORACLES, SCORERS, load, options
from gold_metrics.scorer import Scorer
from gold_metrics.wire import (
    HOST,
    PORT,
    TOKEN,
    Limits,
    Refused,
    describe,
    listed,
    read_entries,
    read_picture,
    write_score,
)

# Our choice: requests that are read or wait for the scorer; a further one is told to come again.
AT_A_TIME = 8
COME_AGAIN = 1  # second
SILENCE = 60  # seconds without a byte until a connection is closed
UNKNOWN = -1  # bytes of a body that does not say how long it is

LOG = logging.getLogger(__name__)


class RewardServer(ThreadingHTTPServer):
    """Serves scorers by name; one of them scores at a time."""

    daemon_threads = True

    def __init__(
        self,
        scorers: Sequence[Scorer],
        host: str = HOST,
        port: int = PORT,
        limits: Limits | None = None,
        token: str = "",
    ) -> None:
        """Binds the address; `serve_forever` serves.

        Args:
            port: 0 takes a free one; see `url`.
            token: what clients must bear; only a server that this machine alone can reach does without.

        Raises:
            ValueError: no token, and the address can be reached from elsewhere.
            OSError: the address cannot be had.
        """
        if not token and not _only_from_here(host):
            raise ValueError(f"{host} can be reached from elsewhere: put a token into the environment as {TOKEN}")
        self.scorers = {scorer.name: scorer for scorer in scorers}
        self.limits = limits or Limits()
        self.token = token.encode()
        self.slots = threading.BoundedSemaphore(AT_A_TIME)
        self._one_scores = threading.Lock()
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def describe(self) -> dict[str, Any]:
        """The scorers with their definitions, and the limits."""
        return {"scorers": [describe(each) for each in self.scorers.values()], "limits": asdict(self.limits)}

    def fits(self, request: dict[str, Any]) -> dict[str, Any]:
        """Which entries the scorer is for."""
        scorer = self._scorer(request)
        return {"fits": [scorer.fits(entry) for entry in read_entries(request)]}

    def score(self, request: dict[str, Any]) -> dict[str, Any]:
        """The scores of the images, in their order; of the prompts for a scorer of sets."""
        scorer, entries, encoded = self._scorer(request), read_entries(request), listed(request, "images")
        if len(encoded) != len(entries):
            raise Refused(422, f"each image needs an entry, found {len(encoded)} images and {len(entries)} entries")
        if len(encoded) > self.limits.images:
            raise Refused(413, f"{len(encoded)} images are more than the {self.limits.images} that a request may hold")
        with self._one_scores:
            if not all(scorer.fits(entry) for entry in entries):
                raise Refused(422, f"{scorer.name} is not for entries of this kind: ask /v1/fits first")
            images = [read_picture(text, number, self.limits) for number, text in enumerate(encoded)]
            scores = scorer.score(images, entries)
        written = [write_score(each) for each in scores]
        return {"scorer": scorer.name, "definition": scorer.definition, "scores": written}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault of the server's."""
        LOG.info("connection lost", exc_info=True)

    def _scorer(self, request: dict[str, Any]) -> Scorer:
        name = request.get("scorer")
        if not isinstance(name, str) or name not in self.scorers:
            raise Refused(404, f"no scorer {name!r} here; served: {', '.join(self.scorers)}")
        return self.scorers[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    unread = 0

    def do_GET(self) -> None:
        self._answer({"/v1/scorers": lambda house, _: house.describe()}, bodied=False)

    def do_POST(self) -> None:
        self._answer({"/v1/score": RewardServer.score, "/v1/fits": RewardServer.fits}, bodied=True)

    def _answer(self, paths: dict[str, Callable[[RewardServer, dict[str, Any]], Any]], bodied: bool) -> None:
        house = cast(RewardServer, self.server)
        try:
            # A body that is not read must not be taken for the next request.
            self.unread = UNKNOWN
            self.unread = _length(self.headers.get("Content-Length", "0"))
            self._admit(house.token)
            if self.path not in paths:
                raise Refused(404, f"no {self.command} {self.path} here; there is {', '.join(paths)}")
            status, answer = 200, self._work(house, paths[self.path], bodied)
        except Refused as refused:
            status, answer = refused.status, {"error": str(refused)}
        except TimeoutError:
            raise  # the client fell silent: the base class closes the connection
        except Exception as error:
            LOG.exception("%s failed", self.path)
            status, answer = 500, {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        self._send(status, answer)

    def _work(self, house: RewardServer, work: Callable[..., Any], bodied: bool) -> Any:
        if not house.slots.acquire(blocking=False):
            raise Refused(503, f"{AT_A_TIME} requests are being served: come again")
        try:
            return work(house, self._request(house.limits.bytes) if bodied else {})
        finally:
            house.slots.release()

    def _admit(self, token: bytes) -> None:
        given = self.headers.get("Authorization", "").encode()
        if token and not hmac.compare_digest(given, b"Bearer " + token):
            raise Refused(401, "this server wants its token as `Authorization: Bearer ...`")

    def _request(self, limit: int) -> dict[str, Any]:
        # A page in a browser cannot send this type to another origin without asking first.
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "the body should be application/json")
        if "Transfer-Encoding" in self.headers or "Content-Length" not in self.headers:
            raise Refused(411, "the body should come whole, with its Content-Length")
        if self.unread > limit:
            raise Refused(413, f"a body of {self.unread} bytes is more than the {limit} that a request may hold")
        data, self.unread = self.rfile.read(self.unread), 0
        try:
            request = json.loads(data)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            raise Refused(400, "the body should be a JSON object")
        return request

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", str(COME_AGAIN))
        if self.unread or "Transfer-Encoding" in self.headers:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        LOG.info(format, *arguments)


def _length(header: str) -> int:
    if not (header.isascii() and header.isdigit()):
        raise Refused(400, f"Content-Length should be a number of bytes, found {header!r}")
    return int(header)


def _only_from_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gold_metrics serve", description=f"Judge images over HTTP. Clients bear the token of {TOKEN}."
    )
    listed = ",".join(ORACLES)
    scorers = f"names, separated by commas, of: {', '.join(SCORERS)} (default: {listed})"
    parser.add_argument("--scorers", default=listed, help=scorers)
    setting = "an option of a scorer, as geneval.rule=partial; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="SCORER.OPTION=VALUE", help=setting)
    parser.add_argument(
        "--host", default=HOST, help="address to bind; a token is needed for all but this machine's own"
    )
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one")
    for name, value in asdict(Limits()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"limit of a request (default: {value})")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is interrupted; 2 if it cannot."""
    args = parse(arguments)
    try:
        names = [name.strip() for name in args.scorers.split(",")]
        given = options.parse(args.set, names)
        scorers = [load(name, **given[name]) for name in dict.fromkeys(names)]
        limits = Limits(args.images, args.bytes, args.pixels)
        server = RewardServer(scorers, args.host, args.port, limits, os.environ.get(TOKEN, "").strip())
    except (KeyError, ValueError, OSError, RuntimeError, OverflowError) as error:
        print(f"gold_metrics serve: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    print(f"serving {', '.join(server.scorers)} at {server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0
