"""What a run hears when it is asked to end more than once."""

import os
import signal

import pytest

from hjepa.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_that_comes_twice_is_one_request(number: signal.Signals) -> None:
    """As from a scheduler that sends it to all processes of a job, and from torchrun, which hands on its own."""
    request = StopRequest()
    with request.listening():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert request.signal == number


def test_second_ctrl_c_ends_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's process in the background lacks
    request = StopRequest()
    try:
        with request.listening():
            os.kill(os.getpid(), signal.SIGINT)
            assert request.signal == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
