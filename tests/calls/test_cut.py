"""A call with sound goes on while the connection to the server is cut."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from ironwire.client import create_identity
from tests.calls.cable import Cable, open_cable
from tests.calls.conftest import Caller
from tests.calls.sound import STEP_HZ, loudest_hertz
from tests.system.processes import background, environment

CUT_SECONDS = 3.0


@frozen
class Place:
    """Alice and Bob both reach the server through one cable."""

    alice: Caller
    bob: Caller
    cable: Cable
    server_port: int


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_cable() as cable:
        through_cable = f"http://127.0.0.1:{cable.port}"
        variables = environment(tmp_path, IRONWIRE_AUTH_ORIGINS=through_cable)
        command = ("serve", "--host", "127.0.0.1", "--port", "0", "--data", str(tmp_path / "data"))
        with background(command, tmp_path, variables) as process:
            server_port = int(process.read_until("listens on").rpartition(":")[2].rstrip("/"))
            cable.plug_into(server_port)
            alice, bob = (
                Caller(tmp_path / name, create_identity(tmp_path / name / "key").client_id, through_cable)
                for name in ("alice", "bob")
            )
            yield Place(alice, bob, cable, server_port)


def test_a_call_goes_on_while_the_server_cannot_be_reached(place: Place) -> None:
    alice, bob = place.alice, place.bob
    in_call = ("--device", "phone", "--record", "heard.wav")
    with bob.start("--answer", "--tone", "880", "--seconds", "50", *in_call) as answering:
        answering.read_until("waiting for a call")
        with alice.start(bob.id, "--tone", "660", "--seconds", "10", *in_call) as calling:
            calling.read_until("connected")
            answering.read_until("connected")
            place.cable.pull_out()
            calling.read_until("the call goes on")
            answering.read_until("the call goes on")
            time.sleep(CUT_SECONDS)
            place.cable.plug_into(place.server_port)
            calling.read_until("the server is back")
            answering.read_until("the server is back")
            code, output = calling.finish()
        assert code == 0, output
        code, output = answering.finish()
        assert code == 0, output
        assert "the other side hung up" in output
    assert abs(loudest_hertz(alice.folder / "heard.wav") - 880) <= STEP_HZ
    assert abs(loudest_hertz(bob.folder / "heard.wav") - 660) <= STEP_HZ
