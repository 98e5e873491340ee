"""truth.py TRUTH DIFFERENCES: exits 1 unless the exported differences are the generator's true ones, each once, in order."""
import csv
import sys

truth, found = (list(csv.DictReader(open(path, newline=""))) for path in sys.argv[1:3])


def fact(line):
    whole = line["kind"] != "mismatched"
    values = ("", "", "") if whole else (line["field"], line["expected"], line["actual"])
    return (line["key"], line["kind"], *values)


wanted, got = sorted(map(fact, truth)), [fact(line) for line in found]
lacking, surplus = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
for name, facts in (("lacking", lacking), ("not true", surplus)):
    for line in facts[:10]:
        print(name, *line, sep=",", file=sys.stderr)
if [f[:1] + f[2:3] for f in got] != sorted(f[:1] + f[2:3] for f in got):
    sys.exit("not sorted by key, then field")
if wanted != sorted(got):
    sys.exit(f"{len(wanted)} true lines, {len(got)} found, {len(lacking)} lacking, {len(surplus)} not true")
print(f"  {len(got)} lines of differences")
