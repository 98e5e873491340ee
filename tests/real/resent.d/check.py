"""What was shown: check.py FOLDER bank|shop. Prints how often a row went back to an older state, how often the sum did,
how many records of differences there were, how many of them showed an older state, and how many were confirmed."""
import json
import os
import sys

folder, of = sys.argv[1:]


def records(name):
    path = os.path.join(folder, name)
    return map(json.loads, open(path)) if os.path.exists(path) else []


def back(name):
    newest, times = {}, 0
    for record in records(name):
        if record["value"] is None or record["value"]["n"] is None:
            continue
        key, n = json.dumps(record["key"]), int(record["value"]["n"])
        times += n < newest.get(key, n)
        newest[key] = n
    return times


def older():
    """Differences that show an older state of a side than differences of that row had shown, and how many are confirmed."""
    newest, shown, old, confirmed = {}, 0, 0, 0
    for record in records(f"{of}.ndjson"):
        value = record["value"]
        if value is None:
            continue
        shown += 1
        confirmed += value["state"] == "confirmed"
        went = False
        for side in ("expected", "actual"):
            if value[side] is None:
                continue
            key, n = (json.dumps(record["key"]), side), int(value[side]["n"])
            went |= n < newest.get(key, n)
            newest[key] = max(n, newest.get(key, n))
        old += went
    return shown, old, confirmed


print(back(f"{of}_copy.ndjson"), back(f"{of}_sum.ndjson"), *older())
