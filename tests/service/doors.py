"""Which doors of Ray's jobs API, or of our service, open to one who has this token or none.
Also a program, for a host that reaches a cluster which the tests do not: `python doors.py URL [TOKEN]`.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

REFUSED = {401, 403}
JOBS = (
    "GET /api/jobs/",
    "POST /api/jobs/",
    "GET /api/jobs/night-1",
    "DELETE /api/jobs/night-1",
    "POST /api/jobs/night-1/stop",
    "GET /api/jobs/night-1/logs",
    "GET /api/jobs/night-1/logs/tail",
    "PUT /api/packages/gcs/x.zip",
)
SERVICE = (
    "GET /api/runs",
    "POST /api/runs",
    "GET /api/runs/night",
    "POST /api/runs/night/stop",
    "POST /api/runs/night/resume",
    "GET /api/runs/night/console",
    "GET /api/runs/night/events",
    "GET /api/runs/night/files",
    "GET /api/runs/night/files/run.json",
    "GET /api/runs/night/archive",
    "GET /api/runs/night/report/index.html",
    "POST /api/session",
    "GET /metrics",
    "GET /api/runs/night/views",
    "GET /api/runs/night/trials",
    "GET /api/runs/night/trials/t0000",
    "GET /api/runs/night/study",
    "GET /api/comparison?run=night&run=other",
    "GET /api/study-template",
    "POST /api/check",
    "GET /plotly.js",
    "GET /openapi.json",
)


def status(url: str, door: str, token: str | None) -> int:
    """What one door answers."""
    method, path = door.split()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = b'{"entrypoint": "true"}' if method in ("POST", "PUT") else None
    request = urllib.request.Request(url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def open_doors(url: str, doors: tuple[str, ...], token: str | None) -> dict[str, int]:
    """The doors that do not refuse, with their statuses."""
    answers = {door: status(url, door, token) for door in doors}
    return {door: answer for door, answer in answers.items() if answer not in REFUSED}


if __name__ == "__main__":
    print(json.dumps(open_doors(sys.argv[1], JOBS, *(sys.argv[2:] or [None]))))
