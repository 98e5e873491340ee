"""Reads records of a sum's topic: check.py FILE TOTAL. Prints how many totals were wrong, how many records there are, and
what `moved` was last."""
import json
import sys

wrong, records, last = 0, 0, None
for line in open(sys.argv[1]):
    parts = line.rstrip("\n").split("\t")
    if len(parts) != 2 or parts[1] == "null":
        continue
    row = json.loads(parts[1])
    records += 1
    last = row["moved"]
    wrong += int(row["total"]) != int(sys.argv[2])
print(wrong, records, last)
