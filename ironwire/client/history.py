"""History between the devices of one client: given after a yes, and fetched (docs/between-devices.md, section 12.3).

    give    the other device comes into the conversations ──> a part is written, encrypted, uploaded, and kept as given
            ──> the manifest is sent ──> the next part, of older messages; until none are left
    take    a manifest came ──> a part is fetched, and read to its end ──> its messages are kept, a few at a time
            ──> the next part

Both are in the device's file, so a cut or the end of the program costs at most one part. What goes wrong with the
network is tried again; a part that is gone, or is another than was sent, is given up, and that is said.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio
from attrs import define, evolve, field

from ironwire.client.connection.exchange import PIECE_BYTES
from ironwire.client.connection.link import Link
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.encryption import Encryption
from ironwire.client.errors import LocalStoreError, Refused, TransferFailed
from ironwire.client.events import HistoryProgress
from ironwire.client.store import history_parts
from ironwire.client.store.records import DropGift, FinishPart, Gift, KeepGift, OfferedPart, TellHistory
from ironwire.client.store.write_queue import WriteQueue
from ironwire.client.transfer import download_checked, upload
from ironwire.e2e.archive import ArchivedMessage, ArchiveReader, ArchiveWriter
from ironwire.e2e.bodies import HISTORY_PARTS, SyncBody
from ironwire.e2e.conversations.effects import Sent
from ironwire.errors import ClientError, InvalidArchive, InvalidFile
from ironwire.wire import messages as msg

PART_BYTES = 8 * 1024 * 1024
"""A cut costs no more than this."""
PAGE_MESSAGES = 500
RETRY_SECONDS = 5.0
MOST_RETRY_SECONDS = 600.0
EVERYWHERE_SECONDS = 60.0
"""A new device comes into the conversations within moments; into some of them nobody may let it now."""
ATTEMPTS = 3
"""To fetch a part that the server has, and does not give."""
_TICK_SECONDS = 0.5
_GONE = (404, 410)


@define(eq=False)
class HistoryTransfer:
    """Of the device of `_link`, in all its sessions."""

    _link: Link
    _write_queue: WriteQueue
    _encryption: Encryption
    _failures: dict[str, int] = field(factory=dict, init=False)
    """Of parts, by their hashes."""

    async def run(self) -> None:
        """Give and take what there is to be given and taken, until it is cancelled."""
        async with plain_nursery() as nursery:
            nursery.start_soon(self._repeat, self._give_next)
            nursery.start_soon(self._repeat, self._take_next)

    async def _repeat(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Do the next step as soon as there may be one; after a failure later and later."""
        pause = RETRY_SECONDS
        while True:
            await trio.lowlevel.checkpoint()
            news = self._encryption.history_news
            try:
                await self._link.wait_up()
                has_done = await step()
            except LocalStoreError:
                return  # the client stops
            except ClientError:
                await trio.sleep(pause)
                pause = min(2 * pause, MOST_RETRY_SECONDS)
                continue
            pause = RETRY_SECONDS
            if not has_done:
                await news.wait()

    # --- giving ------------------------------------------------------------------------------------------------------

    async def _give_next(self) -> bool:
        gifts = await self._write_queue.store.look_up(history_parts.unfinished_gifts)
        for gift in gifts:
            await self._give(gift)
        return bool(gifts)

    async def _give(self, gift: Gift) -> None:
        """Give the next part, if the device is there to get it."""
        if not await self._is_there(gift):
            return
        if gift.told == gift.manifest:
            gift = await self._with_part(gift)
            await self._write_queue.commit(KeepGift(gift))
        await self._tell_own(SyncBody(history=gift.manifest))
        await self._write_queue.commit(KeepGift(evolve(gift, told=gift.manifest)))
        manifest = gift.manifest
        done = sum(part.messages for part in manifest.parts)
        self._link.events.put(HistoryProgress(gift.device, True, done, manifest.total, manifest.is_complete))

    async def _tell_own(self, body: SyncBody) -> None:
        """Tell the own devices something that must not be lost; waits through reconnections.

        Raises:
            ClientError: it was refused, or the client has stopped.
        """
        own, engine = self._link.target.account.client_id, self._encryption.engine
        sent = await self._encryption.wishes.outcome(lambda new_id: engine.send(own, new_id, body))
        reply = sent.reply if isinstance(sent, Sent) else None
        if isinstance(reply, msg.Error):
            raise Refused(reply.msg, reply.detail)

    async def _is_there(self, gift: Gift) -> bool:
        """Wait until the device is in the conversations; what is said there before would be missed by it."""
        own, device = self._encryption.engine.own_devices, bytes.fromhex(gift.device)
        is_in = own.has if gift.manifest.parts else own.is_everywhere
        with trio.move_on_after(EVERYWHERE_SECONDS):
            while not is_in(device):
                if own.is_gone(device):
                    await self._write_queue.commit(DropGift(gift.device))
                    return False
                await trio.sleep(_TICK_SECONDS)
        return own.has(device)

    async def _with_part(self, gift: Gift) -> Gift:
        path = self._beside("given")
        if not gift.manifest.parts:
            counted = partial(history_parts.count_given, gift.since, gift.before)
            gift = evolve(gift, manifest=evolve(gift.manifest, total=await self._write_queue.store.look_up(counted)))
        writer = ArchiveWriter(self._link.target.account.client_id, min(PART_BYTES, self._link.requests.upload_bytes))
        with await trio.to_thread.run_sync(path.open, "wb") as file:
            before, is_last = await self._write_part(writer, gift, file)
        parts = gift.manifest.parts
        if writer.messages:
            grant = await self._link.requests.ask(msg.UploadToken(), msg.UploadGrant)
            target = self._link.target
            uploaded = await upload(target.address, path, token=grant.token, dial=target.dial)
            parts = [*parts, writer.part(uploaded.url)]
        await trio.to_thread.run_sync(path.unlink)
        is_complete = is_last or len(parts) == HISTORY_PARTS
        manifest = evolve(gift.manifest, parts=parts, is_complete=is_complete)
        return evolve(gift, before=before, manifest=manifest)

    async def _write_part(self, writer: ArchiveWriter, gift: Gift, file: BinaryIO) -> tuple[int, bool]:
        """Write as much as there is, or as a part has room for; where the next one begins, and whether this is the
        last.
        """
        before = gift.before
        while True:
            page_of = partial(history_parts.given, gift.since, before, PAGE_MESSAGES)
            page = await self._write_queue.store.look_up(page_of)
            written = await trio.to_thread.run_sync(_write_page, writer, page, file)
            before = page[written - 1][0] if written else before
            if written < len(page) or not page:
                await trio.to_thread.run_sync(lambda: file.writelines(writer.finish()))
                return before, not page

    # --- taking ------------------------------------------------------------------------------------------------------

    async def _take_next(self) -> bool:
        offered = await self._write_queue.store.look_up(history_parts.next_part)
        if offered is None:
            return False
        sha256 = offered.part.file.sha256
        try:
            await self._take(offered)
        except (InvalidFile, InvalidArchive) as error:
            await self._give_up(offered, str(error))
        except TransferFailed as error:
            self._failures[sha256] = self._failures.get(sha256, 0) + 1
            if error.status not in _GONE and self._failures[sha256] < ATTEMPTS:
                raise
            await self._give_up(offered, str(error))
        return True

    async def _take(self, offered: OfferedPart) -> None:
        """Fetch the part, and keep what is in it: nothing, before all of it was read."""
        part, target, path = offered.part, self._link.target, self._beside("told")
        path.unlink(missing_ok=True)
        await download_checked(target.address, part.file, path, dial=target.dial)
        try:
            pages = self._pages(offered, path)
            await trio.to_thread.run_sync(_exhaust, pages)
            done = offered.done
            pages = self._pages(offered, path)
            while (page := await trio.to_thread.run_sync(next, pages, None)) is not None:
                await self._write_queue.commit(TellHistory(offered.source, tuple(page)))
                done += len(page)
                self._tell(offered, min(done, offered.done + part.messages))
        finally:
            path.unlink(missing_ok=True)
        await self._write_queue.commit(FinishPart(part.file.sha256))
        self._tell(offered, offered.done + part.messages, is_complete=offered.is_last)

    async def _give_up(self, offered: OfferedPart, problem: str) -> None:
        await self._write_queue.commit(FinishPart(offered.part.file.sha256, problem))
        self._tell(offered, offered.done, is_complete=offered.is_last, problem=problem)

    def _pages(self, offered: OfferedPart, path: Path) -> Iterator[list[ArchivedMessage]]:
        """The messages of the part, a few at a time.

        Raises:
            InvalidFile, InvalidArchive: they are not what the manifest says.
        """
        reader = ArchiveReader(self._link.target.account.client_id, offered.part)
        page: list[ArchivedMessage] = []
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                for message in reader.read(piece):
                    page.append(message)
                    if len(page) == PAGE_MESSAGES:
                        yield page
                        page = []
        yield [*page, *reader.finish()]

    def _tell(self, offered: OfferedPart, done: int, *, is_complete: bool = False, problem: str = "") -> None:
        progress = HistoryProgress(offered.source, False, done, offered.total, is_complete, problem)
        self._link.events.put(progress)

    def _beside(self, kind: str) -> Path:
        path = self._write_queue.store.path
        return path.with_name(f"{path.name}.history-{kind}")


def _write_page(writer: ArchiveWriter, page: list[tuple[int, ArchivedMessage]], file: BinaryIO) -> int:
    """How many of the page had room in the part."""
    for written, (_, message) in enumerate(page):
        sealed = writer.add(message)
        if sealed is None:
            return written
        file.write(sealed)
    return len(page)


def _exhaust(pages: Iterator[object]) -> None:
    for _ in pages:
        pass
