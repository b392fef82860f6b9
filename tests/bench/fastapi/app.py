"""A FastAPI application whose limiter is a dependency: INCR and EXPIRE, 503 when it is too much."""

import os
import socket
import sys
from contextlib import asynccontextmanager

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from redis.asyncio import Redis

WINDOW_SECONDS = 60

client = Redis.from_url(os.environ["REDIS_URL"])


class RateLimiter:
    """So many requests a minute, for each client."""

    def __init__(self, name: str, limit_per_minutes: int, by_resource: bool) -> None:
        self.name = name
        self.limit_per_minutes = limit_per_minutes
        self.by_resource = by_resource

    async def __call__(self, request: Request) -> None:
        key = f"{self.name}::{request.client.host}"
        if self.by_resource:
            key += f"::{request.method}:{request.url.path}"
        count = await client.incr(key)
        if count == 1:
            await client.expire(key, WINDOW_SECONDS)
        if count > self.limit_per_minutes:
            raise HTTPException(status_code=503, detail="Rate limit exceeded.")


@asynccontextmanager
async def lifespan(_: FastAPI):
    await client.ping()
    yield
    await client.aclose()


app = FastAPI(lifespan=lifespan)
limiter = RateLimiter("hardwork", limit_per_minutes=int(sys.argv[1]), by_resource=True)


@app.get("/", dependencies=[Depends(limiter)], response_class=PlainTextResponse)
async def ok() -> str:
    return "ok"


def main() -> None:
    # A free port, which whoever started this reads from the standard output.
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listener])


main()
