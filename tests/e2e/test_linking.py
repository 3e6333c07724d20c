"""Linking a device, docs/between-devices.md, section 11.4."""

from collections.abc import Callable
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_box_seal

from ironwire.crypto.signing import DeviceKey
from ironwire.e2e.linking import LinkOffer, PendingLink, answer_link, parse_link_text
from ironwire.errors import InvalidLink
from ironwire.ids import ClientId, Origin
from ironwire.limits import LINK_BYTES
from ironwire.protocol.devices.certificate import issue_certificate
from tests.e2e.link_vectors import (
    ALICE,
    GOOD,
    LOG,
    MALLORY,
    NOW_MS,
    OFFER,
    ORIGIN,
    OWN,
    PENDING,
    PHONE,
    REFUSED,
    REQUEST,
    answer_of,
    as_json,
    box_of,
)
from tests.e2e.vectors import recorded

ORIGINS = ["https://chat.example", "http://localhost:8080", "https://[2001:db8::1]", "http://[::1]:8080"]


def begin(origin: str = ORIGIN) -> PendingLink:
    return PendingLink.begin(Origin(origin), PHONE.public_key, NOW_MS)


# --- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_text_says_what_went_into_it(origin: str) -> None:
    request = begin(origin).request
    assert request.text.startswith(f"iwlink:1:{origin}:")
    assert parse_link_text(request.text) == request


def test_a_text_may_be_broken_into_lines() -> None:
    assert parse_link_text(f"\n  {GOOD[:40]}\r\n  {GOOD[40:]}\n") == REQUEST


@pytest.mark.parametrize("name", REFUSED)
def test_another_text_is_refused(name: str) -> None:
    with pytest.raises(InvalidLink) as caught:
        parse_link_text(REFUSED[name])
    assert str(caught.value).isprintable()
    assert ("newer version" in str(caught.value)) == (name == "a newer version")


@given(st.text() | st.integers(0, len(GOOD)).flatmap(lambda end: st.text().map(lambda more: GOOD[:end] + more)))
def test_any_text_is_a_link_or_refused(text: str) -> None:
    try:
        request = parse_link_text(text)
    except InvalidLink as error:
        assert str(error).isprintable()  # noqa: PT017  # for any text at all
    else:
        assert request.text.startswith("iwlink:1:")


def test_links_are_new_and_not_shown_by_accident() -> None:
    links = [begin() for _ in range(10)]
    assert len({link.request.name for link in links}) == len({link.request.secret for link in links}) == 10
    assert len({link.request.box_key for link in links}) == 10
    assert links[0].request.secret.hex() not in repr(links[0])
    assert repr(links[0].request.secret) not in repr(links[0])
    assert repr(links[0]._private_key) not in repr(links[0])


# --- the answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [None, "month", "all"])
def test_the_new_device_reads_the_answer(history: Any) -> None:
    link = begin()
    offer = LinkOffer.make(issue_certificate(ALICE, PHONE.public_key), LOG, OWN, history)
    answer = answer_link(parse_link_text(link.request.text), offer, ORIGIN)
    assert link.open(answer, NOW_MS + 1) == offer
    assert offer.certificate().client == ALICE.public_key
    assert len(answer) <= LINK_BYTES
    assert len(answer) == len(answer_link(link.request, OFFER, ORIGIN))  # the size does not tell what is offered


def test_an_answer_is_what_the_document_says() -> None:
    assert PENDING.open(answer_of(box_of(orjson.dumps(as_json(OFFER)))), NOW_MS) == OFFER


def test_the_known_answer_is_read() -> None:
    known = recorded("linking")[0]
    assert parse_link_text(known["text"]) == REQUEST
    assert PENDING.open(bytes.fromhex(known["answer"]), known["now"]) == OFFER


def test_after_five_minutes_it_is_over() -> None:
    link = begin()
    answer = answer_link(link.request, OFFER, ORIGIN)
    assert not link.is_over(NOW_MS + 299_999)
    assert link.open(answer, NOW_MS + 299_999) == OFFER
    assert link.is_over(NOW_MS + 300_000)
    with pytest.raises(InvalidLink, match="five minutes"):
        link.open(answer, NOW_MS + 300_000)


