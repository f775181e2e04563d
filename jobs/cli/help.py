"""Decides how `--help` looks and how a wrong command line is reported.

Help is plain text in two columns, at most 120 characters wide, in which no name of an option is
ever cut. A wrong command line is one line on stderr and exit code 2.
"""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

CONTEXT = {"max_content_width": 120}
"""Settings of every command."""
PLAIN: Any = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": CONTEXT,
}
"""Of every `typer.Typer`: help as it is written here, and no option for shell completion."""
EXIT_CODES = """\
\b
Exit codes:
  0    every input row has an output row, even if some failed (but not all)
  1    the run could not be finished; the same command continues it
  2    the configuration or the input must be fixed
  3    more rows failed than --max-error-rate allows, or all that were tried
  130  interrupted from the keyboard; the same command continues it
"""
"""For the end of the help; the first line keeps the others as they are."""


POSSIBLE = re.compile(r" \(Possible options: (.*)\)")


class PlainCommand(TyperCommand):
    """A command whose help shows its options under the headings that they name.

    Contexts and formatters have the type Any, since typer does not export its own copy of click.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The arguments without the braces that typer (0.29) puts around them."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options, and those under a heading of their own."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            name, text = parameter.get_help_record(ctx) or ("", "")
            heading = getattr(parameter, "rich_help_panel", None) or "Options"
            if parameter.param_type_name == "argument":
                heading, name = "Arguments", str(parameter.metavar)
            sections.setdefault(heading, []).append((name, text))
        for heading, lines in sections.items():
            with formatter.section(heading):
                formatter.write_dl(lines)


class PlainGroup(TyperGroup):
    """A group of commands whose help shows the first lines of theirs in full."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names of the commands, and what each one does."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        lines = [(name, one.get_short_help_str(limit=1000)) for name, one in commands if one]
        with formatter.section("Commands"):
            formatter.write_dl(lines)


def fault_of(error: typer.TyperException) -> str:
    """What is wrong with a command line, in one line that names the command's help."""
    context = getattr(error, "ctx", None)
    text = error.format_message().rstrip(".")
    text = text.replace("Value error, ", "").replace(": Input", ": input")
    text = POSSIBLE.sub(r", did you mean \1", text)
    help_ = f"; see {context.command_path} --help" if context else ""
    return f"{text[:1].lower()}{text[1:]}{help_}"
