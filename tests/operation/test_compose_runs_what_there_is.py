"""compose.yaml, without Docker: its commands, settings, files, roles and ports are those that there are."""

from __future__ import annotations

import asyncio
import configparser
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from builder import cli as builder_cli
from builder.settings import BuilderSettings, WarehouseSettings, source_options
from tests.conftest import FAST, Start
from tests.support.servers import event, post
from usage_service import cli as service_cli
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_programs import binary, environment
from usage_service.shared.postgres import connect
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import ClientSettings, LogSettings, ServerSettings, check_names, load_settings
from usage_service.shared.trace_export import TracingSettings
from usage_service.web.access import check_exposure

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text("utf-8")
GIVEN = {
    "POSTGRES_PASSWORD": "swordfish1",
    "USAGE_LOGIN_PASSWORD": "swordfish2",
    "USAGE_SERVICE_TOKEN": "a token for tests",
    "USAGE_SERVICE_VISITOR_SECRET": "sixteen or more characters",
}
APPS = {"usage-service": service_cli.make_app(), "probe-builder": builder_cli.make_app()}
SETTINGS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "usage-service": (ServerSettings, ClientSettings, TracingSettings),
    "probe-builder": (BuilderSettings, WarehouseSettings, TracingSettings),
}
VARIABLE = re.compile(r"\$\{(\w+)(?:(:\?|:-|-)([^}]*))?\}")


def filled(text: str) -> str:
    """Return the text with its variables as Compose fills them in: the given value, else the default."""

    def value(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        assert name in GIVEN or kind in {":-", "-"}, f"{name} has no default"
        return GIVEN.get(name, default)

    return VARIABLE.sub(value, text)


SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(filled(TEXT))["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def commands(service: dict[str, Any]) -> list[list[str]]:
    """Return the commands of our programs that a service runs."""
    words = service["command"]
    if words[0] != "sh":
        return [words]
    return [part.removeprefix("exec ").split() for part in words[2].split(" && ")]


def test_what_has_to_be_given_is_said_at_the_top() -> None:
    head = TEXT.partition("\nname:")[0]
    required = {name for name, kind, _ in VARIABLE.findall(TEXT) if kind == ":?"}
    assert required == GIVEN.keys()
    assert all(f"{name}=" in head for name in required)


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_commands_and_options_exist(name: str) -> None:
    for program, *arguments in commands(OURS[name]):
        result = CliRunner().invoke(APPS[program], [*arguments, "--help"])
        assert result.exit_code == 0, result.output
        broken = CliRunner().invoke(APPS[program], [*arguments, "--no-such-option", "--help"])
        assert broken.exit_code != 0


@pytest.mark.parametrize("name", ["server", "builder"])
def test_its_settings_are_known_and_right(name: str) -> None:
    program, environ = OURS[name]["command"][0], OURS[name]["environment"]
    kinds = SETTINGS[program]
    known = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert environ.keys() <= known | {"GOOGLE_APPLICATION_CREDENTIALS"}
    check_names(environ, "USAGE_SERVICE_" if program == "usage-service" else "PROBE_BUILDER_", *kinds)
    settings = load_settings(kinds[0], environ)
    if isinstance(settings, ServerSettings):
        check_exposure(settings)
    elif isinstance(settings, BuilderSettings):
        assert source_options(settings).datasets
    assert load_settings(LogSettings, environ).log_format == "json"


def test_every_service_is_bounded_and_none_is_root() -> None:
    assert re.search(r"^USER 10001$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name, service in SERVICES.items():
        assert service.get("cap_drop") == ["ALL"] or service["user"] == "postgres", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        if name != "migrate":
            limits = service["deploy"]["resources"]["limits"]
            assert limits["cpus"], name
            assert limits["memory"], name
            assert service["healthcheck"]["test"][0] == "CMD", name
    assert SERVICES["server"]["deploy"]["replicas"] == SERVICES["builder"]["deploy"]["replicas"] == 2


def test_addresses_lead_to_services() -> None:
    users = set(re.findall(r'"(\w+)" "', yaml.safe_load(TEXT)["configs"]["pooler-users"]["content"]))
    for service in OURS.values():
        for name, value in service.get("environment", {}).items():
            if name.endswith("_URL"):
                address = urlsplit(value)
                assert address.hostname in SERVICES, name
                assert address.port == {"postgres": 5432, "pgbouncer": 6432, "warehouse": 9050}[address.hostname]
                assert address.hostname != "pgbouncer" or address.username in users
        assert all(other in SERVICES for other in service.get("depends_on", {}))


def test_what_is_mounted_is_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [name for name in mounted if name.startswith("./")]
    assert files
    assert all((ROOT / name).is_file() for name in files)
    assert set(mounted) - set(files) == set(yaml.safe_load(TEXT)["volumes"])


def test_prometheus_scrapes_servers_and_builders() -> None:
    configuration = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())
    ports = {"server": 8080, "builder": int(OURS["builder"]["environment"]["PROBE_BUILDER_METRICS_PORT"])}
    found = {
        job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"]
        for job in configuration["scrape_configs"]
    }
    assert found == ports


def test_the_pooler_is_as_the_programs_need_it() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "ops" / "pgbouncer" / "pgbouncer.ini")
    pooler = configuration["pgbouncer"]
    assert pooler["pool_mode"] == "transaction"
    assert int(pooler["max_prepared_statements"]) > 0
    assert "host=postgres" in configuration["databases"]["usage"]


async def test_who_logs_in_can_do_the_work(start: Start, tmp_path: Path) -> None:
    """The script makes the roles of an empty PostgreSQL, the owner installs the schema, then both programs log in."""
    with EmbeddedPostgres(tmp_path / "postgres", options=FAST) as postgres:
        await asyncio.to_thread(
            subprocess.run,
            [str(binary("psql")), "--quiet", f"--dbname={postgres.url}", f"--file={ROOT / 'ops/postgres/logins.sql'}"],
            env=environment({"USAGE_LOGIN_PASSWORD": GIVEN["USAGE_LOGIN_PASSWORD"]}),
            check=True,
            timeout=30,
        )
        await install_schema(postgres.url)
        urls = {name: login_url(postgres.url, OURS[name]) for name in ("server", "builder")}
        secret = GIVEN["USAGE_SERVICE_VISITOR_SECRET"]
        client = await start(ServerSettings(database_url=urls["server"], visitor_secret=secret))
        await post(client, event())
        await client.close()
        builder = await connect(urls["builder"], role="usage_builder", application="tests")
        assert await builder.fetchval("SELECT expire_leases()") == 0
        assert await builder.fetchval("SELECT rolconfig IS NOT NULL FROM pg_roles WHERE rolname = session_user")
        await builder.close()


def login_url(url: str, service: dict[str, Any]) -> str:
    """Return Compose's login at the test's address."""
    login, place = urlsplit(service["environment"]["DATABASE_URL"]), urlsplit(url)
    return place._replace(netloc=f"{login.username}:{login.password}@{place.hostname}:{place.port}").geturl()
