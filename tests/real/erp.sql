-- The ERP: the same orders as invoices, under other names.
CREATE TABLE invoice (
  invoice_no text PRIMARY KEY,
  account_no text NOT NULL,
  amount numeric(12,2) NOT NULL,
  state text NOT NULL,
  invoiced_on date
);
ALTER TABLE invoice REPLICA IDENTITY FULL;
INSERT INTO invoice
  SELECT 'I' || n, 'A' || (1 + n % 97), (n * 37 % 100000) / 100.0, (ARRAY['open','paid','void'])[1 + n % 3], date '2026-01-01' + n % 200
  FROM generate_series(1, 2000) n;
