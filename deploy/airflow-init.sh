#!/usr/bin/env bash
# What has to be there before Airflow starts: its tables, the roles of its page, an administrator, and the file that
# proves that the disk of the local target is the right one. May run again: what is there stays.
set -o errexit -o nounset -o pipefail

airflow db migrate
airflow sync-perm
airflow roles import "$(dirname "$0")/roles/devops.json"

# The password goes in by standard input, twice, as at a prompt: on a command line others could read it.
printf '%s\n%s\n' "$ADMIN_PASSWORD" "$ADMIN_PASSWORD" | airflow users create \
    --username admin --role Admin --firstname Airflow --lastname Administrator --email admin@example.org

marker=/backups/lifeboat/.lifeboat-target
if [[ -d /backups && ! -e $marker ]]; then
    mkdir --parents /backups/lifeboat
    echo erp-local > "$marker"
fi
