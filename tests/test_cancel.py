"""Stopping from another thread, between two operations."""

import threading
import time

import pytest
import torch
from conftest import tiny_pipeline

from gan2shape_hub.cancel import CancelToken, StopsBetweenOperations, stoppable
from gan2shape_hub.errors import Cancelled


def endless(token, ended):
    try:
        with stoppable(token):
            while True:
                torch.ones(8).add(1)
    except Cancelled:
        ended.append(time.monotonic())


def test_work_that_asks_nobody_stops_within_a_second():
    token, ended = CancelToken(), []
    thread = threading.Thread(target=endless, args=(token, ended))
    thread.start()
    time.sleep(0.2)
    asked = time.monotonic()
    token.cancel()
    thread.join(5)
    assert ended
    assert ended[0] - asked < 1


def test_other_threads_go_on():
    token, answers = CancelToken(), []
    with stoppable(token):
        token.cancel()
        thread = threading.Thread(target=lambda: answers.append(float(torch.ones(3).sum())))
        thread.start()
        thread.join()
    assert answers == [3.0]


def test_a_forward_pass_is_left_in_the_middle():
    """No iteration has ended and no callback was asked: the run is making the sample's picture."""
    pipeline, token, layers = tiny_pipeline(), CancelToken(), []
    sample = pipeline.sample(seed=1)

    def slow(*_):
        layers.append(1)
        token.cancel()
        time.sleep(0.1)

    for block in pipeline.generator.blocks:
        block.register_forward_pre_hook(slow)
    with pytest.raises(Cancelled):
        pipeline(sample, cancel=token)
    assert len(layers) == 1, "the second layer was not begun"


def test_nothing_is_left_behind():
    with pytest.raises(Cancelled), StopsBetweenOperations(lambda: True):
        torch.ones(3) + 1
    assert float((torch.ones(3) + 1).sum()) == 6
    assert not any(hook for hook in torch.nn.modules.module._global_forward_pre_hooks)


def test_a_backward_pass_is_left_in_the_middle():
    """It is one call from Python, and seconds long through a whole generator."""
    token, done = CancelToken(), []

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            done.append(1)
            token.cancel()
            time.sleep(0.1)
            return gradient * 2

    x = torch.ones(3, requires_grad=True)
    with stoppable(token):
        loss = Slow.apply(Slow.apply(Slow.apply(x))).sum()
        with pytest.raises(Cancelled):
            loss.backward()
    assert len(done) == 1
    assert x.grad is None


def test_what_is_watched_computes_the_same():
    sample = (pipeline := tiny_pipeline()).sample(seed=1)
    plain, watched = pipeline(sample), pipeline(sample, cancel=CancelToken())
    assert torch.equal(plain.scene.depth, watched.scene.depth)
    assert torch.equal(plain.scene.albedo, watched.scene.albedo)
