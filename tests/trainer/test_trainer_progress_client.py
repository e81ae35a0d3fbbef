"""Reports on their way to a real HTTP server that is busy, asleep, strict or gone."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from darkroom_api.names import PROGRESS_TOKEN_FILE_ENV, PROGRESS_URL_ENV
from darkroom_api.report import ProgressReport, RunPhase
from darkroom_trainer.driver import operator_client
from darkroom_trainer.driver.operator_client import Endpoint, ProgressClient


def report(step, second=0):
    return ProgressReport.of(
        phase=RunPhase.TRAINING, step=step, max_steps=9, time=f"2026-01-01T00:00:{second:02}Z"
    )


class Operator:
    """Answers with the codes of a list, then with 204; remembers what came."""

    def __init__(self):
        self.answers, self.came = [], []
        operator = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code, retry_after = operator.answers.pop(0) if operator.answers else (204, None)
                seen = ProgressReport.model_validate_json(body)
                came = (code, seen.step, self.headers["Authorization"], self.client_address[1])
                operator.came.append((*came, time.monotonic()))
                self.send_response(code)
                if retry_after is not None:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/jobs/a/b/attempts/1/progress"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def steps(self):
        return [(code, step) for code, step, *_ in self.came]

    def wait_for(self, number):
        end = time.monotonic() + 20
        while len(self.came) < number and time.monotonic() < end:
            time.sleep(0.02)
        assert len(self.came) >= number


@pytest.fixture
def soon(monkeypatch):
    """Waits that are no part of what a test shows are short."""
    monkeypatch.setattr(operator_client, "INTERVAL_S", 0.05)
    monkeypatch.setattr(operator_client, "LAST_BACKOFF_S", 0.1)


@pytest.fixture
def operator():
    operator = Operator()
    yield operator
    operator.server.shutdown()
    operator.server.server_close()


def test_one_report_a_second_and_the_newest_wins(operator):
    client = ProgressClient(Endpoint(operator.url, None))
    client.tell(report(1))
    operator.wait_for(1)
    for step in (2, 3, 4):
        client.tell(report(step))
    client.close(10)
    assert operator.steps == [(204, 1), (204, 4)]
    first, second = operator.came
    assert second[-1] - first[-1] >= 1
    assert first[3] != second[3], "each report has a connection of its own"


@pytest.mark.usefixtures("soon")
def test_a_report_that_says_only_a_new_time_is_not_sent(operator):
    client = ProgressClient(Endpoint(operator.url, None))
    client.tell(report(1))
    operator.wait_for(1)
    client.tell(report(1, second=5))
    client.close(5)
    assert operator.steps == [(204, 1)]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_operator_and_a_standby_are_asked_again_when_they_say(operator, code):
    operator.answers = [(code, "1")]
    client = ProgressClient(Endpoint(operator.url, None))
    client.tell(report(1))
    operator.wait_for(2)
    client.close(5)
    assert operator.steps == [(code, 1), (204, 1)]
    assert operator.came[1][-1] - operator.came[0][-1] >= 1


@pytest.mark.usefixtures("soon")
def test_the_last_report_does_not_wait_out_a_long_pause(operator):
    operator.answers = [(503, "600")]
    client = ProgressClient(Endpoint(operator.url, None))
    client.tell(report(1))
    operator.wait_for(1)
    client.tell(report(2))
    client.close(10)
    assert operator.steps == [(503, 1), (204, 2)]


@pytest.mark.usefixtures("soon")
def test_an_invalid_report_is_not_sent_again(operator):
    operator.answers = [(422, None)]
    client = ProgressClient(Endpoint(operator.url, None))
    client.tell(report(1))
    operator.wait_for(1)
    client.tell(report(2))
    client.close(10)
    assert operator.steps == [(422, 1), (204, 2)]


@pytest.mark.usefixtures("soon")
def test_a_run_whose_job_is_deleted_with_its_model_is_told_so_and_says_no_more(operator):
    operator.answers = [(410, None)]
    client = ProgressClient(Endpoint(operator.url, None))
    assert not client.unwanted
    client.tell(report(1))
    operator.wait_for(1)
    client.tell(report(2))
    client.close(10)
    assert client.unwanted
    assert operator.steps == [(410, 1)]


@pytest.mark.usefixtures("soon")
def test_the_token_is_read_for_each_report(operator, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("old\n")
    monkeypatch.setenv(PROGRESS_URL_ENV, operator.url)
    monkeypatch.setenv(PROGRESS_TOKEN_FILE_ENV, str(token))
    client = ProgressClient.from_environment()
    client.tell(report(1))
    operator.wait_for(1)
    token.write_text("new\n")
    client.tell(report(2))
    client.close(10)
    assert [came[2] for came in operator.came] == ["Bearer old", "Bearer new"]


@pytest.mark.usefixtures("soon")
def test_a_dead_operator_and_a_missing_token_cost_the_run_nothing(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/progress"
        for token in (None, tmp_path / "missing"):
            client = ProgressClient(Endpoint(url, token))
            began = time.monotonic()
            client.tell(report(1))
            assert time.monotonic() - began < 0.5
            client.close(1.5)
            assert time.monotonic() - began < 4


def test_without_an_address_there_is_no_client(monkeypatch):
    monkeypatch.delenv(PROGRESS_URL_ENV, raising=False)
    assert ProgressClient.from_environment() is None
