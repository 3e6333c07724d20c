"""Names and marks of a person's devices: however they come, all devices come to know the same."""

import hashlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ironwire.crypto.padding import padded_size
from ironwire.e2e.bodies import SyncBody
from ironwire.e2e.content import Content, decode_content, encode_content
from ironwire.e2e.own_records import RECORDS_AT_ONCE, OwnRecord, OwnRecords, messages_of, records_of
from ironwire.ids import MessageId
from ironwire.limits import MLS_INLINE_BYTES

PHONE, LAPTOP = "a1" * 32, "b2" * 32
BOB, EVE = "b0" * 32, "e0" * 32
TIMES = st.integers(0, 3)
DEVICES = st.sampled_from([PHONE, LAPTOP])


def records() -> SearchStrategy[list[OwnRecord]]:
    """Few names, times and values, so that they contradict each other."""
    contacts = st.builds(
        OwnRecord, st.just("contact"), st.sampled_from(["bob", "eve"]), st.sampled_from([BOB, EVE, ""]), TIMES, DEVICES
    )
    marks = st.builds(
        OwnRecord, st.just("verified"), st.sampled_from([BOB, EVE]), st.sampled_from(["yes", ""]), TIMES, DEVICES
    )
    devices = st.builds(OwnRecord, st.just("device"), DEVICES, st.sampled_from(["Ann's", "phone"]), TIMES, DEVICES)
    return st.lists(contacts | marks | devices, max_size=8)


def known(*parts: list[OwnRecord]) -> OwnRecords:
    made = OwnRecords()
    for part in parts:
        made.merge(part)
    return made


@given(records(), records(), records())
def test_the_order_in_which_records_come_makes_no_difference(
    one: list[OwnRecord], two: list[OwnRecord], three: list[OwnRecord]
) -> None:
    expected = known(one, two, three)
    for order in ((three, two, one), (two, one, three), (one[::-1], list(known(two, three)))):
        again = known(*order)
        assert list(again) == list(expected)
        assert again.digest == expected.digest


@given(records(), records())
def test_what_came_before_changes_nothing(one: list[OwnRecord], two: list[OwnRecord]) -> None:
    made = known(one, two)
    assert made.merge([*one, *two, *made]) == []


@given(records(), records())
def test_devices_that_know_something_else_have_another_digest(one: list[OwnRecord], two: list[OwnRecord]) -> None:
    first, second = known(one), known(two)
    assert (first.digest == second.digest) == (list(first) == list(second))


@given(records(), st.sampled_from([BOB, EVE, ""]), TIMES)
def test_what_a_person_says_holds_from_now_on_whatever_the_clocks(
    before: list[OwnRecord], value: str, now_ms: int
) -> None:
    here, there = known(before), known(before)
    made = here.change("contact", "bob", value, now_ms, PHONE)
    if made is None:
        assert here.digest == there.digest
    else:
        assert there.merge([made]) == [made]
    record = here.get("contact", "bob")
    assert record is not None
    assert record.value == value
    assert here.change("contact", "bob", value, now_ms + 1, LAPTOP) is None


def test_the_later_one_holds_and_of_one_time_the_greater_device() -> None:
    early, late = OwnRecord("contact", "bob", EVE, 1, LAPTOP), OwnRecord("contact", "bob", BOB, 2, PHONE)
    assert list(known([late], [early])) == [late]
    same = OwnRecord("contact", "bob", EVE, 2, LAPTOP)
    assert list(known([late], [same])) == [same]


@given(records())
def test_messages_bring_what_was_put_into_them(given_records: list[OwnRecord]) -> None:
    made = known(given_records)
    told = [each for body in messages_of(made, made.digest) for each in records_of(_sent(body))]
    assert known(told).digest == made.digest


def _sent(body: SyncBody) -> SyncBody:
    sent = decode_content(encode_content(Content(MessageId("1"), 1, body)), None).body
    assert isinstance(sent, SyncBody)
    return sent


@pytest.mark.parametrize(("count", "messages"), [(0, 1), (1, 1), (RECORDS_AT_ONCE, 1), (RECORDS_AT_ONCE + 1, 2)])
def test_the_last_message_has_the_digest_and_each_fits_into_a_frame(count: int, messages: int) -> None:
    longest = "\U0001f600" * 124
    made = known([OwnRecord("contact", f"{number:04}{longest}", BOB, 2**53 - 1, PHONE) for number in range(count)])
    bodies = messages_of(made, made.digest)
    assert [body.state for body in bodies] == [None] * (messages - 1) + [made.digest]
    for body in bodies:
        size = len(encode_content(Content(MessageId("f" * 64), 2**53 - 1, body)))
        assert padded_size(size) + 1024 < MLS_INLINE_BYTES


def test_the_digest_is_the_hash_of_what_the_document_says() -> None:
    made = known([OwnRecord("verified", BOB, "yes", 2, PHONE), OwnRecord("contact", "bob", BOB, 1, LAPTOP)])
    text = orjson.dumps([["contact", "bob", BOB, 1, LAPTOP], ["verified", BOB, "yes", 2, PHONE]])
    assert made.digest == hashlib.sha256(text).hexdigest()
