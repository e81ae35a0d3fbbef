"""The causes of failures, over a corpus of what clusters really say."""

from pathlib import Path

import pytest
import yaml

from darkroom_api.status import Reason
from darkroom_operator.decisions.failures import (
    MESSAGE_LENGTH,
    Finding,
    cause_of,
    classify,
    line_at,
    trouble_of,
)

CORPUS = yaml.safe_load((Path(__file__).parent / "data" / "failures.yaml").read_text())
EXITED = "container ray-head terminated: Error, exit code 1"
EVICTED = "EvictionByEvictionAPI: Eviction API: evicting"
OOM = "container ray-worker terminated: OOMKilled, exit code 137"
RAY_LOG = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"


def found_in(text):
    found = classify(text)
    return found.reason.value if found is not None else None


def test_of_sixty_and_more_real_messages_ninety_five_in_a_hundred_are_named_rightly():
    wrong = [
        f"{one['text'][:100]!r}: {found_in(one['text'])}, not {one['reason']}"
        for one in CORPUS
        if found_in(one["text"]) != one["reason"]
    ]
    assert len(CORPUS) >= 60
    assert len(wrong) <= 0.05 * len(CORPUS), "\n".join(wrong)


def test_the_corpus_has_no_message_twice_and_every_kind_of_cause():
    texts = [one["text"] for one in CORPUS]
    assert len(set(texts)) == len(texts)
    assert len({one["reason"] for one in CORPUS}) >= 19


@pytest.mark.parametrize("one", CORPUS, ids=lambda one: f"{one['from']}-{one['reason']}")
def test_the_cause_is_found_in_the_midst_of_a_log(one):
    log = f"{RAY_LOG}step 1 of 800\nstep 2 of 800\n{one['text']}\nkilled\n"
    assert found_in(log) == found_in(one["text"])


def test_the_message_is_the_line_that_gave_it_away():
    text = (
        "before\n  torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB.  \nafter"
    )
    assert classify(text) == Finding(
        Reason.OUT_OF_MEMORY,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB.",
    )


def test_long_lines_are_cut():
    assert len(classify("CUDA out of memory " + "x" * 10_000).message) == MESSAGE_LENGTH


def test_the_last_of_our_own_words_counts():
    text = "darkroom: WorkerDied: first\nmore\ndarkroom: DiskFull: then this\n"
    assert classify(text) == Finding(Reason.DISK_FULL, "then this")


def test_an_unknown_word_of_ours_is_no_word():
    assert classify("darkroom: NoSuchReason: what") is None


@pytest.mark.parametrize(
    ("said", "evidence", "log", "cause"),
    [
        (Reason.TOO_FEW_PHOTOS, (OOM,), "", Reason.TOO_FEW_PHOTOS),
        (Reason.WORKER_DIED, (OOM,), "", Reason.HOST_OUT_OF_MEMORY),
        (None, (EXITED,), "", Reason.WORKER_DIED),
        (None, (EXITED, EVICTED), "", Reason.PREEMPTED),
        (Reason.WORKER_FAILED, (), "", Reason.WORKER_FAILED),
        (Reason.PREEMPTED, (), "", Reason.PREEMPTED),
        (None, (OOM,), "NCCL error: unhandled system error", Reason.HOST_OUT_OF_MEMORY),
        (None, (), "NCCL error: unhandled system error", Reason.COLLECTIVE_FAILED),
        (None, (), "CUDA out of memory", Reason.OUT_OF_MEMORY),
        (None, ("nothing that is known",), "", Reason.WORKER_DIED),
        (None, (), "", Reason.WORKER_DIED),
    ],
)
def test_a_pods_fate_explains_more_than_what_others_met_because_of_it(said, evidence, log, cause):
    words = Finding(said, "its words") if said is not None else None
    assert cause_of(words, evidence, log).reason is cause


def test_what_a_worker_could_not_name_is_named_from_its_words():
    said = Finding(Reason.WORKER_FAILED, "a training worker failed: CUDA out of memory")
    assert cause_of(said, (), "").reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "no node has a free GPU"),
        ("0/3 nodes are available: 3 Insufficient memory.", "lower pods.cpu or pods.memory"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.", "pods.tolerations"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "pods.nodeSelector"),
        ("0/2 nodes are available: 2 node(s) didn't match pod affinity rules.", "placement Pack"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "cordoned"),
    ],
)  # fmt: skip
def test_what_to_do_about_a_pod_that_no_node_takes(text, advice):
    found = trouble_of(None, [text])
    assert found.reason is Reason.UNSCHEDULABLE
    assert advice in found.message


def test_of_several_troubles_one_that_is_known_is_told():
    assert trouble_of(None, []) is None
    assert trouble_of(None, ["something new"]).message == "something new"
    found = trouble_of(None, ["something new", "ErrImagePull: not found"])
    assert found.reason is Reason.IMAGE_PULL_FAILED


@pytest.mark.parametrize(("text", "line"), [("", ""), ("a", "a"), ("a\nb c ", "b c"), ("a\n", "")])
def test_the_last_line_of_a_text(text, line):
    assert line_at(text, len(text)) == line
