"""The result of a check. Rule: a finding that is not OK has a remedy."""

from enum import IntEnum

from attrs import frozen


class Verdict(IntEnum):
    """In order of gravity. Only `FAIL` gives the command its exit code."""

    OK = 0
    WARN = 1
    FAIL = 2


@frozen
class Finding:
    """One line of the doctor's report. `remedy` is empty where all is well."""

    check: str
    verdict: Verdict
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, Verdict.OK, what)


def warn(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARN, what, remedy)


def fail(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, Verdict.FAIL, what, remedy)
