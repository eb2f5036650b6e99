-- source: database
-- database: erp
-- expect: no rows
--
-- The writer's transactions write an invoice with three lines, a payment and a row of the ledger, or nothing.
SELECT commit_number
FROM ledger
WHERE (SELECT count(*) FROM invoice_lines WHERE invoice_lines.invoice_id = ledger.invoice_id) <> 3
   OR (SELECT count(*) FROM payments WHERE payments.invoice_id = ledger.invoice_id) <> 1
