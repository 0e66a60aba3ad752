"""The command ``atofx``: its subcommands, in the order of the help page, and what becomes of errors."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

import atofx
from atofx.cli import bench, compact, compare, diff, explain, inspect, prune, report, train, verify
from atofx.errors import AtofxError


class _Commands(TyperGroup):
    """Turns an error a user can meet into one message on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen subcommand."""
        with warnings.catch_warnings():
            warnings.showwarning = _show
            try:
                return super().invoke(ctx)
            except AtofxError as error:
                typer.echo(f"atofx: {error}", err=True)
                raise typer.Exit(2) from error
            except PermissionError as error:
                typer.echo(f"atofx: no permission to read or write {str(error.filename)!r}", err=True)
                raise typer.Exit(2) from error


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line on stderr, without the line of code it comes from."""
    typer.echo(f"atofx: {message}", err=True)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atofx {atofx.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Structured pruning for PyTorch: find the channels that belong together, drop some, get a smaller model.

    MODEL is a name of the zoo (resnet20), of torchvision (mobilenet_v2), the folder of a Hugging Face BERT, or
    package.module:factory for your own.
    FLOPs are fused multiply-adds counted once, as fvcore and the pruning papers do.
    """


for command in (train, compare, report, inspect, prune, compact, verify, bench, diff, explain):
    app.command(command.__name__.rpartition(".")[2])(command.run)
