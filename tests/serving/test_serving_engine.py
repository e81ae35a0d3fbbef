"""One engine for all requests: they share passes, and nobody's picture depends on the others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom_sampling.samplers import Sampler
from darkroom_serving.engine import batching
from darkroom_serving.engine.batching import BatchingEngine
from darkroom_serving.engine.padding import padded, rows_of_a_pass
from darkroom_serving.engine.requests import DrawRequest, NotFiniteError, StoppedError
from darkroom_serving.engine.turns import Work, first_due, least_served, with_groups
from darkroom_serving.models.loading import load_model


@pytest.fixture(scope="module")
def model(serving_base):
    return load_model(serving_base, torch.device("cpu")).model


def request_of(**fields):
    chosen = {
        "prompt": "a dog",
        "negative_prompt": "",
        "width": 32,
        "height": 32,
        "steps": 6,
        "guidance_scale": 3.0,
        "sampler": Sampler.DDIM,
        "seed": 1,
    }
    return DrawRequest(**(chosen | fields))


OTHERS = [
    request_of(prompt="a cat", steps=9, seed=7),
    request_of(guidance_scale=0.0, sampler=Sampler.EULER_A, steps=3),
    request_of(sampler=Sampler.DPMSOLVER, guidance_scale=8.0, negative_prompt="grey", seed=5),
    request_of(width=64, steps=4),
    request_of(sampler=Sampler.UNIPC, steps=12, seed=8),
]


class Slow:
    """Counts the passes of a model, and lets none begin before it may: so that orders meet."""

    def __init__(self, model, on_pass=lambda conditions: None):
        self.passes, self.may_begin = [], threading.Event()
        predict = model.denoiser.predict

        def counted(network, noisy, timesteps, conditions):
            assert self.may_begin.wait(60)
            self.passes.append(len(noisy))
            on_pass(conditions)
            return predict(network, noisy, timesteps, conditions)

        denoiser = type(model.denoiser)(model.denoiser.network)
        object.__setattr__(denoiser, "predict", counted)
        self.model = replace(model, denoiser=denoiser)


def draw(engine, model, *requests, stopped=lambda: False):
    return engine.draw(model, requests, stopped)


def draw_together(slow, orders, engine=None):
    """What becomes of orders of one request each that all wait before the second pass begins."""
    engine = engine or BatchingEngine()
    with ThreadPoolExecutor(len(orders)) as pool:
        drawn = [pool.submit(draw, engine, slow.model, one) for one in orders]
        while len(engine._arrived) + len(engine._under_way) < len(orders):
            pass
        slow.may_begin.set()
    return drawn


def test_a_picture_has_the_same_bits_alone_and_among_any_others(model):
    request = request_of(seed=3)
    (alone,) = draw(BatchingEngine(), model, request)
    for first in (True, False):
        orders = [request, *OTHERS] if first else [*OTHERS, request]
        together = draw_together(Slow(model), orders)
        np.testing.assert_array_equal(together[0 if first else -1].result()[0], alone)


def test_every_one_of_a_mixed_crowd_has_the_bits_that_it_has_alone(model):
    drawn = draw_together(Slow(model), OTHERS)
    for request, future in zip(OTHERS, drawn, strict=True):
        np.testing.assert_array_equal(future.result()[0], draw(BatchingEngine(), model, request)[0])


def test_requests_share_passes_whatever_they_ask_for(model):
    slow = Slow(model)
    orders = [
        request_of(seed=seed, steps=5, sampler=sampler)
        for seed, sampler in enumerate(
            (Sampler.DDIM, Sampler.EULER, Sampler.DPMSOLVER, Sampler.DDPM)
        )
    ]
    for future in draw_together(slow, orders):
        future.result()
    # The first may have begun alone; two guided pictures fill the four rows of a pass.
    assert len(slow.passes) <= 5 * 4 / 2 + 5
    assert set(slow.passes) == {rows_of_a_pass(model)} == {4}


def test_pictures_of_one_request_are_those_of_its_seeds_by_themselves(model):
    requests = [request_of(seed=seed) for seed in (1, 2, 3)]
    together = draw(BatchingEngine(), model, *requests)
    for picture, request in zip(together, requests, strict=True):
        np.testing.assert_array_equal(picture, draw(BatchingEngine(), model, request)[0])


def test_who_leaves_takes_no_further_step_and_the_others_never_notice(model):
    left = threading.Event()
    slow = Slow(model, on_pass=lambda _: left.set())
    engine = BatchingEngine()
    with ThreadPoolExecutor(2) as pool:
        leaving = pool.submit(
            draw, engine, slow.model, request_of(steps=900, seed=9), stopped=left.is_set
        )
        staying = pool.submit(draw, engine, slow.model, request_of())
        slow.may_begin.set()
        with pytest.raises(StoppedError):
            leaving.result(60)
        np.testing.assert_array_equal(
            staying.result(60)[0], draw(BatchingEngine(), model, request_of())[0]
        )
    assert len(slow.passes) <= 1 + 6


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "NaN"])
def test_a_picture_that_fails_harms_no_other(model, raises):
    bad = request_of(prompt="bad", seed=4)
    ((name, mark),) = model.states(["bad"]).items()

    def fail(conditions):
        is_bad = [torch.equal(one, mark[0]) for one in conditions[name]]
        if raises and any(is_bad):
            raise RuntimeError("no memory")
        conditions[name][torch.tensor(is_bad)] = float("nan")

    good, failed = draw_together(Slow(model, on_pass=fail), [request_of(), bad])
    with pytest.raises(RuntimeError if raises else NotFiniteError):
        failed.result()
    np.testing.assert_array_equal(good.result()[0], draw(BatchingEngine(), model, request_of())[0])


def test_a_request_that_can_not_begin_is_told_so_and_the_next_one_is_drawn(model):
    engine = BatchingEngine()
    with pytest.raises(KeyError):
        draw(engine, model, request_of(sampler="none"))
    draw(engine, model, request_of())


def test_no_thread_is_left_when_nothing_is_to_be_drawn(model):
    engine = BatchingEngine()
    draw(engine, model, request_of())
    for thread in threading.enumerate():
        if thread.name == "engine":
            thread.join(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "engine"]
    draw(engine, model, request_of())


def test_a_fault_of_the_engine_itself_leaves_nobody_waiting(model, monkeypatch):
    monkeypatch.setattr(batching, "rows_of_a_pass", lambda model: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        draw(BatchingEngine(), model, request_of())


@given(count=st.integers(1, 6))
def test_a_padded_pass_answers_for_the_rows_that_were_asked(count):
    asked = []

    def predict(latents, timesteps, conditions):
        asked.append((len(latents), len(timesteps), len(conditions["states"])))
        return latents + timesteps[:, None] + conditions["states"]

    rows = torch.arange(count, dtype=torch.float32)
    said = padded(predict, 6)(rows[:, None], rows, {"states": rows[:, None]})
    assert torch.equal(said, 3 * rows[:, None])
    assert asked == [(6, 6, 6)]


@dataclass(frozen=True)
class Turn:
    rows: int
    due_s: float


TURNS = st.lists(st.builds(Turn, st.integers(1, 2), st.floats(0, 100)), min_size=1, max_size=12)


@given(pictures=TURNS, rows=st.integers(1, 8))
def test_the_picture_that_is_due_first_is_in_the_pass_and_the_pass_is_not_overfull(pictures, rows):
    chosen = first_due(pictures, rows)
    assert min(pictures, key=lambda one: one.due_s).due_s == chosen[0].due_s
    assert sum(one.rows for one in chosen) <= max(rows, chosen[0].rows)


def test_a_small_picture_is_due_before_a_large_one_that_came_earlier_but_not_for_ever():
    large, small = Work(200, 2, 128 * 128), Work(4, 2, 128 * 128)
    assert small.due_s(10.0, 1e-6) < large.due_s(0.0, 1e-6)
    assert small.due_s(1e6, 1e-6) > large.due_s(0.0, 1e-6)


@given(costs=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=2))
def test_sizes_share_the_device_evenly_whatever_their_passes_cost(costs):
    served, total = with_groups({}, list(costs)), dict.fromkeys(costs, 0)
    for _ in range(1000):
        key = least_served(served)
        served[key] += costs[key]
        total[key] += costs[key]
    assert max(total.values()) - min(total.values()) <= 2 * max(costs.values())


def test_a_size_that_comes_later_neither_waits_for_the_past_nor_is_paid_for_it():
    served = with_groups({"old": 1000.0}, ["old", "new"])
    assert served == {"old": 1000.0, "new": 1000.0}
    assert with_groups(served, ["new"]) == {"new": 1000.0}
