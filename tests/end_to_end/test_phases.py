"""A consumer that stops while a call stands in any phase gives it back, whole and once."""

from __future__ import annotations

import signal

import pytest
from support.consumer import LIMIT, App
from support.stalling import PHASES, Stalling


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["graceful", "at once"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_call_in_any_phase_goes_back_without_a_strike(new_app, phase, sign):
    app: App = new_app(shutdown_timeout=0.3)
    with Stalling(phase) as server, app.consumer() as consumer:
        id = app.patient.get(server.url, callback="Tell").id
        assert server.reached.wait(LIMIT)

        consumer.send(sign)

        assert consumer.wait() == 0
        assert app.patient.stats()["fresh"] == 1
        assert app.huey.pending_count() == 0

    assert app.patient.cancel(id)  # whole: it opens, and can be answered


def test_a_name_that_is_being_looked_up_stops_nobody(new_app):
    app: App = new_app(shutdown_timeout=0.3)
    with app.consumer() as consumer:
        # However the look-up ends, and whenever: one request, one place.
        app.patient.get("http://no-such-host.invalid/", callback="Tell", retries=10)
        consumer.send(signal.SIGINT)

        assert consumer.wait() == 0

    assert app.answers.once_each()
    waiting = app.patient.stats()["fresh"] + app.huey.pending_count()
    assert waiting + len(app.answers.told) == 1
    assert app.patient.stats()["suspect"] == app.patient.stats()["held"] == 0
