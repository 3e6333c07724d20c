"""What may stand in a name for people, and in an id: the same in every version of Unicode, and in the schemas."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidMessage
from ironwire.wire.codec import decode_client
from ironwire.wire.messages import File, GroupRename
from ironwire.wire.messages.fields import FILE_NAME_CHARS, as_file_name

GROUP = "#" + "0" * 32
URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"

REFUSED = [
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x2028, 0x2029),
    *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
]
EMOJI = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f3f4\U000e0067\U000e0062\U000e007f \U0001fae8"
"""A family with joiners, a heart with a variation selector, a flag of tags, and one of Unicode 15."""


def group_name(name: str) -> str:
    frame = {"type": "group_rename", "payload": {"group": GROUP, "name": name}}
    message, _, _ = decode_client(json.dumps(frame))
    assert isinstance(message, GroupRename)
    return message.name


def file(**said: str) -> File:
    message, _, _ = decode_client(json.dumps({"type": "file", "payload": {"to": "a1" * 32, "url": URL, **said}}))
    assert isinstance(message, File)
    return message


@pytest.mark.parametrize("code", REFUSED, ids=hex)
def test_a_name_has_no_character_that_is_not_seen_or_turns_the_line(code: int) -> None:
    name = f"a{chr(code)}b"
    with pytest.raises(InvalidMessage, match=r"^payload\.name must be a name without"):
        group_name(name)
    with pytest.raises(InvalidMessage, match=r"^payload\.name must be a name without"):
        file(name=name)
    if chr(code) == "\n":
        assert file(caption=name).caption == name
    else:
        with pytest.raises(InvalidMessage, match=r"^payload\.caption must be lines without"):
            file(caption=name)


def test_emoji_of_every_kind_may_be_in_a_name() -> None:
    assert group_name(EMOJI) == EMOJI
    assert file(name=EMOJI, caption=EMOJI).name == EMOJI


def test_a_name_is_counted_in_code_points() -> None:
    assert group_name("\U0001fae8" * 128)
    with pytest.raises(InvalidMessage, match="1 to 128 characters"):
        group_name("\U0001fae8" * 129)


@given(st.characters(exclude_categories=["Cs"]))
def test_a_name_has_any_other_character_whatever_its_version_calls_it(character: str) -> None:
    if ord(character) not in REFUSED:
        assert group_name(character) == character


@given(st.text(st.characters(), max_size=300))
def test_every_file_of_a_disk_has_a_name_that_can_be_sent(name: str) -> None:
    fitting = as_file_name(name)
    assert file(name=fitting).name == fitting
    assert len(fitting) == min(len(name), FILE_NAME_CHARS)
    assert all(ours == theirs for ours, theirs in zip(fitting, name, strict=False) if ours != "\ufffd")


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0x100), 0x202E, 0x2028, 0x1F600, sys.maxunicode], ids=hex)
def test_an_id_is_ascii_that_is_seen(code: int) -> None:
    with pytest.raises(InvalidMessage, match=r"^id must be 1 to 64 characters from U\+0020 to U\+007E$"):
        decode_client(json.dumps({"type": "devices", "id": chr(code)}))


def test_an_id_may_be_all_of_ascii_that_is_seen() -> None:
    for code in range(0x20, 0x7F):
        assert decode_client(json.dumps({"type": "devices", "id": chr(code)}))[1] == chr(code)
