-- Money that transactions move between two tables: the sum of both is always the same. PostgreSQL and MariaDB.
CREATE TABLE checking (id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE saving (id bigint PRIMARY KEY, balance bigint NOT NULL);
-- No key: equal rows are there several times. (Outside of the transactions that are looked at.)
CREATE TABLE passing (till int, amount int, receipt text);
CREATE TABLE scratch (id bigint PRIMARY KEY);
INSERT INTO checking VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 1000), (7, 1000), (8, 1000);
INSERT INTO saving VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 1000), (7, 1000), (8, 1000);
INSERT INTO passing VALUES (0, 1, 'x'), (0, 1, 'x'), (0, 2, NULL);
INSERT INTO scratch VALUES (1);
