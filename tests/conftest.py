"""What holds for the whole suite: a property gets half of the usual examples. `nox -s fuzz` looks longer."""

from hypothesis import settings

settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")
