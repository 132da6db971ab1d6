#!/bin/sh
# Start PgBouncer with the logins of the two programs. Its file of passwords is in memory: the file system is read-only.
set -eu
umask 077
printf '"glam_server" "%s"\n"glam_builder" "%s"\n' "$SERVER_PASSWORD" "$BUILDER_PASSWORD" >/tmp/users.txt
exec pgbouncer /etc/pgbouncer/pgbouncer.ini
