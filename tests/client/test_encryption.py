"""Clients with device keys write to each other in encrypted messages, on the server of this project."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import define, field

from ironwire.client import (
    CaughtUp,
    Client,
    ConnectionFailed,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    DeviceId,
    DeviceRenewed,
    DevicesChanged,
    Disconnected,
    Event,
    FileBody,
    Identity,
    MessagesHeld,
    NotEncrypted,
    Received,
    Refused,
    RelayedTyping,
    SealedFile,
    Secured,
    ServerAddress,
    Text,
    connect,
    encryption,
    open_device,
    open_device_keys,
    open_log,
)
from ironwire.client.connection.requests import Requests
from ironwire.client.store.backlog import WINDOW
from ironwire.e2e.conversations import changes
from ironwire.e2e.conversations import effects as fx
from ironwire.ids import ClientId
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.wire.messages.key_packages import MlsPackages
from tests.client.test_with_the_server import Dialler
from tests.server.in_process import serve_in_process

ADDRESS = ServerAddress.parse("http://chat.test")
SEALED = SealedFile("/media/123e4567-e89b-42d3-a456-426614174000.bin", "A" * 43, 100, "5a" * 32)


@pytest.fixture
async def dial(tmp_path: Path) -> AsyncIterator[Dialler]:
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(ADDRESS.origin,)))
    with trio.fail_after(60):
        async with serve_in_process(create_app(settings), limits=settings.limits) as server:
            yield Dialler(server)


@define(eq=False)
class Person:
    """A device of a client, whose events are gathered."""

    name: str
    client: Client
    events: list[Event] = field(factory=list, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)

    @property
    def id(self) -> ClientId:
        return self.client.client_id

    async def follow(self) -> None:
        async for event in self.client:
            self.events.append(event)
            self._news.set()
            self._news = trio.Event()

    async def sees(self, condition: Callable[[Event], bool]) -> Event:
        """The first event for which this holds, now or later."""
        while True:
            for event in self.events:
                if condition(event):
                    return event
            await self._news.wait()

    async def reads(self, text: str) -> Received:
        event = await self.sees(lambda event: _text(event) == text)
        assert isinstance(event, Received)
        return event


def _text(event: Event) -> str | None:
    message = event.message if isinstance(event, Received) else None
    return message.text if isinstance(message, DeliveredText) else None


def identity_of(name: str) -> Identity:
    return Identity.from_seed(name.partition(".")[0].encode().ljust(32, b"."))


@asynccontextmanager
async def person(name: str, dial: Dialler, folder: Path, *, has_keys: bool = True) -> AsyncIterator[Person]:
    identity, device = identity_of(name), DeviceId(name.partition(".")[2])
    (folder / name).mkdir(exist_ok=True)
    keys = open_device_keys(folder / name / "identity.key", identity, device) if has_keys else None
    store = folder / name / "device.db"
    async with (
        connect(ADDRESS, identity, device=device, store=store, keys=keys, dial=dial) as client,
        trio.open_nursery() as nursery,
    ):
        who = Person(name, client)
        nursery.start_soon(who.follow)
        yield who
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def people(dial: Dialler, folder: Path, *names: str) -> AsyncIterator[list[Person]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(person(name, dial, folder)) for name in names]


async def test_texts_are_encrypted_between_clients_with_device_keys(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        accepted = await alice.client.send_text(bob.id, "Hello, Bob")
        received = await bob.reads("Hello, Bob")
        assert received.content is not None, "it came encrypted"
        assert isinstance(received.message, DeliveredText)
        assert (received.message.sender, received.message.ts) == (alice.id, accepted.ts)
        await bob.client.send_receipt(alice.id, [received.id or received.content.id], "read")
        receipt = await alice.sees(lambda event: isinstance(getattr(event, "message", None), DeliveredReceipt))
        assert isinstance(receipt, Received)
        assert receipt.content is not None
        (entry,) = await alice.client.history(bob.id, 10)
        assert (entry.state, entry.receipt, entry.is_encrypted) == ("accepted", "read", True)
        (entry,) = await bob.client.history(alice.id, 10)
        assert entry.is_encrypted
        assert await alice.client.will_encrypt(bob.id)


async def test_who_was_connected_for_a_moment_can_be_written_to(dial: Dialler, tmp_path: Path) -> None:
    async with person("bob.phone", dial, tmp_path):
        pass
    async with person("alice.phone", dial, tmp_path) as alice:
        await alice.client.send_text(identity_of("bob").client_id, "one")
        group = await alice.client.groups.create([identity_of("bob").client_id], "Club")
        assert alice.client.groups.is_encrypted(group)
    async with person("bob.phone", dial, tmp_path) as bob:
        assert (await bob.reads("one")).content is not None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long here until somebody has published keys."""
    monkeypatch.setattr(changes, "PACKAGES_MS", 10)


