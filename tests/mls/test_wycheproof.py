"""Wycheproof's cases against the primitives, as `ironwire.mls.suite` calls them."""

from typing import Any

import pytest

from ironwire.errors import MLSError
from ironwire.mls import suite
from tests.mls.vectors import FOLDER, load

raw = bytes.fromhex
Case = dict[str, Any]


def cases(name: str) -> list[Any]:
    path = f"wycheproof/{name}_test.json"
    if not (FOLDER / path).exists():
        return [pytest.param({}, {}, marks=pytest.mark.skip(reason=f"{path} is not here"))]
    return [
        pytest.param(group, case, id=f"{case['tcId']} {case['comment']}".strip())
        for group in load(path)["testGroups"]
        for case in group["tests"]
    ]


@pytest.mark.parametrize(("group", "case"), cases("chacha20_poly1305"))
def test_chacha20_poly1305(group: Case, case: Case) -> None:
    key, nonce, associated = raw(case["key"]), raw(case["iv"]), raw(case["aad"])
    if len(nonce) != suite.NONCE_BYTES:
        pytest.skip("a nonce of another length, which MLS never makes")
    sealed = raw(case["ct"] + case["tag"])
    if case["result"] == "valid":
        assert suite.unseal(key, nonce, associated, sealed) == raw(case["msg"])
        assert suite.seal(key, nonce, associated, raw(case["msg"])) == sealed
    else:
        with pytest.raises(MLSError):
            suite.unseal(key, nonce, associated, sealed)


@pytest.mark.parametrize(("group", "case"), cases("x25519"))
def test_x25519(group: Case, case: Case) -> None:
    """Every shared secret is the right one, except for that of zeros, which is refused."""
    private, public, shared = raw(case["private"]), raw(case["public"]), raw(case["shared"])
    if any(shared):
        assert suite.diffie_hellman(private, public) == shared
    else:
        with pytest.raises(MLSError, match="small order"):
            suite.diffie_hellman(private, public)


@pytest.mark.parametrize(("group", "case"), cases("hkdf_sha256"))
def test_hkdf(group: Case, case: Case) -> None:
    if case["result"] == "valid":
        secret = suite.extract(raw(case["salt"]), raw(case["ikm"]))
        assert suite.expand(secret, raw(case["info"]), case["size"]).hex() == case["okm"]
    else:
        with pytest.raises(MLSError):
            suite.expand(raw(case["ikm"]), raw(case["info"]), case["size"])
