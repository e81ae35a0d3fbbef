"""`decide` against a small simulated cluster that does what clusters do, in any order.

No exception, nothing runs twice, the same answer for the same state, and an end in sight.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from darkroom_api.names import QUEUE_LABEL
from darkroom_api.report import Failure, RunPhase
from darkroom_api.status import PersonalizationJobStatus, Reason
from darkroom_operator.decisions import attempts
from darkroom_operator.decisions.actions import DeleteJob, Launch, RemoveModel, SetFinalizer, Stop
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import Refusal, RefusalKind, RunState
from darkroom_testing.in_memory.builders import (
    KEY,
    MODEL,
    NOW,
    SETTINGS,
    checkpoint,
    job,
    observed,
    pod,
    report,
    run,
)

TRANSITIONS = []
"""One entry for each step of any machine."""

WORDS = (
    "",
    "worker died",
    "CUDA out of memory",
    "NCCL error: unhandled system error",
    "darkroom: TooFewPhotos: at least 3 photos are needed",
    "darkroom: Preempted: saved step 40",
    "No space left on device",
    "?" * 50,
)
EVIDENCE = (
    "container ray-worker terminated: OOMKilled, exit code 137",
    "PreemptionByScheduler: preempting to accommodate a higher priority pod",
    "DeletionByTaintManager: taint node.kubernetes.io/unreachable",
)
TROUBLE = (
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    "ImagePullBackOff: Back-off pulling image",
    None,
)


class Cluster(RuleBasedStateMachine):
    """One job and its world. The operator acts only when a rule says so, and may be late."""

    def __init__(self):
        super().__init__()
        self.now, self.step, self.saved, self.launches = NOW, 0, 0, []
        self.refuses = False
        self.known = observed(scale={"workers": 2}, runPolicy={"activeDeadlineSeconds": 50_000})

    # The operator.

    @rule()
    def operator_acts(self):
        TRANSITIONS.append("act")
        refused = self.known.refusal
        decision = decide(self.known, self.now, SETTINGS)
        assert decide(self.known, self.now, SETTINGS) == decision
        self.write(decision.status)
        for action in decision.actions:
            self.carry_out(action)
        if self.known.refusal == refused:
            again = decide(self.known, self.now, SETTINGS)
            assert again.status is None
            assert again.actions == ()
            assert again.again_after is not None or self.somebody_else_acts()

    def somebody_else_acts(self):
        """Whether a watch brings this job back, where no time does: no state is one for ever."""
        ended = self.known.job.status.is_over
        suspended = self.known.job.spec.run_policy.suspend
        kueue_or_kuberay = self.alive(RunState.QUEUED) or self.alive(RunState.STOPPING)
        return ended or suspended or kueue_or_kuberay or self.known.pods

    def write(self, status):
        if status is not None:
            text = status.model_dump_json(by_alias=True, exclude_none=True)
            assert PersonalizationJobStatus.model_validate_json(text) == status
            self.change(job=replace(self.known.job, status=status), written=self.now)

    def carry_out(self, action):
        match action:
            case Launch(attempt=name):
                self.launch(name)
            case Stop(run=name, uid=uid):
                assert uid == f"uid-of-{name}"
                self.set_run(name, RunState.STOPPING)
            case SetFinalizer() | RemoveModel() | DeleteJob():
                raise AssertionError(f"nobody asked for {action}")

    def launch(self, name):
        assert [one for one in self.known.runs if not one.state.is_over] == []
        patience = timedelta(seconds=SETTINGS.lost_pod_seconds)
        for leftover in self.known.pods:
            assert leftover.going_until is not None
            assert leftover.going_until + patience <= self.now
        if self.refuses:
            kind, action = RefusalKind.REFUSED, Launch(name)
            refusal = Refusal(kind=kind, action=action, message="no", time=self.now)
            self.change(refusal=refusal)
            return
        self.launches.append(name)
        state = RunState.QUEUED if self.known.job.queue else RunState.STARTING
        pods = () if self.known.job.queue else self.new_pods(name)
        self.step = self.saved
        self.change(
            runs=(*self.known.runs, run(state, name=name)),
            pods=(*self.known.pods, *pods),
            refusal=None,
            evidence=(),
        )

    @rule()
    def operator_restarts(self):
        TRANSITIONS.append("restart")
        self.change(report=None, refusal=None, written=None, evidence=())

    @rule(rounds=st.integers(1, 6))
    def all_goes_well_for_a_while(self, rounds):
        for _ in range(rounds):
            self.operator_acts()
            self.world_works()
            self.now += timedelta(seconds=20)

    # KubeRay, kubelet, Kueue.

    @rule()
    @precondition(lambda self: self.alive(RunState.STARTING))
    def run_starts(self):
        TRANSITIONS.append("start")
        self.set_run(self.alive(RunState.STARTING).name, RunState.RUNNING)

    @rule(trouble=st.sampled_from(TROUBLE))
    @precondition(lambda self: self.known.pods)
    def pods_have_trouble(self, trouble):
        TRANSITIONS.append("trouble")
        self.change(pods=tuple(replace(one, trouble=trouble) for one in self.known.pods))

    @rule(message=st.sampled_from(WORDS), evidence=st.sampled_from([(), *((e,) for e in EVIDENCE)]))
    @precondition(lambda self: self.alive(RunState.RUNNING) or self.alive(RunState.STARTING))
    def run_fails(self, message, evidence):
        TRANSITIONS.append("fail")
        failed = self.alive(RunState.RUNNING) or self.alive(RunState.STARTING)
        self.set_run(failed.name, RunState.FAILED, message)
        self.change(evidence=evidence)
        self.pods_begin_to_go()

    @rule(state=st.sampled_from([RunState.STOPPED, RunState.REFUSED]))
    @precondition(lambda self: self.alive(RunState.STARTING))
    def run_ends_oddly(self, state):
        TRANSITIONS.append("odd")
        self.set_run(self.alive(RunState.STARTING).name, state)
        self.pods_begin_to_go()

    @rule()
    @precondition(lambda self: self.alive(RunState.RUNNING) and self.step >= 800)
    def run_succeeds(self):
        TRANSITIONS.append("succeed")
        name = self.alive(RunState.RUNNING).name
        self.tell(name, RunPhase.FINISHED, model=MODEL)
        self.set_run(name, RunState.SUCCEEDED)
        self.pods_begin_to_go()

    @rule()
    @precondition(lambda self: self.alive(RunState.STOPPING))
    def run_is_gone(self):
        TRANSITIONS.append("gone")
        name = self.alive(RunState.STOPPING).name
        self.change(runs=tuple(one for one in self.known.runs if one.name != name))
        self.pods_begin_to_go()

    @rule()
    @precondition(lambda self: any(one.going_until for one in self.known.pods))
    def pods_are_gone(self):
        TRANSITIONS.append("pods gone")
        self.saved = max(self.saved, self.step)
        self.change(pods=tuple(one for one in self.known.pods if one.going_until is None))

    @rule()
    @precondition(lambda self: self.alive(RunState.QUEUED))
    def kueue_admits(self):
        TRANSITIONS.append("admit")
        name = self.alive(RunState.QUEUED).name
        self.set_run(name, RunState.STARTING)
        self.change(pods=(*self.known.pods, *self.new_pods(name)))

    @rule()
    @precondition(lambda self: self.known.job.queue and self.alive(RunState.RUNNING))
    def kueue_evicts(self):
        TRANSITIONS.append("evict")
        self.set_run(self.alive(RunState.RUNNING).name, RunState.QUEUED)
        self.saved = self.step
        self.change(pods=())

    @rule()
    def launches_are_refused_or_not(self):
        TRANSITIONS.append("refuse")
        self.refuses = not self.refuses

    # The trainer.

    @rule(steps=st.integers(0, 400), save=st.booleans())
    @precondition(lambda self: self.alive(RunState.RUNNING))
    def trainer_reports(self, steps, save):
        TRANSITIONS.append("report")
        self.step = min(800, self.step + steps)
        self.saved = self.step if save else self.saved
        self.tell(self.alive(RunState.RUNNING).name, RunPhase.TRAINING)

    @rule(reason=st.sampled_from(list(Reason)))
    @precondition(lambda self: self.alive(RunState.RUNNING))
    def trainer_gives_up(self, reason):
        TRANSITIONS.append("give up")
        name = self.alive(RunState.RUNNING).name
        self.tell(name, RunPhase.TRAINING, failure=Failure.of(reason=reason, message="why"))
        self.set_run(name, RunState.FAILED, "exit status 1")
        self.pods_begin_to_go()

    def tell(self, name, phase, **fields):
        saved = checkpoint(self.saved) if self.saved else None
        told = report(
            self.step, attempt=name, phase=phase, advanced=self.now, checkpoint=saved, **fields
        )
        self.change(report=told)

    # The user and the clock.

    @rule()
    def user_suspends_or_resumes(self):
        TRANSITIONS.append("suspend")
        suspended = not self.known.job.spec.run_policy.suspend
        self.set_policy(suspend=suspended)

    @rule(limit=st.integers(0, 3))
    def user_changes_the_budget(self, limit):
        TRANSITIONS.append("budget")
        self.set_policy(backoff_limit=limit)

    @rule()
    @precondition(lambda self: any(not one.state.is_over for one in self.known.runs))
    def user_deletes_the_run(self):
        TRANSITIONS.append("delete run")
        alive = next(one for one in self.known.runs if not one.state.is_over)
        self.set_run(alive.name, RunState.STOPPING)

    @rule(seconds=st.sampled_from([1, 5, 30, 300, 700, 4000]))
    def time_passes(self, seconds):
        TRANSITIONS.append("time")
        self.now += timedelta(seconds=seconds)

    # What always holds.

    @invariant()
    def at_most_one_run_is_alive(self):
        assert sum(not one.state.is_over for one in self.known.runs) <= 1

    @invariant()
    def the_status_is_within_its_bounds(self):
        status = self.known.job.status
        assert len(status.attempts) <= attempts.KEPT
        assert [one.end_time for one in status.attempts[:-1]].count(None) == 0
        if status.is_over:
            assert status.completion_time is not None
            assert status.word.is_terminal
        elif status.conditions:
            assert not status.word.is_terminal

    def teardown(self):
        """From wherever it was left: with a world that works, the job comes to its end."""
        self.refuses = False
        self.set_policy(suspend=False)
        for _ in range(400):
            if self.known.job.status.is_over:
                break
            self.operator_acts()
            self.world_works()
            self.now += timedelta(seconds=30)
        assert self.known.job.status.is_over
        self.operator_acts()
        assert all(one.state.is_over or one.state is RunState.STOPPING for one in self.known.runs)

    def world_works(self):
        if self.alive(RunState.STOPPING):
            self.run_is_gone()
        elif any(one.going_until for one in self.known.pods):
            self.pods_are_gone()
        elif self.alive(RunState.QUEUED):
            self.kueue_admits()
        elif self.alive(RunState.STARTING):
            self.run_starts()
        elif self.alive(RunState.RUNNING) and self.step >= 800:
            self.run_succeeds()
        elif self.alive(RunState.RUNNING):
            self.trainer_reports(200, save=True)

    # Small moves.

    def alive(self, state):
        return next((one for one in self.known.runs if one.state is state), None)

    def new_pods(self, name):
        return (pod(f"{name}-head", attempt=name), pod(f"{name}-worker", attempt=name))

    def pods_begin_to_go(self):
        going = self.now + timedelta(seconds=SETTINGS.grace_seconds)
        self.change(
            pods=tuple(
                replace(one, going_until=one.going_until or going) for one in self.known.pods
            )
        )

    def set_run(self, name, state, message=""):
        runs = tuple(
            replace(one, state=state, message=message) if one.name == name else one
            for one in self.known.runs
        )
        self.change(runs=runs)

    def set_policy(self, **fields):
        spec = self.known.job.spec
        policy = spec.run_policy.model_copy(update=fields)
        changed = replace(
            self.known.job,
            spec=spec.model_copy(update={"run_policy": policy}),
            generation=self.known.job.generation + 1,
        )
        self.change(job=changed)

    def change(self, **facts):
        self.known = replace(self.known, **facts)


class QueuedCluster(Cluster):
    """The same with Kueue."""

    def __init__(self):
        super().__init__()
        self.change(job=job(labels={QUEUE_LABEL: "gpus"}, scale={"workers": 2}))


# Without shrinking, which takes minutes here; the steps that are printed can be followed as they are.
LIMITS = settings(
    phases=(Phase.generate,),
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("lives", "transitions"), [(12, 1_000), pytest.param(120, 10_000, marks=pytest.mark.exhaustive)]
)
def test_whatever_happens_in_any_order_all_that_always_holds_does(lives, transitions):
    TRANSITIONS.clear()
    for machine in (Cluster, QueuedCluster):
        run_state_machine_as_test(machine, settings=settings(LIMITS, max_examples=lives))
    assert len(TRANSITIONS) >= transitions
    assert set(TRANSITIONS) == {
        "act", "restart", "start", "trouble", "fail", "odd", "succeed", "gone", "pods gone", "admit",
        "evict", "refuse", "report", "give up", "suspend", "budget", "delete run", "time",
    }  # fmt: skip


def test_the_machine_is_about_the_job_of_the_builders():
    assert Cluster().known.job.key == KEY
    assert Cluster().known.cleanups == ()
