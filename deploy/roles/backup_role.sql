-- The role that Lifeboat backs a PostgreSQL server up with, and no more than it needs for that. As a superuser:
--
--   LIFEBOAT_PASSWORD=… psql --set ON_ERROR_STOP=1 --dbname postgres --file backup_role.sql
--
-- May run again: the password becomes the new one. Run the part for one database in each further database that a
-- policy's connection names. Afterwards `lifeboat preflight SYSTEM SOURCE` says whether all is there.
-- Besides, pg_hba.conf lets the role in, over TLS alone:
--
--   hostssl  replication  lifeboat  10.0.0.0/8  scram-sha-256
--   hostssl  postgres     lifeboat  10.0.0.0/8  scram-sha-256

\set ON_ERROR_STOP on
\getenv password LIFEBOAT_PASSWORD
\if :{?password}
\else
\warn 'Set LIFEBOAT_PASSWORD in the environment of psql.'
DO $$ BEGIN RAISE EXCEPTION 'no password for the role lifeboat'; END $$;
\endif

-- Never the plain password in the server's log, and never an old hash in its catalogue.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET password_encryption = 'scram-sha-256';

SELECT 'CREATE ROLE lifeboat' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lifeboat') \gexec

-- REPLICATION reads every byte of the server, whatever privileges tables have, and writes none.
ALTER ROLE lifeboat LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS CONNECTION LIMIT 12
    PASSWORD :'password';
COMMENT ON ROLE lifeboat IS 'Backups by Lifeboat';

-- Settings, replication slots and the progress of backups, as preflight and WAL collection read them.
GRANT pg_monitor TO lifeboat;

-- For one database: the one that the policy's connection names. A WAL run ends the segment that is being written.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO lifeboat;
