"""Every input that the fuzzers begin with, and every one that ever failed, through its campaign (`fuzz/`)."""

from pathlib import Path

import pytest

from fuzz.campaigns import CAMPAIGNS, Campaign
from fuzz.engine import failure

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


def test_the_same_bug_is_reported_once_and_made_small() -> None:
    ...
