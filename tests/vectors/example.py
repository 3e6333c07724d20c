"""The worked example of docs/protocol.md, section 10.8: `python -m tests.vectors.example` prints it.

Alice's laptop begins an encrypted conversation with Bob's phone and says one thing. Everything that is random in it is
counted, so it is the same in every run. Where it changes, so has the protocol.
"""

import hashlib

from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.e2e.bodies import TextBody
from ironwire.e2e.content import Content, encode_content
from ironwire.e2e.conversations.policy import ROSTER_EXTENSION, roster_extension
from ironwire.ids import ClientId, MessageId, Role
from ironwire.mls import Application, Lifetime, MLSGroup, Policy, make_key_package
from ironwire.protocol.conversations.declaration import Declaration, encode_roster, roster_hash
from ironwire.protocol.conversations.names import Generation, pair_id
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, sign_entry
from ironwire.protocol.devices.safety import EPOCH_SECRET_BYTES, epoch_code, in_groups, safety_number
from ironwire.wire.base64url import to_base64url
from tests.mls.crew import counted_randomness

NOW_MS = 1_790_000_000_000
LIFETIME = Lifetime(NOW_MS // 1000, NOW_MS // 1000 + 89 * 86_400)


def example() -> dict[str, str]:
    """Name and value, in the order in which things happen."""
    alice, bob = Identity.from_seed(b"a" * 32), Identity.from_seed(b"b" * 32)
    laptop, phone = DeviceKey.from_seed(b"A" * 32), DeviceKey.from_seed(b"B" * 32)
    certificate = issue_certificate(alice, laptop.public_key).encode()
    log = DeviceLog(alice.public_key)
    entry = sign_entry(alice, log.next_entry(LogOp.ADD, [laptop.public_key], time_ms=NOW_MS, is_owner=True))
    conversation = pair_id(alice.client_id, bob.client_id)
    group_id = Generation(conversation, 1).group_id(bytes(range(12)))
    roster: dict[ClientId, Role] = {alice.client_id: "admin", bob.client_id: "admin"}
    declared = Declaration(
        by=alice.client_id,
        op="members",
        add=(bob.client_id,),
        roles={bob.client_id: "admin"},
        roster=roster_hash(roster),
    )
    with counted_randomness():
        offered = make_key_package(phone, issue_certificate(bob, phone.public_key).encode(), LIFETIME)
        own = make_key_package(laptop, certificate, LIFETIME)
        group = MLSGroup.create(laptop, group_id, own, Policy())
        made = group.commit(
            add=[offered.public], authenticated_data=declared.encode(), info_extensions=roster_extension(roster)
        )
        group.process(made.commit)
        said = encode_content(Content(MessageId("9f2c"), NOW_MS, TextBody("Hello, Bob")))
        message = group.encrypt(said)
        joined, info = MLSGroup.join(phone, offered, made.welcome, Policy())
    opened = joined.process(message)
    assert isinstance(opened, Application)
    assert (opened.data, info.extensions[ROSTER_EXTENSION]) == (said, encode_roster(roster))
    assert joined.authenticator() == group.authenticator()
    return {
        "Alice's identity key, seed": (b"a" * 32).hex(),
        "her client id": alice.client_id,
        "Bob's client id (seed b)": bob.client_id,
        "her laptop's key (seed A)": laptop.public_key.raw.hex(),
        "Bob's phone's key (seed B)": phone.public_key.raw.hex(),
        "certificate": certificate.hex(),
        "log entry": entry.entry.encode().hex(),
        "its signature": entry.signature.hex(),
        "head of the log": entry.head.hash.hex(),
        "safety number": in_groups(safety_number(alice.client_id, bob.client_id)),
        "conversation": conversation,
        "id of the MLS group": group_id.hex(),
        "roster": encode_roster(roster).hex(),
        "declaration": declared.encode().decode(),
        "key package of the phone": _named(offered.public),
        "commit": to_base64url(made.commit),
        "welcome": _named(made.welcome),
        "epoch code": in_groups(epoch_code(group.export("ironwire epoch", b"", EPOCH_SECRET_BYTES))),
        "plaintext": said.decode(),
        "message": to_base64url(message),
    }


def _named(data: bytes) -> str:
    """What is long, by its size and its hash."""
    return f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


if __name__ == "__main__":
    for name, value in example().items():
        print(f"{name:26}  {value}")
