"""Jobs and files that are wrong, each with the words it must give; the apiserver refuses the jobs as well."""

from pathlib import Path

import pytest
import yaml

from darkroom_api.load import MAX_FILE_BYTES, JobFileError, load_job, parse_job

TABLE = Path(__file__).parents[1] / "data" / "invalid-jobs.yaml"
JOBS = yaml.safe_load(TABLE.read_text())

QUOTES = "mind the indentation and quotes"
INIT = "write one with: darkroom init"
# The bytes of a file, and what must be said about it.
FILES = {
    "empty": (b"", f"holds 0 documents, not one; {INIT}"),
    "only-a-comment": (b"# later\n", f"holds 0 documents, not one; {INIT}"),
    "two-documents": (
        b"kind: A\n---\nkind: B\n",
        "holds 2 documents, not one; put each job into its own file",
    ),
    "only-text": (b"rex\n", "is a string, not a mapping; start with apiVersion"),
    "a-list": (b"- kind: A\n", "is a list, not a mapping; start with apiVersion"),
    "a-number": (b"800\n", "is a number, not a mapping; start with apiVersion"),
    "open-bracket": (
        b"spec: {training: [1, 2\n",
        f"broken YAML at line 2, column 1: expected ',' or ']', but got '<stream end>'; {QUOTES}",
    ),
    "open-quote": (
        b'kind: "Personal\n',
        f"broken YAML at line 2, column 1: found unexpected end of stream; {QUOTES}",
    ),
    "tab-indentation": (
        b"spec:\n\ttraining: {}\n",
        f"broken YAML at line 2, column 1: found character '\\t' that cannot start any token; {QUOTES}",
    ),
    "wrong-indentation": (
        b"spec:\n  training:\n    maxSteps: 1\n   seed: 2\n",
        "broken YAML at line 4, column 4: expected <block end>, but found '<block mapping start>';"
        f" {QUOTES}",
    ),
    "colon-in-text": (
        b"spec: a: b\n",
        f"broken YAML at line 1, column 8: mapping values are not allowed here; {QUOTES}",
    ),
    "key-twice": (
        b"kind: A\nkind: B\n",
        f"broken YAML at line 2, column 1: the key 'kind' stands twice; {QUOTES}",
    ),
    "key-is-a-list": (
        b"? [a, b]\n: c\n",
        f"broken YAML at line 1, column 3: a key must be a word; {QUOTES}",
    ),
    "unknown-alias": (
        b"spec: *base\n",
        f"broken YAML at line 1, column 7: found undefined alias 'base'; {QUOTES}",
    ),
    "python-tag": (
        b"spec: !!python/object:os.system {}\n",
        "broken YAML at line 1, column 7: could not determine a constructor for the tag"
        f" 'tag:yaml.org,2002:python/object:os.system'; {QUOTES}",
    ),
    "tag-that-lies": (
        b"spec: !!int rex\n",
        f"broken YAML at line 1, column 7: this is no int; {QUOTES}",
    ),
    "number-of-5000-digits": (
        b"spec: [" + b"1" * 5000 + b"]\n",
        f"broken YAML at line 1, column 8: this is no int; {QUOTES}",
    ),
    "too-deep": (b"[" * 5000, f"broken YAML: it is nested too deeply; {QUOTES}"),
    "aliases-that-stand-for-billions": (
        b"- &a0 x\n"
        + b"".join(
            b"- &a%d [%s]\n" % (n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
        ),
        f"broken YAML at line 1, column 1: its aliases stand for more than 100000 values; {QUOTES}",
    ),
    "merges-that-stand-for-billions": (
        b"- &a0 {x: 1}\n"
        + b"".join(
            b"- &a%d {<<: [%s]}\n" % (n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
        ),
        f"broken YAML at line 1, column 1: its aliases stand for more than 100000 values; {QUOTES}",
    ),
    "control-character": (
        b"kind: \x01\n",
        f"broken YAML: special characters are not allowed; {QUOTES}",
    ),
    "bytes": (
        b"kind: !!binary cmV4\n",
        "has no JSON form: Object of type bytes is not JSON serializable;"
        " use text, numbers and lists",
    ),
    "not-a-number": (
        b"kind: .nan\n",
        "has no JSON form: a number is not finite; use text, numbers and lists",
    ),
    "contains-itself": (
        b"kind: &a [*a]\n",
        "has no JSON form: it contains itself; use text, numbers and lists",
    ),
    "latin-1": ("kind: Hündin\n".encode("latin-1"), "is not UTF-8 text; save it as UTF-8"),
    "a-picture": (b"\xff\xd8\xff\xe0", "is not UTF-8 text; save it as UTF-8"),
    "too-large": (
        b"#" * (MAX_FILE_BYTES + 1),
        "is larger than 1 MiB; is this a job file?",
    ),
}


def changed(job, row):
    """The job with the row's values set and removed."""
    for path, value in row.get("set", {}).items():
        parent, last = _parent(job, path)
        parent[last] = value
    for path in row.get("remove", []):
        parent, last = _parent(job, path)
        del parent[last]
    return job


def _parent(job, path):
    *parents, last = path.split(".")
    for name in parents:
        job = job.setdefault(name, {})
    return job, last


def test_there_are_at_least_60_jobs():
    assert len(JOBS) >= 60


@pytest.mark.parametrize("name", JOBS)
def test_a_wrong_job_gives_its_words(small_job, name):
    with pytest.raises(JobFileError) as error:
        parse_job(changed(small_job, JOBS[name]), source="job.yaml")
    assert str(error.value).splitlines() == [f"job.yaml: {line}" for line in JOBS[name]["says"]]


@pytest.mark.parametrize("name", JOBS)
def test_the_apiserver_refuses_it_as_well(apiserver, small_job, name):
    assert apiserver.refusals(changed(small_job, JOBS[name]))


@pytest.mark.parametrize("name", JOBS)
def test_it_gives_the_same_words_from_a_file(tmp_path, small_job, name):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(changed(small_job, JOBS[name])))
    with pytest.raises(JobFileError) as error:
        load_job(path)
    assert [str(problem) for problem in error.value.problems] == JOBS[name]["says"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_job_gives_its_words(tmp_path, name):
    content, words = FILES[name]
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(JobFileError) as error:
        load_job(path)
    assert str(error.value) == f"{path}: {words}"


def test_a_file_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(JobFileError, match="does not exist; write one with: darkroom init"):
        load_job(tmp_path / "job.yaml")


def test_a_folder_is_no_job_file(tmp_path):
    with pytest.raises(JobFileError, match="can't be read: Is a directory; check path and rights"):
        load_job(tmp_path)


def test_text_beyond_unicode_is_refused(small_job):
    small_job["spec"]["subject"]["classNoun"] = "\ud800"
    with pytest.raises(JobFileError):
        parse_job(small_job)
