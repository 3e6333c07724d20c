"""The conversation of a client with itself: its devices come to know the same, with the server in this process."""

from trio.testing import MockClock

from ironwire.e2e.bodies import HistoryManifest, SyncBody
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.own_records import OwnRecord
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.wire.messages.conversations import MlsCreate, MlsSend
from tests.e2e.conversations.devices import EngineDevice, EngineWorld, open_world
from tests.playbook import identity_of

BOB = identity_of("bob").client_id


def call(device: EngineDevice, name: str, who: str) -> None:
    device.do(device.engine.change_own([("contact", name, who)]))


def names(device: EngineDevice) -> dict[str, str]:
    return {each.key: each.value for each in device.engine.own_devices.records if each.kind == "contact"}


def is_one(*devices: EngineDevice) -> bool:
    """Whether they all know the same."""
    return len({each.engine.own_devices.records.digest for each in devices}) == 1


def says(device: EngineDevice) -> int:
    """How much it has said in the conversation with itself."""
    own = device.engine.member_of(device.client)
    return sum(isinstance(each, MlsSend) and own is not None and each.group == own.id for each in device.written)


async def _met(world: EngineWorld, *names_: str) -> list[EngineDevice]:
    """Devices of one client that are in its conversation with itself."""
    devices = await world.enter(*names_)
    keys = [each.key.public_key.raw for each in devices]
    await world.until(lambda: all(one.engine.own_devices.has(key) for one in devices for key in keys))
    return devices


async def test_the_conversation_begins_when_there_are_two_devices_and_nobody_is_told(mock_clock: MockClock) -> None:
    async with open_world() as world:
        (phone,) = await world.enter("alice.phone")
        await world.quiet(120)
        assert not [each for each in phone.written if isinstance(each, MlsCreate)]
        await world.enter("alice.laptop")
        laptop = world.devices["alice.laptop"]
        await world.until(lambda: phone.engine.own_devices.has(laptop.key.public_key.raw))
        await world.until(lambda: laptop.engine.own_devices.has(phone.key.public_key.raw))
        assert not phone.told(ev.Secured) + laptop.told(ev.Secured)


async def test_what_is_said_on_one_device_is_known_on_all(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, laptop, tablet = await _met(world, "alice.phone", "alice.laptop", "alice.tablet")
        call(phone, "bob", BOB)
        await world.until(lambda: names(laptop) == names(tablet) == {"bob": BOB})
        (told,) = laptop.told(ev.OwnRecordsChanged)
        assert isinstance(told, ev.OwnRecordsChanged)
        assert [each.by for each in told.records] == [phone.key.public_key.raw.hex()]
        call(laptop, "bob", "")
        await world.until(lambda: names(phone) == names(tablet) == {"bob": ""})
        assert is_one(phone, laptop, tablet)


async def test_the_same_said_again_is_no_message(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, laptop = await _met(world, "alice.phone", "alice.laptop")
        call(phone, "bob", BOB)
        await world.until(lambda: names(laptop) == {"bob": BOB})
        await world.quiet()
        before = says(phone), says(laptop)
        call(phone, "bob", BOB)
        await world.quiet(300)
        assert (says(phone), says(laptop)) == before, "once all know the same, nobody says anything"


async def test_devices_that_were_apart_meet_again(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, laptop, tablet = await _met(world, "alice.phone", "alice.laptop", "alice.tablet")
        await laptop.leave()
        await tablet.leave()
        call(phone, "bob", BOB)
        call(laptop, "eve", BOB)
        call(tablet, "bob", "")
        await world.quiet()
        await laptop.enter()
        await tablet.enter()
        await world.until(lambda: is_one(phone, laptop, tablet))
        assert names(phone) == {"bob": "", "eve": BOB}


async def test_what_was_said_before_there_was_another_device_comes_to_it(mock_clock: MockClock) -> None:
    async with open_world() as world:
        (phone,) = await world.enter("alice.phone")
        for number in range(100):
            call(phone, f"name-{number}", BOB)
        await phone.crash()
        assert len(names(phone)) == 100
        await phone.enter()
        (laptop,) = await world.enter("alice.laptop")
        await world.until(lambda: len(names(laptop)) == 100)
        assert is_one(phone, laptop)


async def test_every_session_compares_heads_and_a_hidden_device_is_found_out(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, laptop = await _met(world, "alice.phone", "alice.laptop")
        await laptop.leave()
        before = says(laptop)
        await laptop.enter()
        await world.quiet()
        assert says(laptop) == before + 1
        laptop.spoil = lambda frame: None if frame.message.verb == "device_log_changed" else frame
        await world.log("alice.thief", LogOp.ADD, phone.key.from_seed(b"thief".ljust(32, b".")))
        await world.quiet()
        assert not laptop.told(ev.DeviceLinked), "the server hides it"
        await phone.leave()
        await phone.enter()
        await world.until(lambda: bool(laptop.told(ev.DeviceLinked)))


async def test_a_manifest_is_kept_by_the_device_that_it_is_for(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, laptop, tablet = await _met(world, "alice.phone", "alice.laptop", "alice.tablet")
        manifest = HistoryManifest(laptop.key.public_key.raw.hex(), [], 0, True)
        phone.send(phone.client, SyncBody(history=manifest))
        await world.until(lambda: bool(laptop.disk.manifests))
        await world.quiet()
        assert laptop.disk.manifests == [fx.SavedManifest(phone.key.public_key.raw, manifest)]
        assert not tablet.disk.manifests
        assert not laptop.disk.opened + tablet.disk.opened, "no person reads it"


async def test_somebody_elses_sync_is_not_heard(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, bob = await world.enter("alice.phone", "bob.phone")
        record = OwnRecord("contact", "mother", BOB, 1, "b0" * 32)
        bob.engine.own_devices.records.merge([record])
        bob.send(phone.client, SyncBody(state=bob.engine.own_devices.records.digest))
        bob.say(phone.client, "Hello")
        await world.until(lambda: phone.texts == ["Hello"])
        assert names(phone) == {}


async def test_it_is_known_where_a_device_reads_and_that_one_was_revoked(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, bob = await world.enter("alice.phone", "bob.phone")
        phone.say(bob.client, "Hello")
        await world.until(lambda: bob.texts == ["Hello"])
        (laptop,) = await world.enter("alice.laptop")
        new, own = laptop.key.public_key.raw, phone.engine.own_devices
        await world.until(lambda: own.is_everywhere(new))
        assert not own.is_gone(new)
        await world.log("alice.laptop", LogOp.REMOVE, laptop.key)
        await world.until(lambda: own.is_gone(new) and not own.is_everywhere(new))
