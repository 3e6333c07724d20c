"""The store of a device with a long history, encrypted as it is, and not encrypted: no server, no network, one disk.

Both are the SQLite of SQLCipher, so the encryption alone is the difference.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlcipher3 import dbapi2

from bench.contenders import Contender
from bench.figures import Figure
from bench.scale import Scale
from ironwire.client import Owner, StoreKey
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import MarkRead, Queue, Settle
from ironwire.client.store.sealed import open_sealed
from ironwire.ids import ClientId, DeviceId, MessageId, Origin
from ironwire.wire.messages import Text

PEERS = [ClientId(sha256(str(number).encode()).hexdigest()) for number in range(100)]
OWNER = Owner(ClientId("a1" * 32), DeviceId("bench"), Origin("http://localhost:8080"))
BATCH = 1_000
PAGE = 50
REPEATS = 200

_WORDS = [sha256(str(number).encode()).hexdigest()[:6] for number in range(1_000)]


def stores(_: Contender, scale: Scale) -> Iterator[Figure]:
    """Time of what a person waits for, in both kinds of file."""
    for subject, opener in (("encrypted", open_sealed), ("not encrypted", _open_plain)):
        with (
            tempfile.TemporaryDirectory(prefix="ironwire-bench-") as folder,
            patch("ironwire.client.store.file.open_sealed", opener),
        ):
            yield from _store(Path(folder, "bench.db"), subject, scale.device_messages)


def _open_plain(path: Path, _: StoreKey) -> Any:
    return dbapi2.connect(str(path), isolation_level=None, check_same_thread=False)


def _store(path: Path, subject: str, messages: int) -> Iterator[Figure]:
    def figure(case: str, ms: float) -> Figure:
        return Figure("device", case, subject, ms, {})

    def opened() -> LocalFile:
        return LocalFile.open(path, OWNER, StoreKey(b"k" * 32))

    def send(number: int) -> None:
        file.apply([_queue(number)])
        file.apply([Settle(MessageId(str(number)), number)])

    def search(text: str) -> int:
        return sum(text in getattr(said.message, "text", "") for peer in PEERS for said in file.history(peer, messages))

    with closing(opened()) as file:
        for start in range(0, messages, BATCH):
            file.apply([_queue(number) for number in range(start, start + BATCH)])
            file.apply([Settle(MessageId(str(number)), number) for number in range(start, start + BATCH)])
        file.apply([MarkRead(peer, file.last_number) for peer in PEERS])
    with closing(opened()) as file:
        yield figure(f"the first {PAGE} messages that are shown", _ms(lambda: file.history(PEERS[0], PAGE)))
        yield figure("the list of all conversations", _ms(file.conversations))
        yield figure(f"a page of {PAGE} more", _ms(lambda: file.history(PEERS[1], PAGE), REPEATS))
        yield figure(f"a search through {messages:,} messages", _ms(lambda: search("nowhere")))
        numbers = iter(range(messages, messages + REPEATS))
        yield figure("a text is kept, then its answer", _ms(lambda: send(next(numbers)), REPEATS))


def _queue(number: int) -> Queue:
    words = " ".join(_WORDS[(number * 7 + place) % len(_WORDS)] for place in range(2 + number % 23))
    return Queue(MessageId(str(number)), Text(PEERS[number % len(PEERS)], words), number)


def _ms(work: Callable[[], object], repeats: int = 1) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) * 1_000 / repeats
