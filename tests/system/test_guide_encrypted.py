"""docs/guide/encrypted.md, executed: a client in a page and our library write to each other on the real server."""

import json
import re
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio

from ironwire.client import ClientId, Identity, create_identity
from tests.system.conftest import Server

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "encrypted.md"
SECONDS = 60.0


def program() -> dict[str, Any]:
    """All blocks of the page as one module."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    return names


def entered(names: dict[str, Any], server: Server, identity: Identity, peer: ClientId) -> Any:
    """A device of the page, which others can add."""
    origin = f"http://127.0.0.1:{server.port}"
    key = Identity.generate()
    session = names["enrol"](f"ws://127.0.0.1:{server.port}/ws", origin, identity, "page", key)
    device = names["Device"](session, identity, key, peer)
    device.publish()
    return device


def read(device: Any) -> str:
    """The next text."""
    while (text := device.take()) is None:
        pass
    return str(text)


def renew_keys(names: dict[str, Any], device: Any) -> None:
    """A commit that changes nothing but keys."""
    said = {"by": device.identity.client_id, "op": "update", "roster": sha256(device.roster).hexdigest()}
    declared = b"IWC1" + json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    commit = names["text64"](device.group.commit(authenticated_data=declared).commit)
    place = {"group": device.conversation, "generation": device.generation}
    assert device.session.ask("mls_commit", **place, commit=commit)["type"] == "accepted"
    take_own_commit(device)


def take_own_commit(device: Any) -> None:
    while device.group.pending is not None:
        device.take()


def test_two_devices_of_the_page_talk_and_find_a_commit_that_was_missed(ironwire_server: Server) -> None:
    names, ann, bob = program(), Identity.generate(), Identity.generate()
    anns = entered(names, ironwire_server, ann, bob.client_id)
    bobs = entered(names, ironwire_server, bob, ann.client_id)
    anns.begin()
    take_own_commit(anns)
    anns.send("Hello, Bob")
    assert read(bobs) == "Hello, Bob"
    renew_keys(names, anns)
    assert bobs.session.next()["type"] == "mls_committed", "and nobody processes it"
    anns.send("Can you read this?")
    assert read(bobs) == "Can you read this?"
    bobs.send("Yes")
    assert read(anns) == "Yes"
    anns.session.close()
    bobs.session.close()


def test_the_page_talks_with_the_library_and_is_added_again(ironwire_server: Server, tmp_path: Path) -> None:
    names, ann = program(), Identity.generate()
    bob = create_identity(tmp_path / "bob.key")
    url, key, store = f"http://127.0.0.1:{ironwire_server.port}", tmp_path / "bob.key", tmp_path / "bob.db"
    device = entered(names, ironwire_server, ann, bob.client_id)
    answers: list[str] = []

    def greet_twice() -> None:
        for _ in range(2):
            answer = trio.run(names["greet"], url, key, store, ann.client_id)
            answers.append(answer)

    library = threading.Thread(target=greet_twice, daemon=True)
    library.start()
    assert read(device) == "Hello"
    device.send("Hello, Bob")
    assert read(device) == "Hello", "in another session of the library"
    lost = device.group
    device.heal(None, "the state was lost")
    while device.group is lost:
        device.take()
    device.send("I am back")
    library.join(SECONDS)
    assert answers == ["Hello, Bob", "I am back"]
    device.session.close()
