-- Tables whose schemas change while they are read. PostgreSQL and MariaDB.
CREATE TABLE person (id int PRIMARY KEY, name varchar(40) NOT NULL, email varchar(40), amount int);
CREATE TABLE doc (id int PRIMARY KEY, title varchar(40) NOT NULL, body text NOT NULL);
CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL);
CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
INSERT INTO doc VALUES (9, 'nine', 'short');
INSERT INTO stock VALUES (0, 0);
INSERT INTO person VALUES (1, 'Ada', 'ada@example.com', 10), (2, 'Bob', 'bob@example.com', 20), (3, 'Cleo', NULL, NULL);
