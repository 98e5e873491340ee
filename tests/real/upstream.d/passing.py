"""SQL that changes a table without a key: passing.py SEED CHANGES. Equal rows come, change together, and go."""
import random
import sys

seed, many = int(sys.argv[1]), int(sys.argv[2])
dice = random.Random(seed)
for n in range(many):
    amount = dice.randint(1, 8)
    # As long as TOAST keeps apart.
    text = "".join(dice.choices("0123456789abcdef", k=9000)) if n % 20 == 0 else "x"
    which = f"till = {seed} AND amount = {amount}"
    print([
        f"INSERT INTO passing VALUES ({seed}, {amount}, '{text}'), ({seed}, {amount}, 'x'), ({seed}, {amount}, NULL);",
        f"INSERT INTO passing VALUES ({seed}, {amount}, '{text}'), ({seed}, {amount}, '{text}');",
        f"UPDATE passing SET amount = {dice.randint(1, 8)} WHERE {which};",
        f"DELETE FROM passing WHERE {which} AND receipt = 'x';" if n % 8 == 3 else "",
    ][n % 4])
