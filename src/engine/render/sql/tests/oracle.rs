//! Queries and what they mean, as plain loops.

use std::collections::{BTreeMap, BTreeSet};

use crate::row::Value;

#[derive(Clone, Debug)]
pub struct T {
    pub id: i64,
    pub k: Option<i64>,
    /// In hundredths.
    pub v: Option<i64>,
    pub s: Option<&'static str>,
    pub d: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct U {
    pub id: i64,
    pub k: Option<i64>,
    pub w: Option<i64>,
    pub s: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct X {
    pub k: Option<i64>,
    pub n: Option<&'static str>,
    /// All bytes of a uuid.
    pub g: u8,
    pub b: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub struct Database {
    pub t: Vec<T>,
    pub u: Vec<U>,
    pub x: Vec<X>,
}

pub type Row = Vec<Value>;
type Oracle = fn(&Database) -> (Vec<Row>, isize);

fn int(n: Option<i64>) -> Value {
    n.map_or(Value::Null, Value::Int)
}

fn dec(n: Option<i64>) -> Value {
    n.map_or(Value::Null, |n| Value::Decimal(n.into()))
}

fn txt(t: Option<&str>) -> Value {
    t.map_or(Value::Null, |t| Value::Text(t.into()))
}

fn dbl(d: Option<f64>) -> Value {
    d.map_or(Value::Null, Value::Double)
}

fn none(rows: Vec<Row>) -> (Vec<Row>, isize) {
    (rows, 0)
}

/// Rows grouped by a key, in which NULL equals NULL.
fn groups<R: Clone, K: Ord>(rows: &[R], key: impl Fn(&R) -> K) -> BTreeMap<K, Vec<R>> {
    let mut groups: BTreeMap<K, Vec<R>> = BTreeMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row.clone());
    }
    groups
}

/// The sum of those that are not NULL, NULL if there are none.
fn sum(values: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    values.flatten().fold(None, |sum, n| Some(sum.unwrap_or(0) + n))
}

fn same(a: Option<i64>, b: Option<i64>) -> bool {
    a.is_some() && a == b
}

pub const QUERIES: &[(&str, Oracle)] = &[
    ("SELECT id, k, v, s, d FROM t", |db| none(db.t.iter().map(|t| vec![int(Some(t.id)), int(t.k), dec(t.v), txt(t.s), dbl(t.d)]).collect())),
    ("SELECT g, upper(n) AS n, b FROM x", |db| {
        none(db.x.iter().map(|x| vec![Value::Uuid([x.g; 16]), txt(x.n.map(str::to_uppercase).as_deref()), x.b.map_or(Value::Null, Value::Bool)]).collect())
    }),
    ("SELECT id, v * 2 AS v2, coalesce(s, 'none') AS s FROM t WHERE k >= 1 AND (s <> 'a' OR s IS NULL)", |db| {
        let kept = db.t.iter().filter(|t| t.k.is_some_and(|k| k >= 1) && t.s != Some("a"));
        none(kept.map(|t| vec![int(Some(t.id)), dec(t.v.map(|v| v * 2)), txt(Some(t.s.unwrap_or("none")))]).collect())
    }),
    // A division by zero concerns its row only.
    ("SELECT id, 12 / w AS q FROM u WHERE k IS NOT NULL", |db| {
        let kept: Vec<&U> = db.u.iter().filter(|u| u.k.is_some()).collect();
        let bad = kept.iter().filter(|u| u.w == Some(0)).count() as isize;
        (kept.iter().filter(|u| u.w != Some(0)).map(|u| vec![int(Some(u.id)), int(u.w.map(|w| 12 / w))]).collect(), bad)
    }),
    ("SELECT s FROM t UNION ALL SELECT s FROM u", |db| none(db.t.iter().map(|t| vec![txt(t.s)]).chain(db.u.iter().map(|u| vec![txt(u.s)])).collect())),
    ("SELECT k FROM t UNION SELECT k FROM u", |db| {
        let all: BTreeSet<Option<i64>> = db.t.iter().map(|t| t.k).chain(db.u.iter().map(|u| u.k)).collect();
        none(all.into_iter().map(|k| vec![int(k)]).collect())
    }),
    ("SELECT DISTINCT k, n FROM x", |db| {
        let all: BTreeSet<_> = db.x.iter().map(|x| (x.k, x.n)).collect();
        none(all.into_iter().map(|(k, n)| vec![int(k), txt(n)]).collect())
    }),
    ("SELECT t.id, u.id AS uid, u.w FROM t JOIN u ON t.k = u.k", |db| {
        let mut rows = Vec::new();
        for t in &db.t {
            for u in db.u.iter().filter(|u| same(t.k, u.k)) {
                rows.push(vec![int(Some(t.id)), int(Some(u.id)), int(u.w)]);
            }
        }
        none(rows)
    }),
    ("SELECT t.id, u.id AS uid FROM t, u WHERE t.k = u.k AND t.s = u.s AND t.id < u.w", |db| {
        let mut rows = Vec::new();
        for t in &db.t {
            for u in db.u.iter().filter(|u| same(t.k, u.k) && t.s.is_some() && t.s == u.s && u.w.is_some_and(|w| t.id < w)) {
                rows.push(vec![int(Some(t.id)), int(Some(u.id))]);
            }
        }
        none(rows)
    }),
    ("SELECT x.n, t.id, t.k FROM x LEFT JOIN t ON x.k = t.k", |db| {
        let mut rows = Vec::new();
        for x in &db.x {
            let matches: Vec<&T> = db.t.iter().filter(|t| same(x.k, t.k)).collect();
            rows.extend(matches.iter().map(|t| vec![txt(x.n), int(Some(t.id)), int(t.k)]));
            if matches.is_empty() {
                rows.push(vec![txt(x.n), Value::Null, Value::Null]);
            }
        }
        none(rows)
    }),
    ("SELECT x.n, x.k AS xk, t.k FROM t RIGHT JOIN x ON x.k = t.k AND t.v > 0", |db| {
        let mut rows = Vec::new();
        for x in &db.x {
            let matches: Vec<&T> = db.t.iter().filter(|t| same(x.k, t.k) && t.v.is_some_and(|v| v > 0)).collect();
            rows.extend(matches.iter().map(|t| vec![txt(x.n), int(x.k), int(t.k)]));
            if matches.is_empty() {
                rows.push(vec![txt(x.n), int(x.k), Value::Null]);
            }
        }
        none(rows)
    }),
    ("SELECT x.k AS xk, x.n, u.k AS uk, u.id FROM x FULL JOIN u ON x.k = u.k", |db| {
        let mut rows = Vec::new();
        for x in &db.x {
            for u in db.u.iter().filter(|u| same(x.k, u.k)) {
                rows.push(vec![int(x.k), txt(x.n), int(u.k), int(Some(u.id))]);
            }
            if !db.u.iter().any(|u| same(x.k, u.k)) {
                rows.push(vec![int(x.k), txt(x.n), Value::Null, Value::Null]);
            }
        }
        for u in db.u.iter().filter(|u| !db.x.iter().any(|x| same(x.k, u.k))) {
            rows.push(vec![Value::Null, Value::Null, int(u.k), int(Some(u.id))]);
        }
        none(rows)
    }),
    ("SELECT x.n, u.id, u.w FROM x FULL JOIN u ON x.k = u.k AND x.n < u.s", |db| {
        let holds = |x: &X, u: &U| same(x.k, u.k) && x.n.is_some() && u.s.is_some() && x.n < u.s;
        let mut rows = Vec::new();
        for x in &db.x {
            for u in db.u.iter().filter(|u| holds(x, u)) {
                rows.push(vec![txt(x.n), int(Some(u.id)), int(u.w)]);
            }
            if !db.u.iter().any(|u| holds(x, u)) {
                rows.push(vec![txt(x.n), Value::Null, Value::Null]);
            }
        }
        for u in db.u.iter().filter(|u| !db.x.iter().any(|x| holds(x, u))) {
            rows.push(vec![Value::Null, int(Some(u.id)), int(u.w)]);
        }
        none(rows)
    }),
    ("SELECT x.n, t.id FROM x LEFT JOIN t ON x.k < t.k", |db| {
        let mut rows = Vec::new();
        for x in &db.x {
            let matches: Vec<&T> = db.t.iter().filter(|t| x.k.is_some() && t.k.is_some() && x.k < t.k).collect();
            rows.extend(matches.iter().map(|t| vec![txt(x.n), int(Some(t.id))]));
            if matches.is_empty() {
                rows.push(vec![txt(x.n), Value::Null]);
            }
        }
        none(rows)
    }),
    ("SELECT x.k, u.id FROM x CROSS JOIN u", |db| {
        let mut rows = Vec::new();
        for x in &db.x {
            rows.extend(db.u.iter().map(|u| vec![int(x.k), int(Some(u.id))]));
        }
        none(rows)
    }),
    ("SELECT t.id, x.n FROM t JOIN x ON t.k IS NOT DISTINCT FROM x.k", |db| {
        let mut rows = Vec::new();
        for t in &db.t {
            rows.extend(db.x.iter().filter(|x| x.k == t.k).map(|x| vec![int(Some(t.id)), txt(x.n)]));
        }
        none(rows)
    }),
    ("SELECT k, n FROM x WHERE k IN (SELECT k FROM t WHERE v > 0)", |db| {
        let kept = db.x.iter().filter(|x| db.t.iter().any(|t| t.v.is_some_and(|v| v > 0) && same(t.k, x.k)));
        none(kept.map(|x| vec![int(x.k), txt(x.n)]).collect())
    }),
    ("SELECT k, n FROM x WHERE k NOT IN (SELECT k FROM t)", |db| {
        let list: Vec<Option<i64>> = db.t.iter().map(|t| t.k).collect();
        let kept = db.x.iter().filter(|x| list.is_empty() || (x.k.is_some() && list.iter().all(|k| k.is_some() && *k != x.k)));
        none(kept.map(|x| vec![int(x.k), txt(x.n)]).collect())
    }),
    ("SELECT n FROM x WHERE EXISTS (SELECT 1 FROM t WHERE t.k = x.k AND t.s <> x.n)", |db| {
        let kept = db.x.iter().filter(|x| db.t.iter().any(|t| same(t.k, x.k) && t.s.is_some() && x.n.is_some() && t.s != x.n));
        none(kept.map(|x| vec![txt(x.n)]).collect())
    }),
    ("SELECT n, k FROM x WHERE NOT EXISTS (SELECT * FROM t WHERE t.k = x.k)", |db| {
        let kept = db.x.iter().filter(|x| !db.t.iter().any(|t| same(t.k, x.k)));
        none(kept.map(|x| vec![txt(x.n), int(x.k)]).collect())
    }),
    ("SELECT n, k FROM x WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = x.k AND u.w > x.k)", |db| {
        let kept = db.x.iter().filter(|x| !db.u.iter().any(|u| same(u.k, x.k) && u.w.is_some() && u.w > x.k));
        none(kept.map(|x| vec![txt(x.n), int(x.k)]).collect())
    }),
    ("SELECT k FROM x INTERSECT SELECT k FROM t", |db| {
        let (a, b): (BTreeSet<_>, BTreeSet<_>) = (db.x.iter().map(|x| x.k).collect(), db.t.iter().map(|t| t.k).collect());
        none(a.intersection(&b).map(|k| vec![int(*k)]).collect())
    }),
    ("SELECT k FROM x EXCEPT SELECT k FROM t", |db| {
        let (a, b): (BTreeSet<_>, BTreeSet<_>) = (db.x.iter().map(|x| x.k).collect(), db.t.iter().map(|t| t.k).collect());
        none(a.difference(&b).map(|k| vec![int(*k)]).collect())
    }),
    ("SELECT s, k, sum(v) AS total, count(*) AS n, count(v) AS nv, min(v) AS low, max(v) AS high, sum(d) AS d FROM t GROUP BY s, k", |db| {
        let rows = groups(&db.t, |t| (t.s, t.k)).into_iter().map(|((s, k), rows)| {
            let d: Vec<f64> = rows.iter().filter_map(|t| t.d).collect();
            let values = || rows.iter().filter_map(|t| t.v);
            vec![
                txt(s),
                int(k),
                dec(sum(rows.iter().map(|t| t.v))),
                int(Some(rows.len() as i64)),
                int(Some(values().count() as i64)),
                dec(values().min()),
                dec(values().max()),
                dbl((!d.is_empty()).then(|| d.iter().sum())),
            ]
        });
        none(rows.collect())
    }),
    ("SELECT count(*) AS n, sum(w) AS w, max(s) AS s, min(id) AS id, avg(w) AS mean FROM u", |db| {
        let w: Vec<i64> = db.u.iter().filter_map(|u| u.w).collect();
        let mean = (!w.is_empty()).then(|| w.iter().sum::<i64>() as f64 / w.len() as f64);
        none(vec![vec![
            int(Some(db.u.len() as i64)),
            int(sum(db.u.iter().map(|u| u.w))),
            txt(db.u.iter().filter_map(|u| u.s).max()),
            int(db.u.iter().map(|u| u.id).min()),
            dbl(mean),
        ]])
    }),
    ("SELECT k, avg(v) AS mean FROM t GROUP BY k", |db| {
        let rows = groups(&db.t, |t| t.k).into_iter().map(|(k, rows)| {
            let v: Vec<i64> = rows.iter().filter_map(|t| t.v).collect();
            // Four digits more, the last one rounded half away from zero.
            let mean = |sum: i64, n: i64| (sum.abs() * 10_000 * 2 + n) / (2 * n) * sum.signum();
            vec![int(k), dec((!v.is_empty()).then(|| mean(v.iter().sum(), v.len() as i64)))]
        });
        none(rows.collect())
    }),
    ("SELECT n, count(DISTINCT k) AS c, sum(DISTINCT k) AS s, count(DISTINCT g) AS g, bool_or(b) AS any FROM x GROUP BY n HAVING count(*) > 1", |db| {
        let kept = groups(&db.x, |x| x.n).into_iter().filter(|(_, rows)| rows.len() > 1);
        let rows = kept.map(|(n, rows)| {
            let k: BTreeSet<i64> = rows.iter().filter_map(|x| x.k).collect();
            let g: BTreeSet<u8> = rows.iter().map(|x| x.g).collect();
            let any = rows.iter().filter_map(|x| x.b).max();
            vec![
                txt(n),
                int(Some(k.len() as i64)),
                int((!k.is_empty()).then(|| k.iter().sum())),
                int(Some(g.len() as i64)),
                any.map_or(Value::Null, Value::Bool),
            ]
        });
        none(rows.collect())
    }),
    ("SELECT s, count(*) FILTER (WHERE v > 0) AS up, sum(v) FILTER (WHERE k = 1) AS one FROM t GROUP BY s", |db| {
        let rows = groups(&db.t, |t| t.s).into_iter().map(|(s, rows)| {
            let up = rows.iter().filter(|t| t.v.is_some_and(|v| v > 0)).count() as i64;
            vec![txt(s), int(Some(up)), dec(sum(rows.iter().filter(|t| t.k == Some(1)).map(|t| t.v)))]
        });
        none(rows.collect())
    }),
    ("WITH best AS (SELECT k, max(w) AS w FROM u GROUP BY k) SELECT u.id, best.w - u.w AS behind FROM u JOIN best ON best.k = u.k WHERE u.w < best.w", |db| {
        let mut rows = Vec::new();
        for u in &db.u {
            let best = db.u.iter().filter(|o| same(o.k, u.k)).filter_map(|o| o.w).max();
            if let (Some(best), Some(w)) = (best, u.w)
                && w < best
            {
                rows.push(vec![int(Some(u.id)), int(Some(best - w))]);
            }
        }
        none(rows)
    }),
    ("SELECT n, count(*) AS c FROM (SELECT lower(s) AS n FROM t UNION ALL SELECT n FROM x) AS both_sides GROUP BY n", |db| {
        let all: Vec<Option<String>> = db.t.iter().map(|t| t.s.map(str::to_lowercase)).chain(db.x.iter().map(|x| x.n.map(str::to_string))).collect();
        none(groups(&all, Clone::clone).into_iter().map(|(n, rows)| vec![txt(n.as_deref()), int(Some(rows.len() as i64))]).collect())
    }),
    ("SELECT a.id, b.id AS other FROM t a JOIN t b ON a.s = b.s AND a.id < b.id", |db| {
        let mut rows = Vec::new();
        for a in &db.t {
            rows.extend(db.t.iter().filter(|b| a.s.is_some() && a.s == b.s && a.id < b.id).map(|b| vec![int(Some(a.id)), int(Some(b.id))]));
        }
        none(rows)
    }),
    ("SELECT x.n, sum(t.v) AS v, count(u.id) AS c FROM x LEFT JOIN t ON t.k = x.k LEFT JOIN u ON u.id = t.id GROUP BY x.n", |db| {
        let mut joined: Vec<(Option<&str>, Option<i64>, Option<i64>)> = Vec::new();
        for x in &db.x {
            let matches: Vec<&T> = db.t.iter().filter(|t| same(t.k, x.k)).collect();
            if matches.is_empty() {
                joined.push((x.n, None, None));
            }
            joined.extend(matches.iter().map(|t| (x.n, t.v, db.u.iter().find(|u| u.id == t.id).map(|u| u.id))));
        }
        let rows = groups(&joined, |j| j.0)
            .into_iter()
            .map(|(n, rows)| vec![txt(n), dec(sum(rows.iter().map(|j| j.1))), int(Some(rows.iter().filter(|j| j.2.is_some()).count() as i64))]);
        none(rows.collect())
    }),
    ("SELECT count(*) AS n FROM (SELECT k FROM t GROUP BY k HAVING count(*) > 1) AS many", |db| {
        none(vec![vec![int(Some(groups(&db.t, |t| t.k).values().filter(|rows| rows.len() > 1).count() as i64))]])
    }),
    ("SELECT 1 AS one, 'x' AS x", |_| none(vec![vec![int(Some(1)), txt(Some("x"))]])),
    ("SELECT v.a, u.id FROM (VALUES (1, 'p'), (2, 'q')) AS v(n, a) JOIN u ON u.k = v.n", |db| {
        let mut rows = Vec::new();
        for (n, a) in [(1, "p"), (2, "q")] {
            rows.extend(db.u.iter().filter(|u| u.k == Some(n)).map(|u| vec![txt(Some(a)), int(Some(u.id))]));
        }
        none(rows)
    }),
    ("SELECT id FROM t WHERE false", |_| none(Vec::new())),
    ("SELECT count(*) AS n, max(id) AS id FROM t WHERE 1 = 2", |_| none(vec![vec![int(Some(0)), Value::Null]])),
];
