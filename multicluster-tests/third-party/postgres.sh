#!/bin/sh
# Starts a database, made on the first start: user postgres, no password.
set -e
set -- /usr/lib/postgresql/*/bin "$@"
programs=$1
shift
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    "$programs/initdb" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync
    echo 'host all all all trust' >> "$PGDATA/pg_hba.conf"
fi
exec "$programs/postgres" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
