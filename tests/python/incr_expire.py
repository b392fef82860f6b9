"""A limiter as FastAPI services commonly have it, in Python, behind a small HTTP server.

It counts with two commands: INCR a key `name::client[::METHOD:path]`, and EXPIRE it after 60 seconds when it is
new. It answers 503 when the count is over the limit. FastAPI's part, to route a request and to ask what its route
depends on, is played by the standard library.

    python incr_expire.py REDIS_PORT      prints the port that it listens on, and serves until it is stopped
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import redis


class RateLimiter:
    """A dependency of routes."""

    def __init__(self, name, limit_per_minutes, by_resource=False):
        self.name = name
        self.limit_per_minutes = limit_per_minutes
        self.by_resource = by_resource

    def allows(self, connection, client_ip, method, path):
        key = f"{self.name}::{client_ip}"
        if self.by_resource:
            key = f"{key}::{method}:{path}"
        count = connection.incr(key)
        if count == 1:
            connection.expire(key, 60)
        return count <= self.limit_per_minutes


HARD = RateLimiter("hardwork", 5, by_resource=True)
PLAIN = RateLimiter("plain", 4)
RESOURCES = RateLimiter("resources", 3, by_resource=True)

ROUTES = [
    (re.compile(r"/hardwork/"), ("GET", "POST"), HARD),
    (re.compile(r"/plain/(\w+)?"), ("GET", "POST"), PLAIN),
    (re.compile(r"/resources/"), ("GET", "POST"), RESOURCES),
    (re.compile(r"/resources/\w+"), ("GET", "PUT", "DELETE"), RESOURCES),
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers on a connection that is kept: none of them may wait for more.
    disable_nagle_algorithm = True

    def handle_any(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        path = unquote(urlsplit(self.path).path)  # as Starlette has it
        for pattern, methods, limiter in ROUTES:
            if pattern.fullmatch(path) and self.command in methods:
                break
        else:
            return self.answer(404, {"detail": "Not Found"})
        # Uvicorn's --proxy-headers: the address that the trusted proxy has written.
        client_ip = self.headers.get("x-forwarded-for", self.client_address[0])
        if not limiter.allows(self.server.connection, client_ip, self.command, path):
            return self.answer(503, {"detail": "Rate limit exceeded."})
        return self.answer(200, {"answer": 42})

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def answer(self, status, body):
        body = json.dumps(body, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    server = Server(("127.0.0.1", 0), Handler)
    server.connection = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]))
    server.connection.ping()
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
