-- source: database
-- database: erp
-- expect: 1 or more
--
-- A database without a table is no ERP, however well it opens.
SELECT count(*)
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE relation.relkind IN ('r', 'p')
  AND schema.nspname NOT IN ('pg_catalog', 'information_schema')
