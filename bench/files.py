"""Uploads and downloads over HTTP, one at a time."""

import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing

from bench.contenders import HOST, Contender
from bench.figures import Figure
from bench.goals import ONE_FILE
from bench.scale import Scale

TIMEOUT_SECONDS = 60

_CHUNK_BYTES = 1024 * 1024


class WrongAnswer(Exception):
    """The server did not take or return the file."""


def transfer(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Best of several, because the disk of a shared machine is busy now and then; the first one warms up."""
    body = os.urandom(scale.file_bytes)
    with contender.running() as server:
        uploads, downloads = [], []
        for _ in range(scale.file_repeats + 1):
            started = time.perf_counter()
            url = upload(server.port, body)
            uploads.append(time.perf_counter() - started)
            started = time.perf_counter()
            download(server.port, url, len(body))
            downloads.append(time.perf_counter() - started)
    for measure, seconds in (("upload", uploads[1:]), ("download", downloads[1:])):
        details = {"slowest": len(body) / max(seconds) / 1e6}
        yield Figure(measure, ONE_FILE, contender.name, len(body) / min(seconds) / 1e6, details)


def upload(port: int, body: bytes) -> str:
    """Returns the path under which the file is served."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("POST", "/upload", body)
        response = connection.getresponse()
        answer = response.read()
    if response.status != 200:
        raise WrongAnswer(f"upload: {response.status} {answer[:200]!r}")
    url: str = json.loads(answer)["url"]
    return url


def download(port: int, url: str, size: int) -> None:
    """Reads the file and counts, without keeping it."""
    buffer = bytearray(_CHUNK_BYTES)
    received = 0
    with closing(http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("GET", url)
        response = connection.getresponse()
        while count := response.readinto(buffer):
            received += count
    if response.status != 200 or received != size:
        raise WrongAnswer(f"download: {response.status}, {received} bytes of {size}")
