"""Two messages have the same digest only if they are the same."""

from hypothesis import given

from ironwire.delivery.envelopes import digest_of
from ironwire.ids import ClientId
from ironwire.wire.messages import ClientMessage, Text
from tests.strategies import client_messages

ALICE, BOB = ClientId("a" * 64), ClientId("b" * 64)


def test_the_address_and_the_words_count() -> None:
    digests = {digest_of(Text(to, text)) for to in (ALICE, BOB) for text in ("", "\0", "Hello", f"{BOB}\0Hello")}
    assert len(digests) == 8


@given(client_messages(), client_messages())
def test_different_messages_have_different_digests(one: ClientMessage, other: ClientMessage) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)
