"""Huey's consumer, with a courier and an I/O process beside its workers.

The only file that knows `huey.consumer`.  Order matters in it:

*start*  the I/O process first, while this process has one thread and nothing
         has been forked; then Huey's workers; then the courier's thread.
*stop*   the courier is told first and goes on settling while the workers finish
         their tasks; then it gives back what is left and ends its processes.

The courier belongs to the parent, also when workers are processes: those may
have no children, and Huey's start-up hooks run once for each of them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

from huey import Huey
from huey.consumer import Consumer, Worker

from .courier import Courier
from .io_process.forking import end_helpers
from .native import WakePipe

__all__ = ["PatientConsumer"]

log = logging.getLogger("huey.patient")

#: Seconds for calls in flight when neither a setting nor ``-t`` says otherwise:
#: under the 30 s that Docker and Kubernetes wait before they kill.
DRAIN_SECONDS = 25.0
#: Seconds that the courier may take to give requests back, on top.
SIGN_OFF_SECONDS = 5.0
#: Seconds between two couriers, should one fail again and again.
RESTART_SECONDS = 1.0


class PatientWorker(Worker):  # type: ignore[misc]
    """A worker that is woken when a callback was put on the queue.

    A storage that cannot block is polled with growing pauses of up to ten
    seconds; callbacks should not wait for the end of one.
    """

    wake: WorkersWake
    delay: float

    def loop(self, now: Any = None) -> None:
        """One task, and then a turn for other greenlets.

        SQLite never lets them: with callbacks settled by the dozen, a worker would
        go from one to the next and hold the hub until the last has run.
        """
        super().loop(now)
        time.sleep(0)  # gevent's, under gevent; of threads it costs a microsecond

    def sleep(self) -> None:
        """Sleep until the next poll, or until there is something to do."""
        self.delay = min(self.delay, self.max_delay)
        if self.wake.wait(self.delay):
            self.delay = self.default_delay
        else:
            self.delay *= self.backoff


class WorkersWake(WakePipe):
    """Rung for each callback; never holds more rings than there are workers."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers

    def ring(self, times: int = 1) -> None:
        """Wake ``times`` sleeping workers; busy ones come by themselves."""
        unheard = struct.unpack("i", fcntl.ioctl(self.fileno(), termios.FIONREAD, b"\0" * 4))[0]
        if (missing := min(times, self._workers) - unheard) > 0:
            super().ring(missing)


class PatientConsumer(Consumer):  # type: ignore[misc]
    """Runs a Huey whose requests a courier carries."""

    worker_class = PatientWorker

    def __init__(
        self,
        huey: Huey,
        *,
        make_courier: Callable[[PatientConsumer], Courier],
        check: Callable[[], None],
        drain_seconds: float | None = None,
        **options: Any,
    ) -> None:
        self._make_courier = make_courier
        self._check = check
        self.workers_wake = WorkersWake(options.get("workers", 1))
        self.courier: Courier | None = None
        self._next_courier: Courier | None = None  # made, and not started yet
        self._courier_at = 0.0
        self._hurried = self._quieted = False
        super().__init__(huey, **options)
        self._drain_seconds = drain_seconds or self.shutdown_timeout or DRAIN_SECONDS

    def _create_worker(self) -> Worker:
        worker = super()._create_worker()
        worker.wake = self.workers_wake
        return worker

    def start(self) -> None:
        """Start the I/O process, Huey's workers and the courier.

        Raises:
            ConfigurationError: A promise could not be kept as things are.
        """
        if not self.huey.immediate:  # Huey's own start explains what is wrong
            self._check()
            self.courier = self._make_courier(self)
        super().start()
        assert self.courier is not None
        self.courier.start()

    def loop(self, health_check_ts: float | None = None) -> Any:
        """One turn of Huey's main loop, with an eye on the courier."""
        result = super().loop(health_check_ts)
        gone = self.courier is not None and not self.courier.running
        if gone and time.monotonic() - self._courier_at >= RESTART_SECONDS:
            self._courier_at = time.monotonic()
            self._replace_courier()
        return result

    def _replace_courier(self) -> None:
        log.error("The courier is gone; starting another one.")
        try:
            # One that could be made and not started has an I/O process by now.
            courier = self._next_courier = self._next_courier or self._make_courier(self)
            if self._quieted:
                courier.quiet()
            courier.start()
        except Exception:
            # Of descriptors, threads, memory: what is missing now may be there later,
            # and until then the workers have tasks to do.
            log.exception("It could not be started; trying again.")
            if self._next_courier is None or not self._next_courier.running:
                return  # else only its bell does not ring, and it looks from time to time
        self.courier, self._next_courier = self._next_courier, None

    def stop(self, graceful: bool = False) -> None:
        """Stop as Huey does, and give calls in flight the same time to end."""
        courier = self.courier
        within = self._drain_seconds if graceful else 0.0
        deadline = time.monotonic() + within
        try:
            if courier is not None:
                courier.stop(within=within)
                if graceful and courier.in_flight:
                    log.info(
                        "%d calls in flight have %.0f s to end.",
                        courier.in_flight,
                        within,
                    )
            self.workers_wake.ring(self.workers)
            super().stop(graceful)
        except KeyboardInterrupt:
            # The second interrupt, just before or after Huey expects it.
            self._hurried, self._restart = True, False
            self._interrupt_workers()
        if courier is not None:
            self._await_courier(courier, deadline)
        if self._restart:
            end_helpers()

    def _await_courier(self, courier: Courier, deadline: float) -> None:
        if self._hurried:
            deadline = time.monotonic()
            courier.stop(within=0.0)
        try:
            ended = courier.join(max(0.0, deadline - time.monotonic()) + SIGN_OFF_SECONDS)
        except KeyboardInterrupt:
            # The second interrupt: another consumer takes over what is left.
            self._restart = False
            ended = False
        if not ended:
            log.warning("Leaving without the courier; another consumer takes over.")

    def _join_workers(self) -> Any:
        try:
            return super()._join_workers()
        except KeyboardInterrupt:
            self._hurried = True  # the second interrupt, while workers were busy
            raise

    def quiet(self) -> None:
        """Claim no more requests; workers, calls in flight and callbacks go on."""
        self._quieted = True
        if self.courier is not None:
            log.info("Quiet: no more requests are claimed.")
            self.courier.quiet()

    def _set_signal_handlers(self) -> None:
        super()._set_signal_handlers()
        signal.signal(signal.SIGTSTP, lambda signum, frame: self.quiet())

    def describe(self) -> dict[str, Any]:
        """What this consumer says of itself to others."""
        return {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "workers": self.workers,
            "worker_type": self.worker_type,
            "in_flight": self.courier.in_flight if self.courier is not None else 0,
            "io": self.courier.io if self.courier is not None else {},
        }
