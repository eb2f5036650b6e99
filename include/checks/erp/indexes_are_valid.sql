-- source: database
-- database: erp
-- expect: no rows
--
-- An index whose building was cut short is kept up to date and used for nothing. Write checks of your own beside this
-- one: what must never be in your tables (an invoice without lines, a payment without an invoice).
SELECT indexrelid::regclass
FROM pg_catalog.pg_index
WHERE NOT indisvalid
