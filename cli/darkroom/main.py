"""Puts the subcommands together. Heavy imports happen inside the commands, so that --help is quick.

Exit codes: 0 done, 1 the job or request is wrong or failed, 2 wrong usage, and for the signals that ask to
stop 129 SIGHUP, 130 SIGINT, 143 SIGTERM.
"""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from darkroom.commands import (
    apply,
    classify,
    control,
    demo,
    describe,
    doctor,
    evaluate,
    generate,
    import_,
    init,
    lint,
    logs,
    models,
    serve,
    train,
    watch,
)
from darkroom.console import complain, open_streams
from darkroom.errors import explanation
from darkroom.options import examples


class PlainErrors(TyperGroup):
    """Prints the errors that speak to the user without a traceback, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a subcommand."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.TyperException):
            raise
        except typer.Abort as error:  # Ctrl-C at a question
            raise typer.Exit(128 + signal.SIGINT) from error
        except Exception as error:
            message = explanation(error)
            if message is None:
                raise
            complain(message)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=PlainErrors,
    name="darkroom",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is quicker, and keeps the examples as they are
    epilog=examples(
        "darkroom init my-dog.yaml              # asks what it needs",
        "darkroom lint my-dog.yaml              # says what is wrong, and where",
        "darkroom train my-dog.yaml             # shows the plan, trains, publishes",
        "darkroom apply my-dog.yaml             # the same on a cluster",
        "darkroom serve --registry models",
        'darkroom generate "a photo of sks dog in the snow" --model my-dog --output dog.png',
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"darkroom {version('darkroom')}")
        raise typer.Exit


@app.callback()
def darkroom(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Personalise text-to-image diffusion models with a few photos, and serve them."""


app.command(epilog=init.EXAMPLES)(init.init)
app.command(epilog=lint.EXAMPLES)(lint.lint)
app.command("import", epilog=import_.EXAMPLES)(import_.import_model)
app.command(epilog=train.EXAMPLES)(train.train)
app.command(epilog=apply.EXAMPLES)(apply.apply)
app.command(epilog=watch.EXAMPLES)(watch.watch)
app.command(epilog=describe.EXAMPLES)(describe.describe)
app.command(epilog=logs.EXAMPLES)(logs.logs)
app.command(epilog=control.SUSPEND_EXAMPLES)(control.suspend)
app.command(epilog=control.RESUME_EXAMPLES)(control.resume)
app.command(epilog=control.CANCEL_EXAMPLES)(control.cancel)
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.command(epilog=generate.EXAMPLES)(generate.generate)
app.command(epilog=classify.EXAMPLES)(classify.classify)
app.command(epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.add_typer(models.app)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # an impatient second one would leave processes behind
    sys.exit(128 + number)


def main() -> None:
    """Runs the command; a signal to stop unwinds it, so that servers are stopped too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _terminate)
    open_streams()
    plugin = Path(sys.argv[0]).stem == "kubectl-darkroom"  # kubectl finds its plugins by that name
    app(prog_name="kubectl darkroom" if plugin else None)
