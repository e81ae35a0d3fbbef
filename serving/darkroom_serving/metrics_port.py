"""Ray's metrics on the address and port that the user asked for: Ray itself serves them on loopback."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

TIMEOUT_SECONDS: Final = 10.0
"""Longest wait for Ray's answer."""


@contextmanager
def metrics_port(host: str, port: int, source: str) -> Iterator[None]:
    """Serves `/metrics` as long as the context lasts; `source` is the URL where Ray has them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_type, body = _fetch(source) if self.path == "/metrics" else NOT_FOUND
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            """Nothing: a scrape is not news."""

    class Server(ThreadingHTTPServer):
        address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        daemon_threads = True

    with Server((host, port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
        try:
            yield
        finally:
            server.shutdown()


NOT_FOUND: Final = (404, "text/plain", b"see /metrics\n")


def _fetch(source: str) -> tuple[int, str, bytes]:
    """Ray's answer; 503 while it has none."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(source, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except (urllib.error.URLError, OSError):
        return 503, "text/plain", b"Ray's metrics are not there yet\n"
