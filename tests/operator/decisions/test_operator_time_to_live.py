"""The time to live begins with the decision that ends a job: nothing else brings that job back."""

from dataclasses import replace

import pytest

from darkroom_operator.decisions.actions import DeleteJob
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import RunState
from darkroom_testing.in_memory.builders import (
    NOW,
    SETTINGS,
    observed,
    report,
    run,
    seconds,
    with_status,
)


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.REFUSED])
@pytest.mark.parametrize("ttl", [0, 60])
def test_the_end_says_when_to_look_again(state, ttl):
    known = observed(runPolicy__ttlSecondsAfterFinished=ttl)
    open_ = with_status(known, decide(known, NOW, SETTINGS).status, report=report())
    ended = replace(open_, runs=(run(state),))
    decision = decide(ended, NOW, SETTINGS)
    assert decision.again_after == seconds(ttl)
    over = with_status(ended, decision.status)
    assert decide(over, NOW + decision.again_after, SETTINGS).actions == (DeleteJob(),)
