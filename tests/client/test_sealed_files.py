"""Names of encrypted files, and who gets a file encrypted."""

from pathlib import Path

import pytest

from ironwire.client import (
    DeliveredFile,
    FileBody,
    Received,
    SealedFile,
    as_file_message,
    file_link,
    parse_file_link,
    sealed_file,
)
from ironwire.client.store.device_owner import DeviceOwner
from ironwire.ids import MessageId
from tests.client.test_encryption import ADDRESS, dial, identity_of, people, person
from tests.client.test_with_the_server import Dialler

__all__ = ["dial"]

URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
SEALED = SealedFile(URL, "A" * 43, 100, "5a" * 32)
_ID = MessageId("handed-over")


def test_a_link_says_everything_that_is_needed() -> None:
    assert parse_file_link(file_link(SEALED)) == SEALED
    assert file_link(SEALED).startswith(f"{URL}#")


@pytest.mark.parametrize(
    "text", [URL, f"{URL}#", f"{URL}#{'A' * 43}.100", f"/etc/passwd#{'A' * 43}.1.{'5a' * 32}", file_link(SEALED) + "0"]
)
def test_what_is_no_link(text: str) -> None:
    assert parse_file_link(text) is None


def test_a_file_is_shown_with_all_that_is_known_of_it() -> None:
    body = FileBody(SEALED, "voice", "word.ogg", "audio/ogg", duration_ms=7, waveform=[0] * 64, caption="listen")
    shown = as_file_message(identity_of("bob").client_id, body)
    assert (shown.url, shown.size, shown.kind, shown.duration_ms, shown.caption) == (URL, 100, "voice", 7, "listen")
    assert shown.sha256 is None, "that of the encrypted file would be taken for that of the content"


async def test_a_file_goes_encrypted_to_whoever_can_read_it(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        terms = await alice.client.file_terms(bob.id)
        assert (terms.is_encrypted, terms.upload_bytes > 0) == (True, True)
        assert not (await alice.client.file_terms(identity_of("carol").client_id)).is_encrypted


async def test_another_program_hands_an_encrypted_file_over(dial: Dialler, tmp_path: Path) -> None:
    """To the one that has the device: it has the keys."""
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (_, bob):
        owner = DeviceOwner(ADDRESS, tmp_path / "alice.phone" / "device.db")
        assert (await owner.file_terms(bob.id)).is_encrypted
        body = FileBody(SEALED, name="cat.jpg")
        async with owner.sending(as_file_message(bob.id, body), _ID, body) as (stored, accepted):
            assert stored.ids == [_ID]
            await accepted()
        event = await bob.sees(lambda event: isinstance(getattr(event, "message", None), DeliveredFile))
        assert isinstance(event, Received)
        assert sealed_file(event.content) == SEALED


async def test_another_program_makes_an_encrypted_group(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone", "carol.phone") as (alice, bob, carol):
        await alice.client.send_text(carol.id, "Hello, Carol")
        await carol.reads("Hello, Carol")
        owner = DeviceOwner(ADDRESS, tmp_path / "alice.phone" / "device.db")
        group = await owner.groups.create([bob.id], "Club")
        assert alice.client.groups.is_encrypted(group)
        await owner.groups.add(group, [carol.id])
        await owner.groups.rename(group, "Old club")
        assert (await owner.groups.info(group)).name == "Old club"
        assert await owner.epoch_code(group) == await alice.client.epoch_code(group)
        await alice.client.send_text(group, "Hello, all")
        for reader in (bob, carol):
            assert (await reader.reads("Hello, all")).content is not None


async def test_a_device_without_keys_sends_files_in_the_clear(dial: Dialler, tmp_path: Path) -> None:
    async with person("alice.phone", dial, tmp_path, has_keys=False) as alice:
        assert not (await alice.client.file_terms(identity_of("bob").client_id)).is_encrypted
