"""A web application: a view submits a call and answers at once.

    python slow_api.py
    huey_consumer wsgi_view.huey -w 2
    python wsgi_view.py 8080

    curl -d '' http://127.0.0.1:8080/reports         {"id": "6f1e…"}
    curl http://127.0.0.1:8080/reports/6f1e…         202, and after two seconds 200

Plain WSGI; in Flask or Django the two views look the same.  The web server
needs no aiohttp and no event loop: it writes one row.
"""

import json
import os
import sys
import wsgiref.simple_server

from huey import SqliteHuey

from huey_patient import Patient, RequestError

API = os.environ.get("API_URL", "http://127.0.0.1:8000")

huey = SqliteHuey("reports", filename="reports.db")
patient = Patient(huey)


@patient.callback()
def report(outcome):
    """What a callback returns is the result that Huey keeps under the request's id."""
    if isinstance(outcome, RequestError):
        return {"failed": str(outcome)}
    return {"status": outcome.status, "report": outcome.json()}


def order(environ):
    result = patient.post(f"{API}/report", json={"year": 2026}, callback=report)
    return "202 Accepted", {"id": result.id}


def look(environ):
    id = environ["PATH_INFO"].removeprefix("/reports/")
    value = huey.result(id, preserve=True)
    return ("202 Accepted", {"id": id}) if value is None else ("200 OK", value)


def application(environ, start_response):
    view = order if environ["REQUEST_METHOD"] == "POST" else look
    status, body = view(environ)
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


def serve(port):
    with wsgiref.simple_server.make_server("127.0.0.1", port, application) as server:
        print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
