"""A server that was put back from an older backup, and devices that are further on than it is."""

from trio.testing import MockClock

from ironwire.e2e.conversations.wishes import ChangeMembers, GiveRoles, RenewKeys
from tests.e2e.conversations.model import client_of, open_model


async def test_a_restart_goes_before_what_nobody_can_do_in_the_old_generation(mock_clock: MockClock) -> None:
    """Its commit is refused again and again: the server is in an epoch that the device has left behind."""
    async with open_model() as model:
        alice, bob = model.current["alice.phone"], client_of("bob")
        await model.server.back_up()
        alice.want(model.group, RenewKeys())
        await model.world.until(lambda: model.agree(model.group) and alice.member(model.group).place == (1, 2))
        for name in ("alice.laptop", "alice.phone"):
            await model.current[name].leave()
        alice.want(model.group, GiveRoles({bob: "admin"}))
        await model.new_server(from_backup=True)
        await model.come("alice.phone")
        await model.world.until(lambda: alice.member(model.group).place[0] == 2)
        await model.quiesce()
        assert alice.member(model.group).roster[bob] == "admin"


async def test_a_client_that_the_server_has_forgotten_is_added_after_the_restart(mock_clock: MockClock) -> None:
    async with open_model() as model:
        alice, erin = model.current["alice.phone"], client_of("erin")
        await model.come("erin.phone")
        await model.server.back_up()
        alice.want(model.group, ChangeMembers(add=(erin,)))
        alice.want(model.group, GiveRoles({erin: "admin"}))
        await model.world.until(lambda: alice.member(model.group).roster.get(erin) == "admin")
        await model.world.until(lambda: model.agree(model.group))
        await model.new_server(from_backup=True)
        await model.quiesce()
        assert alice.member(model.group).place[0] == 2
        assert alice.member(model.group).roster[erin] == "admin"
