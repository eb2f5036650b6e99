-- A small ERP, for something to be lost and brought back.
CREATE TABLE companies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

CREATE TABLE invoices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company bigint NOT NULL REFERENCES companies,
    issued timestamptz NOT NULL DEFAULT now(),
    amount numeric(12, 2) NOT NULL CHECK (amount > 0)
);

INSERT INTO companies (name) SELECT format('Company %s', n) FROM generate_series(1, 100) AS n;
INSERT INTO invoices (company, amount)
SELECT 1 + n % 100, (n % 9973 + 1) / 100.0 FROM generate_series(1, 100000) AS n;
