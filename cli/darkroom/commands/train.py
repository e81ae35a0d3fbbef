"""`darkroom train`: shows the plan, then trains and publishes a job on this machine."""

import os
import shlex
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from darkroom.console import complain, print_json, quiet_libraries, rich_console, say
from darkroom.options import examples
from darkroom_api.names import WORK_DIR, WORK_DIR_ENV

if TYPE_CHECKING:
    from darkroom_trainer.driver.run import Prepared, TrainResult
    from darkroom_trainer.progress.snapshot import Progress

EXAMPLES = examples(
    "darkroom train job.yaml --dry-run    # only the plan",
    "darkroom train job.yaml              # Ctrl-C saves; the same command continues",
    "darkroom train job.yaml --restart    # from the beginning",
    "darkroom train job.yaml --json > progress.jsonl",
    "darkroom train job.yaml --metrics-port 9090",
)


def train(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Job file.")],
    work_dir: Annotated[
        Path,
        typer.Option(envvar=WORK_DIR_ENV, help="Folder of checkpoints, caches and class images."),
    ] = Path(WORK_DIR),
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget the checkpoints of an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and change nothing.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve them on.")] = "127.0.0.1",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line: plan, progress, result.")
    ] = False,
) -> None:
    """Train a job and publish its model.

    First shows the plan: photos kept and set aside, steps, class images, memory, time. Interrupted
    by Ctrl-C, SIGTERM or a closed terminal it saves a checkpoint (exit code 130, 143 or 129); the same
    command continues.
    """
    quiet_libraries()
    from darkroom_api.load import load_job
    from darkroom_trainer.driver import run

    job = load_job(file)
    options = run.RunOptions(job_folder=file.resolve().parent, work_dir=work_dir, restart=restart)
    report: Report = JsonReport() if as_json else TextReport(_again(file, work_dir))
    if dry_run:
        report.prepared(run.prepare(job, options))
        return
    with ExitStack() as stack:
        show: list[Callable[[Progress], None]] = [stack.enter_context(closing(report)).progress]
        if metrics_port is not None:
            from darkroom_trainer.progress.prometheus import MetricsServer

            show.append(stack.enter_context(MetricsServer(host, metrics_port)).update)
        result = run.train(
            job,
            options,
            on_progress=_fan_out(show),
            on_prepared=report.prepared,
        )
    report.finished(result)
    if result.stop_signal is not None:
        raise typer.Exit(128 + result.stop_signal)


def _again(file: Path, work_dir: Path) -> str:
    """The command that continues: it names the work folder where it would look in another one."""
    words = ["darkroom", "train", str(file)]
    if work_dir != Path(os.environ.get(WORK_DIR_ENV) or WORK_DIR):
        words += ["--work-dir", str(work_dir)]
    return shlex.join(words)


def _fan_out(listeners: list[Callable[["Progress"], None]]) -> Callable[["Progress"], None]:
    def tell_all(progress: "Progress") -> None:
        for listener in listeners:
            listener(progress)

    return tell_all


class Report(Protocol):
    """Tells how a run goes."""

    def prepared(self, prepared: "Prepared") -> None:
        """Shows the plan."""

    def progress(self, progress: "Progress") -> None:
        """Shows a snapshot."""

    def close(self) -> None:
        """The run ended, well or not."""

    def finished(self, result: "TrainResult") -> None:
        """Shows the result."""


class TextReport:
    """For people."""

    def __init__(self, again: str) -> None:
        """`again` is the command that continues."""
        from darkroom.progress_view import progress_view

        self._again = again
        self._console = rich_console()
        self._view = progress_view(self._console)

    def prepared(self, prepared: "Prepared") -> None:
        """Shows the plan."""
        from darkroom.plan_view import plan_table

        self._registry = prepared.task.registry_root
        self._prompt = prepared.task.job.spec.subject.instance_prompt
        self._console.print(plan_table(prepared))

    def progress(self, progress: "Progress") -> None:
        """Shows a snapshot."""
        self._view.show(progress)

    def close(self) -> None:
        """The run ended, well or not."""
        self._view.close()

    def finished(self, result: "TrainResult") -> None:
        """Shows the model and what to do next."""
        entry = result.entry
        if entry is None:
            complain(_interruption(result))
            complain(f"  {self._again}")
            return
        say(f"model {entry.model_id}, digest {entry.digest[:12]}, is in {_short(entry.folder)}")
        say("next:")
        say(f"  darkroom serve --registry {shlex.quote(_short(self._registry))}")
        say(
            f'  darkroom generate "{self._prompt}" --model {entry.model_id}'
            f" --output {entry.name}.png"
        )


def _interruption(result: "TrainResult") -> str:
    """What stopped a run, and what the same command will find."""
    name = result.stop_signal.name if result.stop_signal else "a request"
    if result.steps == 0:
        return f"stopped by {name} before the first step, with nothing to save; to start again:"
    if result.steps == result.resumed_from:
        return f"stopped by {name} with nothing new since step {result.steps}; to continue:"
    return f"stopped by {name} and saved at step {result.steps}; to continue:"


def _short(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


class JsonReport:
    """For programs: an object a line, told apart by `event`."""

    def prepared(self, prepared: "Prepared") -> None:
        """Prints the plan."""
        from darkroom.plan_view import plan_json

        print_json({"event": "plan", **plan_json(prepared)})

    def progress(self, progress: "Progress") -> None:
        """Prints a snapshot."""
        print_json({"event": "progress", **progress.model_dump(mode="json")})

    def close(self) -> None:
        """Nothing is held."""

    def finished(self, result: "TrainResult") -> None:
        """Prints the result."""
        print_json({"event": "result", **_result_json(result)})


def _result_json(result: "TrainResult") -> dict[str, Any]:
    entry = result.entry
    found: dict[str, Any] = {"status": result.status.value, "steps": result.steps}
    found["resumed_from"] = result.resumed_from
    found["stop_signal"] = result.stop_signal.name if result.stop_signal else None
    if entry is not None:
        found["model"] = entry.model_id
        found |= {"digest": entry.digest, "folder": str(entry.folder)}
    return found
