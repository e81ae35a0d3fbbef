"""The driver of an attempt, on the head of a running Ray cluster: `python -m darkroom_trainer --job FILE`.

Without `--job` the job is the JSON in the variable `DARKROOM_JOB`. Exits with 0 when the model is
published, with 75 when it was asked to stop and saved, and with 1 otherwise.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from darkroom_api.job import PersonalizationJob
from darkroom_api.load import JobFileError, load_job, parse_job
from darkroom_api.names import JOB_ENV
from darkroom_api.report import Failure
from darkroom_api.status import Reason
from darkroom_trainer.driver.cluster_attempt import (
    EXIT_FAILED,
    MESSAGE_LENGTH,
    run_attempt,
    say_why,
)
from darkroom_trainer.driver.log_copy import copy_output


def main(arguments: list[str] | None = None) -> int:
    """Reads the job and runs it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m darkroom_trainer")
    parser.add_argument("--job", type=Path, metavar="FILE", help=f"job file (default: ${JOB_ENV})")
    file: Path | None = parser.parse_args(arguments).job
    copy_output()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        job = load_job(file) if file is not None else _job_of_environment()
    except JobFileError as error:
        say_why(Failure(reason=Reason.SPEC_INVALID, message=str(error)[:MESSAGE_LENGTH]))
        return EXIT_FAILED
    return run_attempt(job, file.resolve().parent if file is not None else Path.cwd())


def _job_of_environment() -> PersonalizationJob:
    try:
        document = json.loads(os.environ.get(JOB_ENV, "null"))
    except ValueError:
        document = None
    return parse_job(document, source=JOB_ENV)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a download that the driver no longer waits for would keep the process