async def logged_only(dial: Dialler, folder: Path, name: str) -> ClientId:
    """Put a device into the log of its client that has published no keys."""
    identity, device = identity_of(name), DeviceId(name.partition(".")[2])
    (folder / name).mkdir()
    path = folder / name / "identity.key"
    keys = open_device_keys(path, identity, device)
    async with connect(ADDRESS, identity, log=open_log(path, identity), dial=dial) as clerk:
        await clerk.device_log.add(keys.key.public_key.raw.hex())
    return identity.client_id


async def test_what_is_for_somebody_without_published_keys_waits_and_holds_up_nobody_else(
    dial: Dialler, tmp_path: Path, impatient: None
) -> None:
    bob = await logged_only(dial, tmp_path, "bob.phone")
    count = WINDOW + 10
    async with people(dial, tmp_path, "alice.phone", "carol.phone") as (alice, carol):
        await alice.client.queue(*(Text(bob, str(number)) for number in range(count)))
        await alice.sees(lambda event: isinstance(event, MessagesHeld))
        assert alice.client.is_holding
        assert alice.client.waiting_reason(bob) == "no device of the recipient has published keys yet"
        await alice.client.send_text(carol.id, "Hello, Carol")
        assert (await carol.reads("Hello, Carol")).content is not None
        assert alice.client.waiting_reason(carol.id) == ""
        assert alice.client.waiting == count
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bobs):
        await bobs.reads(str(count - 1))
        assert [text for event in bobs.events if (text := _text(event))] == [*map(str, range(count))]
        assert (alice.client.waiting, alice.client.is_holding) == (0, False)


async def test_a_group_with_somebody_without_published_keys_is_not_made_in_the_clear(
    dial: Dialler, tmp_path: Path, impatient: None
) -> None:
    bob = await logged_only(dial, tmp_path, "bob.phone")
    async with person("alice.phone", dial, tmp_path) as alice:
        with pytest.raises(Refused, match="has published keys yet") as refused:
            await alice.client.groups.create([bob], "Club")
        assert (refused.value.code, refused.value.user) == ("user_offline", bob)
        assert await alice.client.groups.all() == []
        group = await alice.client.groups.create([], "Club")
        with pytest.raises(Refused, match="has published keys yet"):
            await alice.client.groups.add(group, [bob])
        with pytest.raises(Refused, match="it is no key"):
            await alice.client.groups.add(group, [ClientId("00" * 32)])


async def test_a_text_to_an_id_that_is_no_key_is_refused(dial: Dialler, tmp_path: Path) -> None:
    async with person("alice.phone", dial, tmp_path) as alice:
        with pytest.raises(Refused, match="it is no key"):
            await alice.client.send_text(ClientId("00" * 32), "anybody?")


async def test_what_is_kept_goes_on_in_the_next_run_of_the_program(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "one")
        await bob.reads("one")
    async with person("alice.phone", dial, tmp_path) as alice:
        await alice.client.send_text(identity_of("bob").client_id, "two")
    async with person("bob.phone", dial, tmp_path) as bob:
        assert (await bob.reads("two")).content is not None
        texts = [entry.message for entry in await bob.client.history(identity_of("alice").client_id, 10)]
        assert [message.text for message in texts if isinstance(message, DeliveredText)] == ["one", "two"]


async def test_a_client_without_keys_goes_on_as_before_and_is_marked(dial: Dialler, tmp_path: Path) -> None:
    async with (
        person("alice.phone", dial, tmp_path) as alice,
        person("carol.phone", dial, tmp_path, has_keys=False) as carol,
    ):
        await alice.client.send_text(carol.id, "Hello, Carol")
        assert (await carol.reads("Hello, Carol")).content is None
        await carol.client.send_text(alice.id, "Hello, Alice")
        assert (await alice.reads("Hello, Alice")).content is None
        assert not await alice.client.will_encrypt(carol.id)
        assert [entry.is_encrypted for entry in await alice.client.history(carol.id, 10)] == [False, False]


async def test_a_text_in_the_clear_is_said_to_be_one_where_there_is_encryption(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "Hello, Bob")
        await bob.reads("Hello, Bob")
        async with connect(ADDRESS, identity_of("alice"), dial=dial) as without_device:
            with pytest.raises(Refused, match="forbidden"):
                await without_device.send_text(bob.id, "in the clear")
        assert not any(isinstance(event, NotEncrypted) for event in bob.events)


