#!/bin/bash
# Makes the database on the first start, then becomes the server. PGDATA lies below its volume, never at
# the volume's root: it appears by one rename, so a start that was interrupted leaves nothing half made.
set -euo pipefail
[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "${1:-}" = postgres ] || exec "$@"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?is not set: the superuser needs a password}"
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  fresh=$PGDATA.new
  rm -rf "$fresh"
  mkdir -p "$(dirname "$PGDATA")"
  initdb --pgdata="$fresh" --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  echo 'host all all all scram-sha-256' >>"$fresh/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$fresh/postgresql.conf"
  if [ "$database" != postgres ]; then
    # -j: the input is one statement, ended by a semicolon, newline, newline.
    printf 'CREATE DATABASE "%s";\n\n' "${database//\"/\"\"}" | postgres --single -j -D "$fresh" postgres
  fi
  mv -T "$fresh" "$PGDATA"
fi
exec "$@"
