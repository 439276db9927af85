"""Testing an application's callbacks: immediate mode, and a server that we program.

    pytest test_callback_retries.py

In immediate mode a call is made, and its callback run, before `patient.get`
returns: no consumer, no waiting.  It is the same code as in production, seals
and checks included, so what passes here is what happens there.
"""

import http.server
import threading

import callback_retries as shop
import pytest


@pytest.fixture(autouse=True)
def immediate(tmp_path, monkeypatch):
    monkeypatch.setattr(shop, "PRICES", str(tmp_path / "prices.db"))
    shop.huey.immediate = True
    yield
    shop.huey.immediate = False


@pytest.fixture
def api(monkeypatch):
    """Answers with what a test puts into ``answer``."""

    class Api(http.server.BaseHTTPRequestHandler):
        answer = 200, b'{"waited": 9.5}'

        def do_GET(self):
            status, body = Api.answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(shop, "API", f"http://127.0.0.1:{server.server_port}")
        yield Api
        server.shutdown()


def saved():
    with shop.prices() as db:
        return db.execute("select * from price").fetchall()


def test_an_answer_becomes_a_price(api):
    shop.fetch_price("chair")

    assert saved() == [("chair", 9.5)]


def test_an_error_response_saves_nothing_and_is_logged(api, caplog):
    api.answer = 503, b"{}"

    shop.fetch_price("chair")

    assert saved() == []
    assert "No price of chair: HTTP 503" in caplog.text
