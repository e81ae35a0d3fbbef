"""How kopf works for the operator: it hands on what watches bring, and copies and writes nothing."""

import kopf
import pytest

from darkroom_operator.cluster.client import PAGE_SIZE
from darkroom_operator.settings import Settings
from darkroom_operator.watches import kopf_settings


@pytest.fixture
def settings():
    return kopf_settings(Settings())


def test_kopf_compares_nothing_and_stores_nothing(settings):
    body = kopf.Body({"metadata": {"name": "rex"}, "spec": {"scale": {"workers": 2}}})
    patch, storage = kopf.Patch(), settings.persistence.diffbase_storage
    essence = storage.build(body=body, extra_fields=["spec"])
    storage.store(body=body, patch=patch, essence=essence)
    assert (essence, storage.fetch(body=body), dict(patch)) == ({}, None, {})


def test_lists_are_read_in_small_pages_and_dealt_with_at_once(settings):
    """With a limit on the workers, what they have not come to yet would pile up in memory."""
    assert settings.watching.chunk_size == PAGE_SIZE
    assert settings.queueing.worker_limit is None
