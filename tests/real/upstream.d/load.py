"""SQL that moves money: load.py SEED TRANSACTIONS postgres|mariadb. Sums never change, whatever is rolled back."""
import random
import sys

seed, many, dialect = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
maria = dialect == "mariadb"
dice = random.Random(seed)
sleep = "DO SLEEP(0.002);" if maria else "SELECT pg_sleep(0.002);"
# Rows of its own, so that sessions do not wait for one another in circles.
own = 100_000 * seed
for n in range(many):
    a, b, amount = dice.randint(1, 8), dice.randint(1, 8), dice.randint(1, 50)
    print("BEGIN;")
    print(f"UPDATE checking SET balance = balance - {amount} WHERE id = {a};")
    kind = dice.random()
    if kind < 0.5:
        print(f"UPDATE saving SET balance = balance + {amount} WHERE id = {b};")
    elif kind < 0.8:
        print(f"INSERT INTO saving VALUES ({own + n}, {amount});")
    elif kind < 0.97:
        # A row that comes, moves to another key, and stays: the key change counts as two events.
        print(f"INSERT INTO saving VALUES ({own + n}, {amount}); UPDATE saving SET id = {own + n + 50_000} WHERE id = {own + n};")
    else:
        # As large as several chunks of messages.
        values = ", ".join(f"({10_000_000 * seed + n * 2000 + i}, 1)" for i in range(1500))
        print(f"INSERT INTO saving VALUES {values};")
        print(f"UPDATE saving SET balance = balance + {amount} - 1500 WHERE id = {b};")
    print("ROLLBACK;" if dice.random() < 0.1 else "COMMIT;")
    if n % 50 == 7:
        # A transaction alone; MariaDB's connector sends no end of it.
        print("TRUNCATE scratch;")
        print(f"CREATE TABLE extra_{seed}_{n} (id bigint PRIMARY KEY);")
    if n % 3 == 0:
        print(sleep)
