"""Sound gets from one `ironwire call` to another: directly, and through coturn alone, with what the server issued."""

import re
from collections.abc import Callable

import pytest

from tests.calls.conftest import Caller, Coturn
from tests.calls.sound import STEP_HZ, loudest_hertz, write_tone

MakeCaller = Callable[[str], Caller]


@pytest.mark.parametrize("relay", [(), ("--relay",)], ids=["direct", "relayed"])
def test_both_sides_hear_each_other(make_caller: MakeCaller, coturn: Coturn, relay: tuple[str, ...]) -> None:
    relays_before = coturn.relays()
    alice, bob = make_caller("alice"), make_caller("bob")
    write_tone(alice.folder / "voice.wav", 660, 10)
    with bob.start("--answer", "--tone", "880", "--record", "heard.wav", "--seconds", "30", *relay) as answering:
        answering.read_until("waiting for a call")
        with alice.start(bob.id, "--file", "voice.wav", "--record", "heard.wav", "--seconds", "4", *relay) as calling:
            code, output = calling.finish()
        assert code == 0, output
        assert re.fullmatch(
            r"calling [0-9a-f]{8}…\nit rings\nconnected, for 4 s\nheard [345]\.\d s, recorded in heard.wav\n", output
        )
        # Hanging up ended it on this side too, long before its own time.
        assert answering.finish()[0] == 0
    assert abs(loudest_hertz(alice.folder / "heard.wav") - 880) <= STEP_HZ
    assert abs(loudest_hertz(bob.folder / "heard.wav") - 660) <= STEP_HZ
    if relay:
        assert coturn.relays() >= relays_before + 2


def test_a_call_that_nobody_takes_says_so(make_caller: MakeCaller) -> None:
    alice, bob = make_caller("alice"), make_caller("bob")
    with alice.start(bob.id) as calling:
        code, output = calling.finish()
    assert code == 1
    assert output.endswith("Error: the recipient is offline\n")
    with bob.start("--answer", "--wait", "1") as answering:
        code, output = answering.finish()
    assert code == 1
    assert "Error: nobody called within 1 s" in output


def test_a_file_without_sound_cannot_be_played(make_caller: MakeCaller) -> None:
    alice = make_caller("alice")
    with alice.start(alice.id, "--file", "key") as calling:
        code, output = calling.finish()
    assert code == 1
    assert "key cannot be played" in output
