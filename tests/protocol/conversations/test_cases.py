"""The rules of encrypted conversations against the cases in tests/vectors/conversations, for every implementation."""

import json
from pathlib import Path
from typing import Any

import pytest

from ironwire.errors import InvalidDeclaration
from ironwire.ids import ClientId, ConversationId, GroupId, Role
from ironwire.protocol.conversations.declaration import (
    Declaration,
    decode_declaration,
    decode_roster,
    encode_roster,
    roster_hash,
)
from ironwire.protocol.conversations.membership import (
    AddedLeaf,
    Checked,
    ConversationState,
    Logs,
    Proposed,
    RemovedLeaf,
    check,
    check_first,
)
from ironwire.protocol.conversations.names import Generation, pair_id
from ironwire.protocol.conversations.slots import Leaf, Slots, change_slots
from ironwire.protocol.group import ChangeRefused
from tests import vectors

CASES = Path(vectors.__file__).parent / "conversations"
NAME = "1" * 64


def read_cases(name: str) -> Any:
    return json.loads((CASES / name).read_text(encoding="utf-8"))


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


# --- the short forms of the files ------------------------------------------------------------------------------------


def client_of(letter: str) -> ClientId:
    return ClientId(letter * 64)


def leaf_of(text: str) -> Leaf:
    return Leaf(client_of(text[0]), bytes.fromhex(text[-2:] * 32))


def slots_of(texts: list[str | None]) -> Slots:
    return tuple(None if text is None else leaf_of(text) for text in texts)


def roster_of(roles: dict[str, Role]) -> dict[ClientId, Role]:
    return {client_of(letter): role for letter, role in roles.items()}


def conversation_of(text: str) -> ConversationId:
    if text == "group":
        return GroupId("#" + "0" * 32)
    return pair_id(client_of(text[-2]), client_of(text[-1]))


def roster_after(case: dict[str, Any]) -> dict[ClientId, Role]:
    """The roster whose hash the commit declares: nothing else is wrong with one that is refused."""
    said = case["declared"]
    if "roster" in said or "after" in case:
        return roster_of(said["roster"] if "roster" in said else case["after"]["roster"])
    roles = {**case.get("roster", {said["by"]: "admin"}), **dict.fromkeys(said.get("add", ()), "member")}
    roles |= said.get("roles", {})
    return roster_of({client: role for client, role in roles.items() if client not in said.get("remove", ())})


def declaration_of(case: dict[str, Any]) -> Declaration:
    said = case["declared"]
    return Declaration(
        by=client_of(said["by"]),
        op=said["op"],
        add=tuple(map(client_of, said.get("add", ()))),
        remove=tuple(map(client_of, said.get("remove", ()))),
        roles=roster_of(said.get("roles", {})),
        name=NAME if "name" in said else None,
        roster=roster_hash(roster_after(case)),
        re=said.get("re"),
    )


def proposal_of(text: dict[str, Any]) -> Proposed:
    return AddedLeaf(leaf_of(text["add"])) if "add" in text else RemovedLeaf(text["remove"])


def logs_of(case: dict[str, Any]) -> Logs:
    devices = {
        client_of(letter): {leaf_of(letter + name).device for name in names} for letter, names in case["logs"].items()
    }
    dropped = {leaf_of(text) for text in case["dropped"]} if "dropped" in case else None
    left = {client_of(letter) for letter in case["left"]} if "left" in case else None
    return Logs(devices, dropped, left)


# --- the cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", named(read_cases("slots.json")))
def test_slots(case: dict[str, Any]) -> None:
    slots: Slots = ()
    for step in case["steps"]:
        slots = change_slots(slots, step.get("remove", ()), map(leaf_of, step.get("add", ())))
        assert slots == slots_of(step["slots"])


@pytest.mark.parametrize("case", named(read_cases("membership.json")))
def test_membership(case: dict[str, Any]) -> None:
    conversation = conversation_of(case.get("conversation", "group"))
    after = case.get("after")
    proposals, logs, slots = [proposal_of(text) for text in case["proposals"]], logs_of(case), slots_of(case["slots"])
    declared = declaration_of(case)
    assert decode_declaration(declared.encode()) == declared
    if "roster" in case:
        before = ConversationState(conversation, slots, roster_of(case["roster"]))
        outcome = check(declared, proposals, case["committer"], before, logs, has_path=case["path"])
    else:
        last = roster_of(case["last_roster"]) if "last_roster" in case else None
        (creator,) = slots
        assert creator is not None
        outcome = check_first(declared, proposals, creator, conversation, logs, last, has_path=case["path"])
    if after is None:
        assert isinstance(outcome, ChangeRefused)
        assert outcome.code == case["refused"]
    else:
        assert isinstance(outcome, Checked), outcome
        assert (outcome.slots, outcome.roster) == (slots_of(after["slots"]), roster_of(after["roster"]))
        removed = [slots[each.index] for each in proposals if isinstance(each, RemovedLeaf)]
        assert [*outcome.removed] == removed
        assert [*outcome.added] == [each.leaf for each in proposals if isinstance(each, AddedLeaf)]


ENCODINGS = read_cases("encodings.json")


@pytest.mark.parametrize("case", named(ENCODINGS["declarations"]))
def test_declarations(case: dict[str, Any]) -> None:
    said = {**case["declared"]}
    declared = Declaration(**{**said, "add": tuple(said.get("add", ())), "remove": tuple(said.get("remove", ()))})
    assert declared.encode() == case["encoded"].encode()
    assert decode_declaration(case["encoded"].encode()) == declared


@pytest.mark.parametrize("case", named(ENCODINGS["invalid_declarations"]))
def test_invalid_declarations(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeclaration):
        decode_declaration(case["encoded"].encode())


@pytest.mark.parametrize("case", named(ENCODINGS["rosters"]))
def test_rosters(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    assert encode_roster(case["roster"]) == encoded
    assert decode_roster(encoded) == case["roster"]
    assert roster_hash(case["roster"]) == case["sha256"]


@pytest.mark.parametrize("case", named(ENCODINGS["invalid_rosters"]))
def test_invalid_rosters(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeclaration):
        decode_roster(bytes.fromhex(case["encoded"]))


@pytest.mark.parametrize("case", ENCODINGS["pairs"])
def test_pairs(case: dict[str, Any]) -> None:
    one, other = case["clients"]
    assert pair_id(one, other) == pair_id(other, one) == case["id"]


@pytest.mark.parametrize("case", ENCODINGS["group_ids"])
def test_group_ids(case: dict[str, Any]) -> None:
    generation = Generation(case["conversation"], case["generation"])
    group_id = bytes.fromhex(case["group_id"])
    assert generation.group_id(bytes.fromhex(case["random"])) == group_id
    assert generation.is_named_by(group_id)
    for other in case["others"]:
        assert not generation.is_named_by(bytes.fromhex(other))
