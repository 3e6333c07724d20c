"""Every input that the fuzzers begin with, and every one that ever failed, through its campaign (`fuzz/`)."""

from pathlib import Path

import pytest

from fuzz.campaigns import CAMPAIGNS, Campaign
from fuzz.failure import failure, shrunk

RECORDED = [
    pytest.param(campaign, path, id=f"{campaign.name}/{path.parent.parent.name}/{path.name}")
    for campaign in CAMPAIGNS.values()
    for path in campaign.files()
]


@pytest.mark.parametrize(("campaign", "path"), RECORDED)
def test_an_input_on_record_fails_no_more(campaign: Campaign, path: Path) -> None:
    campaign.one(path.read_bytes())


@pytest.mark.parametrize("campaign", CAMPAIGNS.values(), ids=lambda campaign: campaign.name)
def test_every_campaign_has_inputs_to_begin_with(campaign: Campaign) -> None:
    assert list(campaign.corpus.iterdir())


def divide(data: bytes) -> None:
    if b"=" in data:
        raise ExceptionGroup("of groups", [ExceptionGroup("of one", [ZeroDivisionError(f"in a nursery\n{data!r}")])])


def test_a_failure_has_the_same_name_whatever_the_input() -> None:
    assert failure(divide, b"a=1") == failure(divide, b"=") != failure(divide, b"1")
    assert failure(divide, b"1") is None


def test_a_finding_is_made_as_small_as_it_can_be() -> None:
    assert shrunk(b"what nobody = would write", lambda data: failure(divide, data) is not None) == b"="
