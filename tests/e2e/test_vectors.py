"""The known answers on record are those of the code."""

import pytest

from tests.e2e.vectors import HERE, SUBJECTS, text_of


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_answers_on_record_are_given_today(subject: str) -> None:
    assert (HERE / f"{subject}.json").read_text(encoding="utf-8") == text_of(SUBJECTS[subject]())
