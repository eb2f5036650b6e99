#!/usr/bin/env bash
# Who may come in: superusers from inside the container, everybody else with a password and over TLS alone.
set -o errexit -o nounset -o pipefail

cat > "$PGDATA/pg_hba.conf" <<'RULES'
local    all          postgres                peer
local    all          all                     scram-sha-256
host     all          postgres  127.0.0.1/32  scram-sha-256
hostssl  replication  lifeboat  all           scram-sha-256
hostssl  erp          all       all           scram-sha-256
RULES
