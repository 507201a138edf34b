"""The console that every command prints on: what it is given, whoever wrote it, is text and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from naxcli.errors import printable

LAYOUT = "\n\t"


class SafeConsole(Console):
    """A console without markup, on which text cannot move the cursor, set a title, or change its own direction."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leave it to the command, as where nothing of Rich prints: a reader such as `head` that has seen enough is no failure."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as text whose width is that of what is shown."""
        return super().render_str(printable(text, keep=LAYOUT), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything; a `Text` of any origin passes here too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep=LAYOUT))
