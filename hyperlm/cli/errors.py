"""How errors and warnings leave the command: explained on standard error, without code."""

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hyperlm.errors import HyperlmError, HyperlmWarning

__all__ = ["Commands", "Debug", "say"]

_DEBUG = "hyperlm.debug"


def say(message: str) -> None:
    """A line on standard error; under torchrun the first process speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(message, err=True)


def _remember(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta[_DEBUG] = wanted
    return wanted


Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_remember,
        is_eager=True,
        help="Show the Python traceback of an error.",
        rich_help_panel="Output",
    ),
]


def _warner(usual: Callable[..., None]) -> Callable[..., None]:
    """``warnings.showwarning`` for the command; other libraries' warnings go the usual way."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, HyperlmWarning):
            say(f"Warning: {message}")
        else:
            usual(message, category, *where, **more)

    return show


class Commands(TyperGroup):
    """The group of sub-commands; errors of all of them end here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warner(warnings.showwarning)
                return super().invoke(ctx)
        except HyperlmError as error:
            self._explain(ctx, f"Error: {error}")
        except KeyboardInterrupt:
            say("Stopped.")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader of a pipe has seen enough; Python would complain once more at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except Exception as error:
            # typer's own (usage, exit, abort) are handled by typer.
            if type(error).__module__.partition(".")[0] in ("typer", "click"):
                raise
            first = str(error).strip().partition("\n")[0]
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                self._explain(
                    ctx,
                    f"Error: {str(error.filename)[:40]}...: longer than names of files can be. Was "
                    "a text given where a file, a folder or a name belongs?",
                )
                raise typer.Exit(1) from None
            self._explain(
                ctx,
                f"Error: {type(error).__name__}: {first}\nhyperlm did not expect this; please "
                "report it with what --debug shows.",
            )
        raise typer.Exit(1)

    @staticmethod
    def _explain(ctx: Any, message: str) -> None:
        if ctx.meta.get(_DEBUG):
            traceback.print_exc()
        say(message)
