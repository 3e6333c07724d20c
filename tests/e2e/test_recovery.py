"""The recovery code, docs/between-devices.md, section 11.1."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.e2e.recovery import CODE_BYTES, RecoveryCode, parse_recovery_code
from ironwire.errors import InvalidRecoveryCode
from tests.e2e.vectors import recorded

raws = st.binary(min_size=CODE_BYTES, max_size=CODE_BYTES)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(raws)
def test_a_code_is_read_as_it_was_written(raw: bytes) -> None:
    code = RecoveryCode(raw)
    groups = code.text.split("-")
    assert [len(group) for group in groups] == [4] * 9
    assert set("".join(groups)) <= set(CROCKFORD)
    assert parse_recovery_code(code.text) == code


@given(raws, st.data())
def test_people_may_write_it_in_their_own_way(raw: bytes, data: st.DataObject) -> None:
    code = RecoveryCode(raw)
    written = ""
    for character in code.text.replace("-", ""):
        likes = {"0": "0Oo\uff10", "1": "1IiLl"}.get(character, character + character.lower())
        written += data.draw(st.sampled_from(likes)) + data.draw(
            st.sampled_from(["", "", " ", "-", "\n", "\u2013", "\xa0"])
        )
    assert parse_recovery_code(written) == code


@given(raws, st.data())
def test_one_wrong_character_is_noticed(raw: bytes, data: st.DataObject) -> None:
    text = RecoveryCode(raw).text.replace("-", "")
    place = data.draw(st.integers(0, 31))
    other = data.draw(st.sampled_from(sorted(set(CROCKFORD) - {text[place]})))
    try:
        found = parse_recovery_code(text[:place] + other + text[place + 1 :])
    except InvalidRecoveryCode as error:
        assert "fit together" in str(error)  # noqa: PT017  # one in a million fits by chance
    else:
        assert found.raw != raw


@given(st.text(max_size=60))
def test_any_text_is_a_code_or_refused_in_words(text: str) -> None:
    try:
        parse_recovery_code(text)
    except InvalidRecoveryCode as error:
        assert str(error).isprintable()  # noqa: PT017  # for any text at all


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "36, and not 0"),
        ("0000-0000-0000-0000-0000-0000-0000-0000", "ninth group .* is missing"),
        ("0000-0000-0000-0000-0000-0000-0000-0000-000", "36, and not 35"),
        ("0000-00U0", "'U' in group 2 .* perhaps V"),
        ("0000-0000-0?", r"'\?' in group 3"),
        ("0000-0000-0000-0000-0000-0000-0000-0000-0000", "wrong"),
    ],
)
def test_the_refusal_says_what_to_look_at(text: str, said: str) -> None:
    with pytest.raises(InvalidRecoveryCode, match=said):
        parse_recovery_code(text)


@pytest.mark.parametrize("case", recorded("recovery"), ids=lambda case: case["text"][:30] or "empty")
def test_known_codes(case: dict[str, Any]) -> None:
    if "refused" in case:
        with pytest.raises(InvalidRecoveryCode):
            parse_recovery_code(case["text"])
        return
    code = parse_recovery_code(case["text"])
    assert (code.raw.hex(), code.backup_id, code.backup_key.hex()) == (case["raw"], case["id"], case["key"])


def test_codes_are_new_and_not_shown_by_accident() -> None:
    codes = [RecoveryCode.generate() for _ in range(10)]
    assert len(set(codes)) == len({code.backup_id for code in codes}) == 10
    assert codes[0].raw.hex() not in repr(codes[0])
    assert codes[0].text not in repr(codes[0])
