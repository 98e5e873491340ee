-- The CRM: orders as sales sees them. The load beside it keeps the ERP in step, but for the faults that it plants.
CREATE TABLE sales_order (
  order_id bigint PRIMARY KEY,
  customer_id bigint NOT NULL,
  status text NOT NULL,
  ordered_on date NOT NULL,
  total numeric(12,2) NOT NULL,
  note text
);
ALTER TABLE sales_order REPLICA IDENTITY FULL;
INSERT INTO sales_order
  SELECT n, 1 + n % 97, (ARRAY['open','paid','void'])[1 + n % 3], date '2026-01-01' + n % 200, (n * 37 % 100000) / 100.0, NULL
  FROM generate_series(1, 2000) n;
