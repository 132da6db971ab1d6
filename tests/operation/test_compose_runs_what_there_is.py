"""compose.yaml, without Docker: its commands, settings, files, roles and ports are those that there are."""

from __future__ import annotations

import asyncio
import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
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
from usage_service.log.mirrored import MirrorPlace
from usage_service.shared.postgres import connect
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import (
    ClientSettings,
    LogSettings,
    MirrorSettings,
    ServerSettings,
    SettingsError,
    check_names,
    load_settings,
)
from usage_service.shared.trace_export import TracingSettings
from usage_service.web.access import check_exposure

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text("utf-8")
BIGQUERY = (ROOT / "compose.bigquery.yaml").read_text("utf-8")
DEFAULT = {"postgres", "migrate", "server", "builder", "warehouse"}
PASSWORDS = {
    "OWNER_PASSWORD": "swordfish1",
    "SERVER_PASSWORD": "swordfish2",
    "BUILDER_PASSWORD": "swordfish3",
    "READER_PASSWORD": "swordfish4",
}
GIVEN = PASSWORDS | {
    "USAGE_SERVICE_TOKEN": "a token for tests",
    "USAGE_SERVICE_VISITOR_SECRET": "sixteen or more characters",
}
OF_BIGQUERY = {"GOOGLE_CLOUD_PROJECT": "a-project", "GOOGLE_CREDENTIALS_FILE": "/somewhere/key.json"}
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
        given = GIVEN | OF_BIGQUERY
        assert name in given or kind in {":-", "-"}, f"{name} has no default"
        return given.get(name, default)

    return VARIABLE.sub(value, text)


def required(text: str) -> set[str]:
    return {name for name, kind, _ in VARIABLE.findall(text) if kind == ":?"}


SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(filled(TEXT))["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def commands(service: dict[str, Any]) -> list[list[str]]:
    """Return the commands of our programs that a service runs."""
    words = service["command"]
    if words[0] != "sh":
        return [words]
    return [part.removeprefix("exec ").split() for part in words[2].split(" && ")]


def test_what_has_to_be_given_is_written_by_a_script(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    script = shutil.copy(ROOT / "ops" / "new-passwords", tmp_path / "ops")
    subprocess.run([script], check=True, timeout=30, stdout=subprocess.DEVNULL)
    written = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    assert required(TEXT) == written.keys() == GIVEN.keys()
    assert len(set(written.values())) == len(written)
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in written.values())
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    again = subprocess.run([script], check=False, timeout=30, capture_output=True, text=True)
    assert (again.returncode, again.stderr.partition(";")[0]) == (1, ".env is there already")
    assert all("ops/new-passwords" in message for _, kind, message in VARIABLE.findall(TEXT) if kind == ":?")


def test_what_is_started_by_default_stands_on_nothing_else() -> None:
    """Compose refuses a service that depends on one of a profile that is off."""
    assert {name for name, service in SERVICES.items() if not service.get("profiles")} == DEFAULT
    assert all(other in DEFAULT for name in DEFAULT for other in SERVICES[name].get("depends_on", {}))


def test_nothing_is_put_into_a_read_only_file_system() -> None:
    """Compose refuses configs and secrets for a read-only service, but for files, which it mounts."""
    whole = yaml.safe_load(filled(TEXT)), yaml.safe_load(filled(BIGQUERY))
    sources = [source for part in whole for kind in ("configs", "secrets") for source in part.get(kind, {}).values()]
    assert sources
    assert all(source.keys() == {"file"} for source in sources)
    assert all(service["read_only"] for service in SERVICES.values())


def test_images_of_others_are_pinned() -> None:
    images = {service["image"] for service in SERVICES.values() if "build" not in service}
    images |= set(re.findall(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert len(images) == 4
    assert all(re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)*(@sha256:\w+)?$", image) for image in images)
    assert all((ROOT / "ops" / "images" / re.split("[:/]", image)[-2] / "Dockerfile").is_file() for image in images)


def test_each_login_has_a_password_of_its_own() -> None:
    """Each password is known to the database, and to who logs in with it."""
    services = yaml.safe_load(TEXT)["services"]
    knowing = {
        name: {service for service, text in services.items() if name in yaml.safe_dump(text)} for name in PASSWORDS
    }
    assert knowing == {
        "OWNER_PASSWORD": {"postgres", "migrate"},
        "SERVER_PASSWORD": {"postgres", "server", "mirror", "pgbouncer"},
        "BUILDER_PASSWORD": {"postgres", "builder", "pgbouncer"},
        "READER_PASSWORD": {"postgres"},
    }
    for secret in ("USAGE_SERVICE_TOKEN", "USAGE_SERVICE_VISITOR_SECRET"):
        assert [name for name, text in services.items() if secret in yaml.safe_dump(text)] == ["server"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_commands_and_options_exist(name: str) -> None:
    for program, *arguments in commands(OURS[name]):
        result = CliRunner().invoke(APPS[program], [*arguments, "--help"])
        assert result.exit_code == 0, result.output
        broken = CliRunner().invoke(APPS[program], [*arguments, "--no-such-option", "--help"])
        assert broken.exit_code != 0


def test_bigquery_takes_the_place_of_the_warehouse() -> None:
    changes = yaml.safe_load(filled(BIGQUERY))["services"]
    environ = OURS["builder"]["environment"] | changes["builder"]["environment"]
    settings = load_settings(BuilderSettings, environ)
    assert (settings.warehouse_url, settings.project) == (None, "a-project")
    assert required(BIGQUERY) == OF_BIGQUERY.keys()
    assert environ["GOOGLE_APPLICATION_CREDENTIALS"] == f"/run/secrets/{changes['builder']['secrets'][0]}"
    assert changes["warehouse"]["profiles"]
    environ = OURS["mirror"]["environment"] | changes["mirror"]["environment"]
    with pytest.raises(SettingsError, match="USAGE_SERVICE_MIRROR"):
        load_settings(MirrorSettings, environ)
    mirror = load_settings(MirrorSettings, environ | {"USAGE_SERVICE_MIRROR": "a-project.usage"})
    assert MirrorPlace.of(mirror) == MirrorPlace("a-project.usage")
    assert changes["server"] == changes["mirror"]


@pytest.mark.parametrize("name", ["server", "builder", "mirror"])
def test_its_settings_are_known_and_right(name: str) -> None:
    program, environ = OURS[name]["command"][0], OURS[name]["environment"]
    kinds = (MirrorSettings,) if name == "mirror" else SETTINGS[program]
    known = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert environ.keys() <= known
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
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"], name
        assert limits["memory"], name
        assert name == "migrate" or service["healthcheck"]["test"][0] == "CMD", name
    assert SERVICES["postgres"]["user"] == "postgres"


def test_addresses_lead_to_services() -> None:
    for service in OURS.values():
        for name, value in service.get("environment", {}).items():
            if name.endswith("_URL"):
                address = urlsplit(value)
                assert address.hostname in DEFAULT, name
                assert address.port == {"postgres": 5432, "warehouse": 9050}[address.hostname]
        assert all(other in SERVICES for other in service.get("depends_on", {}))


def test_what_is_mounted_is_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [name for name in mounted if name.startswith("./")]
    assert files
    assert all((ROOT / name).is_file() for name in files)
    assert set(mounted) - set(files) == set(yaml.safe_load(TEXT)["volumes"])


def test_prometheus_scrapes_servers_and_builders() -> None:
    configuration = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())
    ports = {
        "server": int(OURS["server"]["environment"]["USAGE_SERVICE_METRICS_PORT"]),
        "builder": int(OURS["builder"]["environment"]["PROBE_BUILDER_METRICS_PORT"]),
    }
    found = {
        job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"]
        for job in configuration["scrape_configs"]
    }
    assert found == ports
    assert all(job.keys() == {"job_name", "dns_sd_configs"} for job in configuration["scrape_configs"])  # no token


def test_the_pooler_is_as_the_programs_need_it() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "ops" / "pgbouncer" / "pgbouncer.ini")
    pooler = configuration["pgbouncer"]
    assert pooler["pool_mode"] == "transaction"
    assert int(pooler["max_prepared_statements"]) > 0
    assert "host=postgres" in configuration["databases"]["usage"]
    start = (ROOT / "ops" / "pgbouncer" / "start.sh").read_text()
    assert f">{pooler['auth_file']}\n" in start
    users = set(re.findall(r'"(glam_\w+)" "%s"', start))
    assert users == {urlsplit(OURS[name]["environment"]["DATABASE_URL"]).username for name in ("server", "builder")}


async def test_who_logs_in_can_do_the_work(start: Start, tmp_path: Path) -> None:
    """The script makes the roles of an empty PostgreSQL, the owner installs the schema, then both programs log in."""
    with EmbeddedPostgres(tmp_path / "postgres", options=FAST) as postgres:
        await asyncio.to_thread(
            subprocess.run,
            [str(binary("psql")), "--quiet", f"--dbname={postgres.url}", f"--file={ROOT / 'ops/postgres/logins.sql'}"],
            env=environment(PASSWORDS),
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
        reader = await asyncpg.connect(login(postgres.url, "glam_reader", PASSWORDS["READER_PASSWORD"]))
        assert await reader.fetchval("SELECT count(*) FROM event_log") == 1
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.execute("CREATE TABLE mine (id int)")
        await reader.close()


def login_url(url: str, service: dict[str, Any]) -> str:
    """Return Compose's login at the test's address."""
    given = urlsplit(service["environment"]["DATABASE_URL"])
    assert given.username
    assert given.password
    return login(url, given.username, given.password)


def login(url: str, name: str, password: str) -> str:
    place = urlsplit(url)
    return place._replace(netloc=f"{name}:{password}@{place.hostname}:{place.port}").geturl()
