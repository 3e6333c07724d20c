"""Both signing schemes against published vectors, and every key and signature that has to be refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from ironwire.crypto.signing import (
    AUTH_CONTEXT,
    NONCE_BYTES,
    SEED_BYTES,
    SIGNATURE_BYTES,
    Identity,
    PublicKey,
    auth_text,
    certified_auth_text,
    parse_public_key,
)
from ironwire.errors import InvalidPublicKey, InvalidSignature
from tests.vectors.devices import FILE as DEVICE_CASES

_FIELD_PRIME = 2**255 - 19
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, section 7.1: seed, public key, signed text, signature.
RFC_8032 = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
}

SMALL_ORDER = {
    "order 1": "01" + "00" * 31,
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4": "00" * 32,
    "order 4, negated": "00" * 31 + "80",
    "order 8, first": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, first, negated": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, second": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, second, negated": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}

# y is not reduced (RFC 8032, section 5.1.3, step 1), or x is zero and its sign is set (step 4).
NON_CANONICAL = {
    **{f"y = p + {excess}": (_FIELD_PRIME + excess).to_bytes(32, "little").hex() for excess in range(19)},
    **{
        f"y = p + {excess}, negated": (_FIELD_PRIME + excess + 2**255).to_bytes(32, "little").hex()
        for excess in range(19)
    },
    "x = -0, y = 1": "01" + "00" * 30 + "80",
    "x = -0, y = -1": "ec" + "ff" * 31,
}

ALICE = Identity.from_seed(bytes(range(SEED_BYTES)))


# --- known answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "key", "text", "signature"), RFC_8032.values(), ids=RFC_8032)
def test_rfc_8032(seed: str, key: str, text: str, signature: str) -> None:
    identity = Identity.from_seed(bytes.fromhex(seed))
    assert identity.client_id == key
    assert identity.sign(bytes.fromhex(text)).hex() == signature
    parse_public_key(key).verify(bytes.fromhex(text), bytes.fromhex(signature))


def test_the_text_of_section_3_byte_by_byte() -> None:
    text = auth_text(origin="https://chat.example", nonce=b"\x11" * 32, public_key=b"\x22" * 32, device="phone")
    assert text.hex() == (
        "69726f6e776972652d617574682d763100"  # "ironwire-auth-v1" and a zero byte
        "0014" + "68747470733a2f2f636861742e6578616d706c65"  # 20 bytes: "https://chat.example"
        + "11" * 32
        + "22" * 32
        + "0005" + "70686f6e65"  # 5 bytes: "phone"
    )  # fmt: skip


def test_the_text_of_section_3_without_a_device() -> None:
    text = auth_text(origin="http://é", nonce=b"\x11" * 32, public_key=b"\x22" * 32, device="")
    assert text == b"ironwire-auth-v1\0\x00\x09http://\xc3\xa9" + b"\x11" * 32 + b"\x22" * 32 + b"\0\0"


def test_the_text_of_section_9_byte_by_byte() -> None:
    text = certified_auth_text(
        origin="http://é",
        nonce=b"\x11" * 32,
        public_key=b"\x22" * 32,
        device="phone",
        device_key=b"\x33" * 32,
        log_head=b"\x44" * 32,
    )
    assert text == (
        b"ironwire-auth-v2\0\x00\x09http://\xc3\xa9"
        + b"\x11" * 32
        + b"\x22" * 32
        + b"\x00\x05phone"
        + b"\x33" * 32
        + b"\x44" * 32
    )


@pytest.mark.parametrize("case", json.loads(DEVICE_CASES.read_text(encoding="utf-8"))["auth"])
def test_a_device_signs_the_text_of_the_cases(case: dict[str, str]) -> None:
    text = certified_auth_text(
        origin=case["origin"],
        nonce=bytes.fromhex(case["nonce"]),
        public_key=bytes.fromhex(case["client"]),
        device=case["device"],
        device_key=bytes.fromhex(case["device_key"]),
        log_head=bytes.fromhex(case["log_head"]),
    )
    assert text.hex() == case["text"]
    parse_public_key(case["device_key"]).verify(text, bytes.fromhex(case["signature"]))


def _wycheproof() -> list[Any]:
    folder = Path(os.environ.get("IRONWIRE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))
    path = folder / "wycheproof" / "ed25519_test.json"
    if not path.exists():
        return [pytest.param(None, None, marks=pytest.mark.skip(reason="wycheproof/ed25519_test.json is not here"))]
    groups = json.loads(path.read_text(encoding="utf-8"))["testGroups"]
    return [
        pytest.param(group["publicKey"]["pk"], test, id=f"{test['tcId']} {test['comment']}".strip())
        for group in groups
        for test in group["tests"]
    ]


@pytest.mark.parametrize(("key", "test"), _wycheproof())
def test_wycheproof(key: str, test: dict[str, str]) -> None:
    text, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
    if test["result"] == "valid":
        parse_public_key(key).verify(text, signature)
    else:
        with pytest.raises(InvalidSignature):
            parse_public_key(key).verify(text, signature)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SMALL_ORDER.values(), ids=SMALL_ORDER)
def test_a_key_of_small_order_is_refused(key: str) -> None:
    with pytest.raises(InvalidPublicKey, match="not a usable Ed25519 point"):
        parse_public_key(key)


@pytest.mark.parametrize("key", NON_CANONICAL.values(), ids=NON_CANONICAL)
def test_a_key_in_another_than_its_canonical_encoding_is_refused(key: str) -> None:
    with pytest.raises(InvalidPublicKey, match="not a usable Ed25519 point"):
        parse_public_key(key)


@pytest.mark.parametrize("torsion", [key for key in SMALL_ORDER.values() if key != SMALL_ORDER["order 1"]])
def test_a_key_outside_the_prime_order_group_is_refused(torsion: str) -> None:
    mixed = crypto_core_ed25519_add(ALICE.public_key.raw, bytes.fromhex(torsion))
    with pytest.raises(InvalidPublicKey, match="not a usable Ed25519 point"):
        parse_public_key(mixed.hex())


def test_a_key_that_is_not_on_the_curve_is_refused() -> None:
    with pytest.raises(InvalidPublicKey, match="not a usable Ed25519 point"):
        parse_public_key("02" + "00" * 31)


@pytest.mark.parametrize(
    "token", ["", "ab", "0" * 63, "0" * 65, "g" * 64, " " + "a" * 63, "a" * 64 + "\n", "\u0660" * 64]
)
def test_a_token_that_is_not_64_hex_digits_is_refused(token: str) -> None:
    with pytest.raises(InvalidPublicKey, match="64 hex digits"):
        parse_public_key(token)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_in_either_case_is_one_client(seed: bytes) -> None:
    identity = Identity.from_seed(seed)
    assert parse_public_key(identity.client_id.upper()) == parse_public_key(identity.client_id) == identity.public_key


# --- signatures ------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.binary())
def test_what_a_key_signed_it_verifies(seed: bytes, text: bytes) -> None:
    identity = Identity.from_seed(seed)
    identity.public_key.verify(text, identity.sign(text))


@given(st.binary(), st.integers(0, SIGNATURE_BYTES * 8 - 1))
def test_a_signature_with_one_bit_changed_is_refused(text: bytes, bit: int) -> None:
    changed = int.from_bytes(ALICE.sign(text), "little") ^ (1 << bit)
    with pytest.raises(InvalidSignature):
        ALICE.public_key.verify(text, changed.to_bytes(SIGNATURE_BYTES, "little"))


@given(st.binary())
def test_a_malleable_signature_is_refused(text: bytes) -> None:
    """S + L satisfies the equation as S does; RFC 8032, section 5.1.7, wants S below L."""
    signature = ALICE.sign(text)
    scalar = int.from_bytes(signature[32:], "little") + _GROUP_ORDER
    with pytest.raises(InvalidSignature):
        ALICE.public_key.verify(text, signature[:32] + scalar.to_bytes(32, "little"))


@given(st.binary(max_size=200).filter(lambda signature: len(signature) != SIGNATURE_BYTES))
def test_a_signature_of_another_length_is_refused(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        ALICE.public_key.verify(b"text", signature)


@pytest.mark.parametrize("cut", [0, 1, 32, 63])
def test_a_signature_that_was_cut_or_grew_is_refused(cut: int) -> None:
    for signature in (ALICE.sign(b"text")[:cut], ALICE.sign(b"text") + b"\0" * (cut + 1)):
        with pytest.raises(InvalidSignature):
            ALICE.public_key.verify(b"text", signature)


def test_another_key_or_another_text_is_refused() -> None:
    mallory = Identity.from_seed(b"m" * SEED_BYTES)
    with pytest.raises(InvalidSignature):
        mallory.public_key.verify(b"text", ALICE.sign(b"text"))
    with pytest.raises(InvalidSignature):
        ALICE.public_key.verify(b"text", ALICE.sign(b"test"))


# --- the text of an `auth` -------------------------------------------------------------------------------------------

_fixed = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
_parts = st.fixed_dictionaries(
    {
        "origin": st.text(max_size=80),
        "nonce": _fixed | st.just(bytes(NONCE_BYTES)),
        "public_key": _fixed | st.just(bytes(NONCE_BYTES)),
        "device": st.text(max_size=80),
    }
)


@given(_parts)
def test_the_text_of_an_auth_says_what_went_into_it(parts: dict[str, Any]) -> None:
    """Read back from the front, it gives the parts again: so no two different inputs share a text."""
    rest = auth_text(**parts).removeprefix(AUTH_CONTEXT)
    origin_bytes = int.from_bytes(rest[:2], "big")
    origin, rest = rest[2 : 2 + origin_bytes], rest[2 + origin_bytes :]
    nonce, public_key, rest = rest[:32], rest[32:64], rest[64:]
    device_bytes, device = int.from_bytes(rest[:2], "big"), rest[2:]
    assert len(device) == device_bytes
    assert parts == {
        "origin": origin.decode(),
        "nonce": nonce,
        "public_key": public_key,
        "device": device.decode(),
    }


@given(_parts)
def test_the_text_of_an_auth_is_never_a_bare_challenge(parts: dict[str, Any]) -> None:
    assert len(auth_text(**parts)) > NONCE_BYTES


# --- identities ------------------------------------------------------------------------------------------------------


def test_identities_are_generated_each_for_itself() -> None:
    assert Identity.generate().client_id != Identity.generate().client_id


def test_an_identity_comes_back_from_its_seed() -> None:
    identity = Identity.generate()
    assert Identity.from_seed(identity.seed).client_id == identity.client_id


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidPublicKey, match=f"32 bytes long, not {length}"):
        Identity.from_seed(bytes(length))


def test_the_private_key_is_not_shown() -> None:
    shown = repr(ALICE)
    assert ALICE.seed.hex() not in shown
    assert repr(ALICE.seed) not in shown
    assert shown == f"Identity(public_key=PublicKey(raw={ALICE.client_id[:8]}…))"


def test_a_public_key_knows_its_client_id() -> None:
    assert PublicKey(b"\xab" * 32).client_id == "ab" * 32
