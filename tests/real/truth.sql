-- What differs between the two databases: key, kind, field, expected, actual. A row of `missing` or `unexpected` has no more
-- than its key. Runs in a database that holds copies of both tables.
WITH expected AS (
  SELECT 'I' || order_id AS invoice_no, 'A' || customer_id AS account_no, total AS amount, status AS state, ordered_on AS invoiced_on FROM sales_order
), both_sides AS (
  SELECT coalesce(e.invoice_no, a.invoice_no) AS key, e, a FROM expected e FULL JOIN invoice a USING (invoice_no)
)
SELECT key, 'missing', '', '', '' FROM both_sides WHERE (a).invoice_no IS NULL
UNION ALL SELECT key, 'unexpected', '', '', '' FROM both_sides WHERE (e).invoice_no IS NULL
UNION ALL
SELECT key, 'mismatched', field, want, have FROM both_sides, LATERAL (VALUES
  ('account_no', (e).account_no, (a).account_no), ('amount', (e).amount::text, (a).amount::text),
  ('state', (e).state, (a).state), ('invoiced_on', (e).invoiced_on::text, (a).invoiced_on::text)) f(field, want, have)
WHERE (e).invoice_no IS NOT NULL AND (a).invoice_no IS NOT NULL AND want IS DISTINCT FROM have
