-- The ERP mends a part of its mistakes: amounts that are a cent too much, and what should have gone.
UPDATE invoice SET amount = amount - 0.01 WHERE substr(invoice_no, 2)::bigint % 53 = 0 AND substr(invoice_no, 2)::bigint BETWEEN 2001 AND 2800;
DELETE FROM invoice WHERE substr(invoice_no, 2)::bigint % 211 = 5;
