"""Ask what to build, have it built in one night, and wait for that: no dependency but the standard library."""

import json
import os
from urllib.request import Request, urlopen

URL = os.environ.get("USAGE_SERVICE_URL", "http://127.0.0.1:8080").rstrip("/")
TOKEN = os.environ.get("USAGE_SERVICE_TOKEN")


def ask(method: str, path: str, body: object = None, **headers: str) -> dict:
    """Return what the service answers; an error raises, and Airflow tries the task again."""
    headers |= {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {TOKEN}"} if TOKEN else {})
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(URL + path, data, headers, method=method), timeout=90) as answer:
        return json.load(answer)


def ask_for_night(run_id: str, product: str, channel: str, budget: int = 500, most_bytes: int | None = None) -> dict:
    """Return the night that builds the run's list, or the one that is under way; asked again, the list is the same."""
    ask("POST", "/v1/hotlist", {"run": run_id, "product": product, "budget": budget})
    wanted = {"product": product, "channel": channel, "list": run_id, "most_bytes": most_bytes}
    return ask("POST", "/v1/builds/prefetch", wanted)


def night_is_over(night_id: str) -> dict | None:
    """Return the night once it is over, else None; the service answers when it ends, after 50 seconds at the latest."""
    night = ask("GET", f"/v1/nights/{night_id}", Prefer="wait=50")
    return night if night["state"] == "over" else None


def check(night: dict, most_failed: int | None = None) -> None:
    """Raise when more probes failed than may, None: any number; what was left is in the next night's list."""
    totals = night["totals"]
    print("built {built}, without data {without_data}, failed {failed}, left {probes_left}".format(**totals))
    if night["error"]:
        raise RuntimeError(night["error"]["message"])
    if most_failed is not None and totals["failed"] > most_failed:
        raise RuntimeError(f"{totals['failed']} probes failed: {URL}/v1/nights/{night['night_id']}/probes?format=csv")
