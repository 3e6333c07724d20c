"""Every attack by its name, in the order of the report: from outside to inside."""

from attack import connections, frames, groups, hoards, identities, messages, web
from attack.target import Attack

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for room in (connections, web, frames, identities, messages, groups, hoards)
    for attack in room.ATTACKS
}
