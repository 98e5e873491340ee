"""SQL that adds to two tables in step: load.py SEED TRANSACTIONS postgres|mariadb."""
import random
import sys

seed, many, dialect = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dice = random.Random(seed)
sleep = "DO SLEEP(0.01);" if dialect == "mariadb" else "SELECT pg_sleep(0.01);"
for n in range(many):
    # Rows of its own, so that sessions do not wait for one another in circles.
    ids = ", ".join(str(seed * 100 + i) for i in dice.sample(range(20), dice.randint(1, 4)))
    print(f"BEGIN; UPDATE meter SET n = n + 1 WHERE id IN ({ids}); UPDATE mirror SET n = n + 1 WHERE id IN ({ids}); COMMIT; {sleep}")
