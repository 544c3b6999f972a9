"""Calls in the background."""

from __future__ import annotations

import time

import pytest
from slurm_shims import wait_for

from snakemake_executor_plugin_slurm_attached.following.background import Background


def test_a_call_in_the_background_gives_its_result_once_or_its_error() -> None:
    call: Background[int] = Background()
    call.start(lambda: 3)
    wait_for(5, lambda: not call.busy or call._thread is None or not call._thread.is_alive())
    assert call.take() == 3
    assert call.take() is None
    call.start(lambda: 1 // 0)
    time.sleep(0.1)
    with pytest.raises(ZeroDivisionError):
        call.take()
