"""A composition of compose.yaml, run by Docker or Podman as a project of its own, on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from usage_service.local.ports import free_port

ROOT = Path(__file__).parents[2]
OURS = ("glam-usage", "glam-usage-local")
SECONDS = 120.0
REQUEST_SECONDS = 70.0  # longer than the longest wait that a request may ask for


@dataclass(frozen=True)
class Engine:
    """A program that runs containers, and the one that reads compose.yaml for it."""

    program: str
    compose: tuple[str, ...]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [self.program, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done

    def revision(self, image: str) -> str | None:
        """Return the commit that an image says it was built of, None where there is no such image."""
        found = self.run("image", "inspect", image, check=False)
        labels = json.loads(found.stdout)[0]["Config"]["Labels"] if found.returncode == 0 else {}
        return labels.get("org.opencontainers.image.revision") if labels else None


def _works(*command: str) -> bool:
    if not shutil.which(command[0]):
        return False
    return subprocess.run(command, check=False, capture_output=True, timeout=SECONDS).returncode == 0


@cache
def found_engine() -> Engine | None:
    """Return Docker with Compose or Podman with podman-compose, whichever works here."""
    if _works("docker", "compose", "version") and _works("docker", "info"):
        return Engine("docker", ("docker", "compose"))
    if shutil.which("podman-compose") and _works("podman", "info"):
        return Engine("podman", ("podman-compose",))
    return None


def needed_engine() -> Engine:
    """Return the engine; skip the test where there is none, or where `make images` has not built this commit."""
    engine = found_engine()
    if engine is None:
        pytest.skip("neither Docker with Compose nor Podman with podman-compose works here")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    commit = head.stdout.strip() or "unknown"
    for image in OURS:
        if (engine.revision(image) or "").removesuffix("-changed") != commit:
            pytest.skip(f"the image {image} is not of this commit: `make images` builds it")
    return engine


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for the condition, or fail naming it."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.1)


class Composition:
    """One project: its services, and the API of its server."""

    def __init__(self, engine: Engine, directory: Path, **settings: str) -> None:
        self.engine = engine
        self.project = f"glam-test-{uuid4().hex[:8]}"
        (directory / "ops").mkdir()
        subprocess.run([shutil.copy(ROOT / "ops" / "new-passwords", directory / "ops")], check=True, timeout=SECONDS)
        self.env_file = directory / ".env"
        self.ports = {name: free_port() for name in ("SERVER_PORT", "PROMETHEUS_PORT")}
        given = settings | {name: str(port) for name, port in self.ports.items()}
        with self.env_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in given.items())
        self.settings = dict(line.split("=", 1) for line in self.env_file.read_text().splitlines())
        self.url = f"http://127.0.0.1:{self.ports['SERVER_PORT']}"
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {self.settings['USAGE_SERVICE_TOKEN']}"

    def compose(self, *arguments: str) -> None:
        """Run a command of Compose, as a user would who has this .env."""
        files = ["--file", str(ROOT / "compose.yaml"), "--env-file", str(self.env_file), "--project-name", self.project]
        profiles = [part for name in self.settings.get("PROFILES", "").split() for part in ("--profile", name)]
        command = [*self.engine.compose, *files, *profiles, *arguments]
        # Variables of the shell would go before those of the file.
        environ = {name: value for name, value in os.environ.items() if name not in self.settings}
        done = subprocess.run(
            command, env=environ, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"

    def up(self, *arguments: str) -> None:
        """Start everything, and wait until the server is well."""
        self.compose("up", "--detach", "--no-build", *arguments)
        self.wait_until_well()

    def wait_until_well(self) -> None:
        """Wait until the server's heartbeat says that all is well."""
        wait_until(lambda: self.status("/__heartbeat__") == 200, "the heartbeat")

    def status(self, path: str) -> int | None:
        """Return the status of a GET, None while nobody answers."""
        try:
            return self.http.get(self.url + path, timeout=REQUEST_SECONDS).status_code
        except requests.RequestException:
            return None

    def containers(self, service: str, *, running: bool = True) -> list[str]:
        """Return the names of a service's containers."""
        labels = {"project": self.project, "service": service}
        filters = [
            part for name, value in labels.items() for part in ("--filter", f"label=com.docker.compose.{name}={value}")
        ]
        every = [] if running else ["--all"]
        return self.engine.run("ps", *every, *filters, "--format", "{{.Names}}").stdout.split()

    def container(self, service: str) -> str:
        """Return the name of a service's only container."""
        [name] = self.containers(service, running=False)
        return name

    def execute(self, service: str, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside a service's container."""
        settings = [part for name, value in environ.items() for part in ("--env", f"{name}={value}")]
        return self.engine.run("exec", *settings, self.container(service), *command, check=False)

    def pid(self, service: str) -> int:
        """Return the process on this machine that a service's container is; 0 while it does not run."""
        return int(self.engine.run("inspect", "--format", "{{.State.Pid}}", self.container(service)).stdout)

    def kill(self, service: str) -> None:
        """Kill the container's process as a crash does: what an engine is asked to kill, it does not start again."""
        os.kill(self.pid(service), signal.SIGKILL)

    def is_healthy(self, service: str) -> bool:
        """Run the health check of a service now; Docker runs it by itself, Podman where it has systemd."""
        if self.engine.program == "podman":
            return self.engine.run("healthcheck", "run", self.container(service), check=False).returncode == 0
        state = self.engine.run("inspect", "--format", "{{.State.Health.Status}}", self.container(service))
        return state.stdout.strip() == "healthy"

    def left(self) -> list[str]:
        """Return the containers, volumes and networks of this project that are there."""
        label = ["--filter", f"label=com.docker.compose.project={self.project}"]
        names = self.engine.run("ps", "--all", *label, "--format", "{{.Names}}").stdout.split()
        for kind in ("volume", "network"):
            every = self.engine.run(kind, "ls", "--format", "{{.Name}}").stdout.split()
            names += [name for name in every if name.startswith(self.project)]
        return names


@contextmanager
def composed(engine: Engine, directory: Path, **settings: str) -> Iterator[Composition]:
    """Make a composition to bring up, and take it away at the end with all that it kept."""
    composition = Composition(engine, directory, **settings)
    try:
        yield composition
    finally:
        composition.http.close()
        composition.compose("down", "--volumes", "--remove-orphans")  # orphans: podman-compose forgets those of --scale
        assert composition.left() == []