def test_an_owner_links_no_device_of_another_server() -> None:
    with pytest.raises(InvalidLink, match=r"at https://chat\.example:8443, and this one is at https://other\.example"):
        answer_link(REQUEST, OFFER, Origin("https://other.example"))


def test_a_key_that_encrypts_for_everybody_is_refused() -> None:
    with pytest.raises(InvalidLink, match="nothing can be encrypted"):
        answer_link(attrs.evolve(REQUEST, box_key=bytes(32)), OFFER, ORIGIN)


@given(st.data())
def test_no_byte_of_an_answer_can_be_changed(data: st.DataObject) -> None:
    answer = answer_link(REQUEST, OFFER, ORIGIN)
    place, change = data.draw(st.integers(0, len(answer) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(InvalidLink):
        PENDING.open(answer[:place] + bytes([answer[place] ^ change]) + answer[place + 1 :], NOW_MS)


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_bytes_are_refused(data: bytes, has_mac: bool, has_box: bool) -> None:
    box = box_of(data) if has_box else data
    with pytest.raises(InvalidLink) as caught:
        PENDING.open(answer_of(box) if has_mac else box, NOW_MS)
    assert str(caught.value).isprintable()


def test_the_server_can_make_no_answer() -> None:
    """It knows the link id, and at most the keys, but not the secret."""
    forged = issue_certificate(MALLORY, PHONE.public_key)
    offer = LinkOffer.make(forged, attrs.evolve(LOG, client=MALLORY.client_id), OWN)
    box = crypto_box_seal(orjson.dumps(as_json(offer)), REQUEST.box_key)
    with pytest.raises(InvalidLink, match="has seen this text"):
        PENDING.open(answer_of(box, secret=bytes(16)), NOW_MS)


def test_an_answer_to_another_text_is_refused() -> None:
    link = begin()
    parts: list[dict[str, Any]] = [
        {"link_id": bytes(16)},
        {"device": DeviceKey.generate().public_key},
        {"origin": Origin("https://other.example")},
        {"box_key": begin().request.box_key},
        {"secret": bytes(16)},
    ]
    for part in parts:
        other = attrs.evolve(link.request, **part)
        with pytest.raises(InvalidLink):
            link.open(answer_link(other, OFFER, other.origin), NOW_MS)


OTHER_OFFERS: dict[str, Callable[[], LinkOffer]] = {
    "for another device": lambda: LinkOffer.make(issue_certificate(ALICE, DeviceKey.generate().public_key), LOG, OWN),
    "that has ended": lambda: LinkOffer.make(issue_certificate(ALICE, PHONE.public_key, NOW_MS - 1), LOG, OWN),
    "of another client": lambda: LinkOffer.make(issue_certificate(MALLORY, PHONE.public_key), LOG, OWN),
    "with another log": lambda: attrs.evolve(OFFER, log=attrs.evolve(LOG, client=ClientId("ab" * 32))),
    "that is none": lambda: attrs.evolve(OFFER, cert="A" * 140),
    "of a newer version": lambda: attrs.evolve(OFFER, v=2),
}


@pytest.mark.parametrize("name", OTHER_OFFERS)
def test_a_certificate_that_is_not_ours_is_refused(name: str) -> None:
    with pytest.raises(InvalidLink):
        PENDING.open(answer_link(REQUEST, OTHER_OFFERS[name](), ORIGIN), NOW_MS)


@pytest.mark.parametrize("key", ["v", "cert", "log", "self"])
def test_an_answer_without_a_part_is_refused(key: str) -> None:
    parts = as_json(OFFER)
    del parts[key]
    with pytest.raises(InvalidLink, match=f"{key} is missing"):
        PENDING.open(answer_of(box_of(orjson.dumps(parts))), NOW_MS)


def test_an_answer_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidLink):
        PENDING.open(answer_of(box_of(orjson.dumps(as_json(OFFER)).ljust(LINK_BYTES))), NOW_MS)
