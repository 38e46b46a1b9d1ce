"""A real chat server on this machine that answers with the brightness of what it sees, and fails as it is told."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODEL = "CodeGoat24/UnifiedReward-7b-v1.5"

Answer = Callable[[dict[str, Any]], str]


def picture_of(body: dict[str, Any]) -> Image.Image:
    address = body["messages"][0]["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


def question_of(body: dict[str, Any]) -> str:
    text: str = body["messages"][0]["content"][1]["text"]
    return text


def brightness(body: dict[str, Any]) -> str:
    """1 for black, 5 for white."""
    return f"Final Score: {1 + 4 * float(np.asarray(picture_of(body)).mean()) / 255:.4f}"


class ChatServer:
    """Use as a context manager.

    Attributes:
        faults: what befalls the next calls, one each: a status, or "hang", "cut", "nonsense", "empty".
        calls: bodies of the calls for a completion, in order of arrival.
        most_in_flight: of these, the most that were being answered at one time.
        before: called with the number of each call before it is answered.
    """

    def __init__(self, answer: Answer = brightness, token: str = "", delay: float = 0.0) -> None:
        self.answer, self.token, self.delay = answer, token, delay
        self.faults: deque[str | int] = deque()
        self.retry_after, self.finish_reason = "", "stop"
        self.calls: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.in_flight = self.most_in_flight = 0
        self.before: Callable[[int], object] = lambda number: None
        self.lock = threading.Lock()
        self.port = 0
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.house = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """As a process dies: no port and no connection is left."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> ChatServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    house: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.house._connections.add(self.connection)

    def finish(self) -> None:
        self.server.house._connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        if self._admitted():
            self._send(200, {"data": [{"id": MODEL}, {"id": "another"}]})

    def do_POST(self) -> None:
        house = self.server.house
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._admitted():
            return
        with house.lock:
            house.calls.append(body)
            number, fault = len(house.calls), house.faults.popleft() if house.faults else ""
            house.in_flight += 1
            house.most_in_flight = max(house.most_in_flight, house.in_flight)
        house.before(number)
        time.sleep(house.delay)
        if fault == "hang":
            self.connection.recv(1)  # until the client hangs up
        with house.lock:
            house.in_flight -= 1
        self._complete(body, fault)

    def _admitted(self) -> bool:
        token = self.headers.get("Authorization", "")
        self.server.house.tokens.add(token)
        if self.server.house.token and token != f"Bearer {self.server.house.token}":
            self._send(401, {"error": {"message": f"incorrect key {token}"}})
            return False
        return True

    def _complete(self, body: dict[str, Any], fault: str | int) -> None:
        house = self.server.house
        choice = {"message": {"content": house.answer(body)}, "finish_reason": house.finish_reason}
        if isinstance(fault, int):
            self._send(fault, {"error": {"message": f"failing for {self.headers.get('Authorization')}"}})
        elif fault == "cut":
            self._send(200, {"choices": [choice]}, missing=20)
        elif fault == "nonsense":
            self._send(200, b"<html>busy</html>")
        elif fault == "empty":
            self._send(200, {"choices": []})
        elif not fault:
            self._send(200, {"choices": [choice]})

    def _send(self, status: int, answer: Any, missing: int = 0) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if self.server.house.retry_after and status != 200:
            self.send_header("Retry-After", self.server.house.retry_after)
        self.end_headers()
        self.wfile.write(data[: len(data) - missing])
        self.close_connection = self.close_connection or bool(missing)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
