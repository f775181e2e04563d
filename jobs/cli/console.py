"""Decides how text of the commands gets to the terminal: as it is, neither wrapped nor coloured."""

from rich.console import Console

OUT = Console()
ERR = Console(stderr=True)


def print_plain(text: str, console: Console = OUT) -> None:
    """Print text as it is: not wrapped, coloured or read as markup."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)
