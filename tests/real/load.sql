-- One round of work in one of the databases (psql -v round=N). `which` is crm or erp; the ERP makes its mistakes.
-- Everything follows from the round's number, so both databases are told the same story.
\if :is_crm
BEGIN;
INSERT INTO sales_order
  SELECT n, 1 + n % 97, 'open', date '2026-06-01' + n % 100, (n * 41 % 90000) / 100.0, NULL
  FROM generate_series(2000 + :round * 25 + 1, 2000 + :round * 25 + 25) n;
UPDATE sales_order SET total = total + :round, status = (ARRAY['open','paid','void'])[1 + (order_id + :round) % 3] WHERE order_id % 40 = :round % 40;
UPDATE sales_order SET note = 'round ' || :round WHERE order_id % 90 = :round;
DELETE FROM sales_order WHERE order_id % 211 = :round;
COMMIT;
-- An order gets another number: a delete and an insert at one place of the log.
UPDATE sales_order SET order_id = order_id + 1000000 WHERE order_id = :round * 7;
BEGIN;
UPDATE sales_order SET total = 0;
ROLLBACK;
\else
BEGIN;
-- Every 37th invoice is never written; every 53rd is a cent too much.
INSERT INTO invoice
  SELECT 'I' || n, 'A' || (1 + n % 97), (n * 41 % 90000) / 100.0 + CASE WHEN n % 53 = 0 THEN 0.01 ELSE 0 END, 'open', date '2026-06-01' + n % 100
  FROM generate_series(2000 + :round * 25 + 1, 2000 + :round * 25 + 25) n WHERE n % 37 <> 0;
-- Every 600th update is lost.
UPDATE invoice SET amount = amount + :round, state = (ARRAY['open','paid','void'])[1 + (substr(invoice_no, 2)::bigint + :round) % 3]
  WHERE substr(invoice_no, 2)::bigint % 40 = :round % 40 AND substr(invoice_no, 2)::bigint % 600 <> 0;
-- Every second cancelled invoice stays.
DELETE FROM invoice WHERE substr(invoice_no, 2)::bigint % 211 = :round AND substr(invoice_no, 2)::bigint % 2 = 0;
COMMIT;
UPDATE invoice SET invoice_no = 'I' || (:round * 7 + 1000000) WHERE invoice_no = 'I' || (:round * 7);
\endif
