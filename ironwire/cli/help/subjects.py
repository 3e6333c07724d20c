"""Options by subject: a command with more of them than anybody reads shows the common ones, and all when asked."""

from collections.abc import Iterable, Iterator
from typing import Any

import click


class SubjectOption(click.Option):
    """An option that belongs to a subject; a common one is in the short help."""

    def __init__(self, *args: Any, subject: tuple[str, str], is_common: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subject = subject
        """A heading, and what it means in a few words."""
        self.is_common = is_common


class HelpAll(click.Option):
    """`--help-all`, which every command with subjects has."""

    def __init__(self) -> None:
        super().__init__(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_all,
            help="Show every option, by subject.",
        )


class SubjectCommand(click.Command):
    """A command whose help has its `SubjectOption`s by subject."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(HelpAll())

    def subjects(self) -> dict[tuple[str, str], list[SubjectOption]]:
        """The options of each subject."""
        found: dict[tuple[str, str], list[SubjectOption]] = {}
        for param in self.params:
            if isinstance(param, SubjectOption):
                found.setdefault(param.subject, []).append(param)
        return found

    def plain_params(self) -> list[click.Parameter]:
        """The options that belong to no subject."""
        return [param for param in self.params if not isinstance(param, SubjectOption)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Options"):
            formatter.write_dl(records([*self.plain_params(), self.get_help_option(ctx)], ctx))
        if ctx.meta.get(_ALL):
            for (heading, sentence), options in self.subjects().items():
                with formatter.section(f"{heading}: {sentence}"):
                    formatter.write_dl(records(options, ctx))
            return
        common = [option for options in self.subjects().values() for option in options if option.is_common]
        with formatter.section("Common settings"):
            formatter.write_dl(records(common, ctx))
        with formatter.section(f"All settings, shown by `{ctx.command_path} --help-all`"):
            formatter.write_dl(
                [(heading, f"{sentence}  [{len(options)}]") for (heading, sentence), options in self.subjects().items()]
            )


_ALL = "ironwire.cli.help.subjects.all"


def _show_all(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


def records(params: Iterable[click.Parameter | None], ctx: click.Context) -> list[tuple[str, str]]:
    """The lines of the help about options."""

    def shown() -> Iterator[tuple[str, str]]:
        for param in params:
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                yield record

    return list(shown())
