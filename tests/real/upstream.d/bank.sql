-- Money that transactions move between two tables: the sum of both is always the same. PostgreSQL and MariaDB.
CREATE TABLE checking (id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE saving (id bigint PRIMARY KEY, balance bigint NOT NULL);
-- No key: equal rows are there several times. (Outside of the transactions that are looked at.)
CREATE TABLE passing (till int, amount int, receipt text);
CREATE TABLE scratch (id bigint PRIMARY KEY);
-- Written in step. (tests/real/resent)
CREATE TABLE meter (id bigint PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE mirror (id bigint PRIMARY KEY, n bigint NOT NULL);
INSERT INTO checking VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 1000), (7, 1000), (8, 1000);
INSERT INTO saving VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 1000), (7, 1000), (8, 1000);
INSERT INTO passing VALUES (0, 1, 'x'), (0, 1, 'x'), (0, 2, NULL);
INSERT INTO scratch VALUES (1);
INSERT INTO meter VALUES (100, 0), (101, 0), (102, 0), (103, 0), (104, 0), (105, 0), (106, 0), (107, 0), (108, 0), (109, 0), (110, 0), (111, 0), (112, 0), (113, 0), (114, 0), (115, 0), (116, 0), (117, 0), (118, 0), (119, 0), (200, 0), (201, 0), (202, 0), (203, 0), (204, 0), (205, 0), (206, 0), (207, 0), (208, 0), (209, 0), (210, 0), (211, 0), (212, 0), (213, 0), (214, 0), (215, 0), (216, 0), (217, 0), (218, 0), (219, 0);
INSERT INTO mirror SELECT * FROM meter;
