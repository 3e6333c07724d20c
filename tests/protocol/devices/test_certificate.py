"""A certificate is good for one device of one client, and every other one is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.crypto.signing import DeviceKey, Identity, parse_public_key
from ironwire.errors import InvalidCertificate
from ironwire.protocol.devices.certificate import (
    CERTIFICATE_BYTES,
    NEVER_MS,
    Certificate,
    decode_certificate,
    issue_certificate,
)
from tests.protocol.devices.vectors import VECTORS, Case, cases
from tests.vectors import devices

ALICE = Identity.from_seed(b"alice".ljust(32))
PHONE = DeviceKey.from_seed(b"phone".ljust(32)).public_key
NOW_MS = 1_790_000_000_000
GOOD = issue_certificate(ALICE, PHONE).encode()


def _accepted(data: bytes, device: str, now_ms: int) -> Certificate:
    certificate = decode_certificate(data)
    certificate.verify(parse_public_key(device), now_ms)
    return certificate


def test_the_file_of_cases_is_what_its_maker_makes() -> None:
    assert devices.FILE.read_text(encoding="utf-8") == devices.text()


@pytest.mark.parametrize("case", cases("certificates"))
def test_a_case(case: Case) -> None:
    data = bytes.fromhex(case["certificate"])
    if case["verdict"] == "ok":
        certificate = _accepted(data, case["device"], case["now"])
        assert certificate.client.client_id == VECTORS["keys"]["alice"]["public"]
        assert certificate.encode() == data
    else:
        with pytest.raises(InvalidCertificate):
            _accepted(data, case["device"], case["now"])


def test_an_identity_makes_the_certificate_of_the_cases() -> None:
    keys, case = VECTORS["keys"], VECTORS["certificates"][0]
    identity = Identity.from_seed(bytes.fromhex(keys["alice"]["seed"]))
    phone = DeviceKey.from_seed(bytes.fromhex(keys["phone"]["seed"]))
    certificate = issue_certificate(identity, phone.public_key)
    assert certificate.encode().hex() == case["certificate"]
    assert certificate.not_after_ms == NEVER_MS


@given(
    st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(0, NEVER_MS), st.integers(0)
)
def test_what_is_issued_is_accepted_until_it_ends(
    identity_seed: bytes, device_seed: bytes, not_after_ms: int, now_ms: int
) -> None:
    device = DeviceKey.from_seed(device_seed).public_key
    certificate = issue_certificate(Identity.from_seed(identity_seed), device, not_after_ms)
    data = certificate.encode()
    assert len(data) == CERTIFICATE_BYTES
    assert decode_certificate(data) == certificate
    if now_ms <= not_after_ms:
        certificate.verify(device, now_ms)
    else:
        with pytest.raises(InvalidCertificate, match="has ended"):
            certificate.verify(device, now_ms)


@given(st.integers(0, CERTIFICATE_BYTES - 1), st.integers(1, 255))
def test_a_certificate_with_another_byte_is_refused(place: int, change: int) -> None:
    changed = bytearray(GOOD)
    changed[place] ^= change
    with pytest.raises(InvalidCertificate):
        _accepted(bytes(changed), PHONE.client_id, NOW_MS)


@given(st.binary(max_size=2 * CERTIFICATE_BYTES) | st.binary(min_size=104, max_size=104).map(lambda raw: b"\1" + raw))
def test_any_bytes_decode_to_what_they_encode_or_are_refused(data: bytes) -> None:
    try:
        certificate = decode_certificate(data)
    except InvalidCertificate:
        return
    assert certificate.encode() == data
