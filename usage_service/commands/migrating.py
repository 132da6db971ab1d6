"""`usage-service migrate`: the schema, installed or led to that of this program."""

from __future__ import annotations

import asyncio

from usage_service.shared.commands import telling_what_stays
from usage_service.shared.local_services import database_url
from usage_service.shared.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.shared.schema import install_schema
from usage_service.shared.tables import tell


def migrate_command(url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Install or upgrade the schema, also by what running programs cannot stand: stop them first where it says so."""
    with telling_what_stays("no migration is done by half: run this again to go on"):
        version = asyncio.run(install_schema(database_url(url, data_dir), alone=True))
    tell(f"the database has schema {version}")
