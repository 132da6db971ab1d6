"""A standby of an embedded PostgreSQL, which can be promoted; a primary that was stopped in order can become one."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers import connected, eventually
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.local.postgres_programs import run

OPTIONS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": "60"}


class Node:
    """One of two clusters, on a port that it keeps."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.postgres = EmbeddedPostgres(directory, options=OPTIONS)

    @property
    def url(self) -> str:
        """Return its own address."""
        return self.postgres.url

    @property
    def host(self) -> str:
        """Return its host and port."""
        return self.url.rpartition("@")[2].partition("/")[0]

    def copy(self, primary: Node) -> None:
        """Become a standby of the primary, from a backup of it."""
        self.directory.mkdir(mode=0o711, exist_ok=True)
        shutil.rmtree(self.directory / "cluster", ignore_errors=True)  # of a primary that was killed
        shutil.copy(primary.directory / "password", self.directory / "password")
        parts = urlsplit(primary.url)
        place = ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username)]
        run(
            "pg_basebackup",
            ["-D", str(self.directory / "cluster"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync", *place],
            directory=self.directory,
            unprivileged=True,
            timeout=60,
            extra={"PGPASSWORD": str(parts.password)},
        )
        self.postgres.start()

    def follow(self, primary: Node) -> None:
        """Start again as a standby of the primary that it was itself, on the same port."""
        parts = urlsplit(primary.url)
        where = f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}"
        (self.directory / "cluster" / "standby.signal").touch()
        port = urlsplit(self.url).port
        self.postgres = EmbeddedPostgres(self.directory, port=port, options=OPTIONS | {"primary_conninfo": where})
        self.postgres.start()

    async def commit_on_both(self) -> None:
        """Let commits wait for the standby, once it is there."""

        async def is_synchronous() -> bool:
            async with connected(self.url) as owner:
                return bool(await owner.fetchval("SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication"))

        async with connected(self.url) as owner:
            await owner.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await owner.execute("SELECT pg_reload_conf()")
        await eventually(is_synchronous, "the standby is synchronous")

    async def promote(self) -> None:
        """Become the primary, without a standby."""
        async with connected(self.url) as owner:
            assert await owner.fetchval("SELECT pg_promote()")
            await owner.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await owner.execute("SELECT pg_reload_conf()")

    def kill(self) -> None:
        """End every process of it at once."""
        PostgresCluster(self.directory).kill()
        assert wait_until(lambda: self.postgres.pid is None, 10)