async def test_files_and_typing_go_encrypted_too(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        body = FileBody(SEALED, name="cat.jpg")
        await alice.client.send_sealed_file(bob.id, body)
        event = await bob.sees(lambda event: isinstance(getattr(event, "message", None), DeliveredFile))
        assert isinstance(event, Received)
        assert event.content is not None
        assert event.content.body == body
        with pytest.raises(Refused, match="encrypt the file too"):
            await alice.client.send_file(bob.id, SEALED.url)
        bob.client.presence.typing(alice.id, True)
        event = await alice.sees(lambda event: isinstance(getattr(event, "message", None), RelayedTyping))
        assert isinstance(event, Received)
        assert event.content is not None


async def test_a_sealed_file_is_refused_where_nobody_can_read_it(dial: Dialler, tmp_path: Path) -> None:
    async with person("alice.phone", dial, tmp_path) as alice:
        with pytest.raises(Refused, match="no device that reads"):
            await alice.client.send_sealed_file(identity_of("carol").client_id, FileBody(SEALED))


async def test_groups_are_encrypted_by_default(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone", "carol.phone") as (alice, bob, carol):
        group = await alice.client.groups.create([bob.id], "Club")
        await bob.sees(lambda event: isinstance(event, Secured))
        await alice.client.send_text(group, "Hello")
        received = await bob.reads("Hello")
        assert received.content is not None
        assert isinstance(received.message, DeliveredText)
        assert received.message.group == group
        with pytest.raises(Refused, match="conflict: the group is at epoch 2"):
            await alice.client.groups.add(group, [carol.id], if_epoch=1)
        assert (await alice.client.groups.add(group, [carol.id], if_epoch=2)).epoch == 3
        assert len((await bob.client.groups.info(group)).members) == 3
        await carol.sees(lambda event: isinstance(event, Secured))
        await bob.client.send_text(group, "Hello, Carol")
        await carol.reads("Hello, Carol")
        assert (await alice.client.groups.info(group)).name == "Club"


async def test_everybody_in_a_conversation_sees_the_same_epoch_code(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone", "carol.phone") as (alice, bob, carol):
        for other in (bob, carol):
            await alice.client.send_text(other.id, "Are you there?")
            await other.reads("Are you there?")
        group = await alice.client.groups.create([bob.id, carol.id], "Club")
        await alice.client.send_text(group, "Hello")
        for reader in (bob, carol):
            await reader.reads("Hello")
        codes = {await each.client.epoch_code(group) for each in (alice, bob, carol)}
        assert len(codes) == 1
        (code,) = codes
        assert code is not None
        assert (len(code), code.isdigit()) == (30, True)
        await alice.client.groups.set_role(group, bob.id, "admin")
        await bob.client.send_text(group, "thank you")
        await alice.reads("thank you")
        assert await bob.client.epoch_code(group) == await alice.client.epoch_code(group) != code
        assert await alice.client.epoch_code(bob.id) == await bob.client.epoch_code(alice.id) is not None
        assert await carol.client.epoch_code(bob.id) is None


async def test_where_nothing_is_encrypted_there_is_no_epoch_code(dial: Dialler, tmp_path: Path) -> None:
    async with person("alice.phone", dial, tmp_path, has_keys=False) as alice:
        assert await alice.client.epoch_code(identity_of("bob").client_id) is None


async def test_a_group_with_somebody_without_keys_is_as_before(dial: Dialler, tmp_path: Path) -> None:
    async with (
        person("alice.phone", dial, tmp_path) as alice,
        person("carol.phone", dial, tmp_path, has_keys=False) as carol,
    ):
        group = await alice.client.groups.create([carol.id], "Club")
        await alice.client.send_text(group, "Hello")
        assert (await carol.reads("Hello")).content is None
        assert not alice.client.groups.is_encrypted(group)
        details = await carol.client.groups.info(group)
        assert (details.name, {member.client for member in details.members}) == ("Club", {alice.id, carol.id})


async def test_what_a_new_device_says_in_a_group_waits_until_it_is_in_it(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        group = await alice.client.groups.create([bob.id], "Club")
        await bob.sees(lambda event: isinstance(event, Secured))
    async with person("bob.tablet", dial, tmp_path) as tablet:
        await tablet.client.queue(Text(group, "from my tablet"))
        with pytest.raises(Refused, match="has to let it in"):
            await tablet.client.groups.rename(group, "Pub")
        await tablet.sees(lambda event: isinstance(event, MessagesHeld))
        assert "has to let it in" in tablet.client.waiting_reason(group)
        assert await tablet.client.will_encrypt(group)
        async with person("alice.phone", dial, tmp_path) as alice:
            assert (await alice.reads("from my tablet")).content is not None
            await tablet.sees(lambda event: isinstance(event, MessagesHeld) and event.reason is None)


async def test_what_ends_the_block_comes_out_alone_while_something_is_being_kept(dial: Dialler, tmp_path: Path) -> None:
    """What was kept as the last task of the session ended has nobody to ask any more."""
    identity, device, store = identity_of("alice"), DeviceId("desk"), tmp_path / "alice.db"
    keys = open_device_keys(tmp_path / "alice.key", identity, device)
    question = fx.Effects(requests=[fx.Request(0, fx.Inquiry(MlsPackages()))])

    async def use() -> None:
        async with connect(ADDRESS, identity, device=device, store=store, keys=keys, dial=dial) as client:
            while not isinstance(getattr(await anext(client), "message", None), CaughtUp):
                pass
            driver = client._link.encryption
            assert driver is not None
            assert driver._session is not None

            async def end_last() -> None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.05)
                    driver.carry_out(question)
                    await trio.lowlevel.checkpoint()

            driver._session.nursery.start_soon(end_last)
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError

    for _ in range(6):  # Trio shuffles what is ready
        with pytest.raises(ZeroDivisionError):
            await use()


async def test_a_new_device_speaks_at_once_in_a_group_in_the_clear(dial: Dialler, tmp_path: Path) -> None:
    async with person("carol.phone", dial, tmp_path, has_keys=False) as carol:
        async with person("alice.phone", dial, tmp_path) as alice:
            group = await alice.client.groups.create([carol.id], "Club")
        async with person("alice.tablet", dial, tmp_path) as tablet:
            await tablet.client.send_text(group, "from my tablet")
            assert (await carol.reads("from my tablet")).content is None
            assert not await tablet.client.will_encrypt(group)
            await tablet.client.groups.rename(group, "Pub")


async def test_a_server_without_encryption_gets_what_was_never_encrypted(
    dial: Dialler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption, "FEATURE", "something that no server has")
    async with (
        person("alice.phone", dial, tmp_path) as alice,
        person("carol.phone", dial, tmp_path, has_keys=False) as carol,
    ):
        await alice.client.send_text(carol.id, "Hello, Carol")
        assert (await carol.reads("Hello, Carol")).content is None
        assert not await alice.client.will_encrypt(carol.id)
        group = await carol.client.groups.create([alice.id], "Club")
        await alice.client.send_text(group, "Hello, Club")
        await carol.reads("Hello, Club")
        await alice.client.groups.leave(group)


async def test_a_store_that_was_put_back_from_a_copy_makes_the_device_a_new_one(dial: Dialler, tmp_path: Path) -> None:
    """Its keys have encrypted what the copy does not know of."""
    store = tmp_path / "alice.phone" / "device.db"
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "one")
        await bob.reads("one")
    copy = store.read_bytes()
    async with person("alice.phone", dial, tmp_path) as alice:
        await alice.client.send_text(identity_of("bob").client_id, "two")
        old = alice.client.device_log.known.current
    store.write_bytes(copy)
    async with people(dial, tmp_path, "bob.phone", "alice.phone") as (bob, alice):
        await alice.sees(lambda event: isinstance(event, DeviceRenewed))
        new = alice.client.device_log.known.current
        assert {device.key for device in new}.isdisjoint(device.key for device in old)
        await bob.sees(lambda event: isinstance(event, DevicesChanged) and bool(event.added))
        await bob.client.send_text(alice.id, "three")
        await alice.reads("three")
        await alice.client.send_text(bob.id, "four")
        await bob.reads("four")


async def test_what_is_kept_while_a_session_ends_is_not_asked_in_it(
    dial: Dialler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks are gone already, and the file is a moment behind."""
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "one")
        link = alice.client._link
        assert link.encryption is not None
        kept = partial(link.encryption._kept, fx.Effects(requests=[fx.Request(1, fx.Inquiry(MlsPackages()))]), {})
        late = partial(kept, link.encryption._session, None)
        end = Requests.end
        monkeypatch.setattr(Requests, "end", lambda requests: (late(), end(requests)))
        for stream in dial.streams:
            await stream.aclose()
        await alice.sees(lambda event: isinstance(event, Disconnected))
        monkeypatch.undo()
        await alice.client.send_text(bob.id, "two")
        await bob.reads("two")


async def test_what_is_sent_while_a_server_is_away_goes_encrypted_later(dial: Dialler, tmp_path: Path) -> None:
    bob_id = identity_of("bob").client_id
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "one")
        await bob.reads("one")
    (tmp_path / "alice.phone").mkdir(exist_ok=True)
    keys = open_device_keys(tmp_path / "alice.phone" / "identity.key", identity_of("alice"), DeviceId("phone"))
    store = tmp_path / "alice.phone" / "device.db"

    async def nowhere(address: ServerAddress) -> trio.abc.Stream:
        raise ConnectionFailed("there is no server")

    async with open_device(
        ADDRESS, identity_of("alice"), DeviceId("phone"), store=store, keys=keys, dial=nowhere
    ) as offline:
        await offline.queue(Text(bob_id, "two"))
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (_, bob):
        assert (await bob.reads("two")).content is not None
