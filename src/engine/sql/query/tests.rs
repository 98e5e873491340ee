//! What is refused, with the place, the reason and a way out; and what plans look like.

use super::*;
use crate::{
    plan::TableRef,
    row::{Column, Type},
};

fn catalog() -> Vec<CatalogTable> {
    let tables: [(&str, &[(&str, Type)]); 3] = [
        (
            "opportunity",
            &[
                ("id", Type::Int(64)),
                ("account_id", Type::Int(64)),
                ("amount", Type::Decimal(18, 2)),
                ("currency", Type::Varchar(0)),
                ("stage", Type::Varchar(0)),
                ("closed", Type::Timestamp(3, true)),
            ],
        ),
        ("account", &[("id", Type::Int(64)), ("name", Type::Varchar(80)), ("region", Type::Varchar(0)), ("tier", Type::Int(32)), ("parentId", Type::Uuid)]),
        ("Deal", &[("id", Type::Int(64)), ("score", Type::Double)]),
    ];
    let columns = |list: &[(&str, Type)]| list.iter().map(|(name, ty)| Column { name: name.to_string(), ty: *ty }).collect();
    tables.iter().enumerate().map(|(i, (name, list))| CatalogTable { name: name.to_string(), table: TableRef::Source(i), columns: columns(list) }).collect()
}

fn refused(sql: &str) -> String {
    let problems = plan(sql, &catalog()).map(|p| p.explain()).expect_err(sql);
    let lines = problems.iter().map(|p| format!("{:?}: {}{}", &sql[p.at.clone()], p.message, p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default()));
    lines.collect::<Vec<_>>().join("\n")
}

fn columns(sql: &str) -> String {
    let plan = plan(sql, &catalog()).unwrap_or_else(|problems| panic!("{sql}: {problems:?}"));
    plan.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect::<Vec<_>>().join(", ")
}

#[test]
fn refusals() {
    let mut all = String::new();
    for sql in [
        "SELECT id, row_number() OVER (ORDER BY id) AS n FROM account",
        "SELECT sum(amount) OVER (PARTITION BY stage) FROM opportunity",
        "SELECT id FROM opportunity WHERE closed > now()",
        "SELECT current_date AS d, id FROM account",
        "SELECT random() AS r FROM account",
        "SELECT id, uuid() AS u FROM account",
        "SELECT id FROM account LIMIT 5",
        "SELECT id FROM account OFFSET 5",
        "SELECT id FROM account ORDER BY id",
        "SELECT id FROM (SELECT id FROM account ORDER BY id LIMIT 3) a",
        "SELECT DISTINCT ON (region) id FROM account",
        "SELECT array_agg(id) AS ids FROM account",
        "SELECT string_agg(name, ',') AS names FROM account",
        "SELECT stddev(tier) AS s FROM account",
        "SELECT median(tier) AS s FROM account",
        "SELECT region, tier, count(*) FROM account GROUP BY GROUPING SETS ((region), (tier))",
        "SELECT region, count(*) FROM account GROUP BY ROLLUP (region)",
        "WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM a) SELECT n FROM a",
        "SELECT id, (SELECT max(amount) FROM opportunity) AS m FROM account",
        "SELECT o.id FROM opportunity o, LATERAL (SELECT * FROM account a WHERE a.id = o.account_id) b",
        "SELECT id FROM account WHERE tier > ALL (SELECT 1)",
        "SELECT id FROM account WHERE tier = 1 OR id IN (SELECT account_id FROM opportunity)",
        "SELECT id FROM account WHERE id NOT IN (SELECT account_id FROM opportunity o WHERE o.stage = account.region)",
        "SELECT nme FROM account",
        "SELECT a.nme FROM account a JOIN opportunity o ON o.account_id = a.id",
        "SELECT id FROM acount",
        "SELECT id FROM account JOIN opportunity ON account.id = account_id",
        "SELECT a.id, o.id FROM account a JOIN opportunity o ON a.id = o.account_id",
        "SELECT lowr(name) AS n FROM account",
        "SELECT region, name, count(*) FROM account GROUP BY region",
        "SELECT sum(name) AS n FROM account",
        "SELECT name + 1 AS n FROM account",
        "SELECT NULL AS n FROM account",
        "SELECT id FROM account WHERE name",
        "SELECT id FROM account UNION SELECT id, name FROM account",
        "SELECT id, 9223372036854775807 + 1 AS n FROM account",
        "SELECT closed - closed AS age FROM opportunity",
        "SELECT [1, 2] AS l FROM account",
        "SELECT id FROM account FETCH FIRST 3 ROWS ONLY",
        "SELECT id FROM account TABLESAMPLE (10)",
        "SELECT * FROM unnest([1])",
        "SELECT id FROM",
        "SELEC id FROM account",
        "SELECT 'abc FROM account",
        "DELETE FROM account",
        "SELECT 1 AS a; SELECT 2 AS b",
        "",
    ] {
        all.push_str(&format!("{sql}\n  {}\n", refused(sql).replace('\n', "\n  ")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn plans() {
    let mut all = String::new();
    for sql in [
        "SELECT o.id, a.region, a.tier, coalesce(o.currency, 'EUR') AS currency, o.amount\nFROM opportunity o JOIN account a ON a.id = o.account_id -- the accounts\nWHERE o.stage = 'Closed Won'",
        "SELECT region, sum(tier) AS s, count(*) AS n FROM account WHERE tier > 0 GROUP BY region HAVING count(*) > 1",
        "SELECT a.region, count(DISTINCT o.currency) AS c FROM opportunity o, account a WHERE a.id = o.account_id AND o.amount > a.tier GROUP BY a.region",
        "SELECT DISTINCT region FROM account UNION ALL SELECT stage FROM opportunity",
        "SELECT name FROM account WHERE id NOT IN (SELECT account_id FROM opportunity)",
        "SELECT a.name, o.amount FROM account a LEFT JOIN opportunity o ON o.account_id = a.id AND o.amount > 5",
    ] {
        let plan = plan(sql, &catalog()).unwrap_or_else(|problems| panic!("{sql}: {problems:?}"));
        all.push_str(&format!("{}\n{}\n", plan.meaning(), plan.explain()));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn types() {
    assert_eq!(columns("SELECT * FROM account"), "id bigint, name varchar(80), region varchar, tier int, parentId uuid");
    assert_eq!(columns("SELECT parentId, PARENTID AS p, \"parentId\" AS q FROM account"), "parentId uuid, p uuid, q uuid");
    assert_eq!(columns("SELECT id, Score FROM Deal"), "id bigint, score double");
    assert_eq!(
        columns("SELECT stage, sum(amount) AS s, avg(amount) AS a, min(closed) AS c, count(*) AS n FROM opportunity GROUP BY stage"),
        "stage varchar, s decimal(28,2), a decimal(22,6), c timestamp(3) with time zone, n bigint"
    );
    assert_eq!(
        columns("SELECT sum(tier) AS s, avg(tier) AS a, max(tier) AS m, sum(score) AS d FROM account JOIN Deal ON Deal.id = account.id"),
        "s bigint, a double, m int, d double"
    );
    assert_eq!(columns("SELECT sum(tier) FROM account"), "sum(account.tier) bigint");
    assert_eq!(columns("SELECT name FROM account UNION ALL SELECT stage FROM opportunity"), "name varchar");
    assert_eq!(
        columns("SELECT to_timestamp(tier) AS t, CAST(tier AS tinyint) AS s, CAST(name AS bytea) AS h FROM account"),
        "t timestamp(6), s tinyint, h bytes"
    );
}

#[test]
fn the_meaning_is_free_of_spelling() {
    let meaning = |sql: &str| plan(sql, &catalog()).unwrap().meaning();
    assert_eq!(meaning("SELECT id\n FROM account -- all\n"), meaning("select  id from account"));
    assert_ne!(meaning("SELECT id FROM account"), meaning("SELECT id FROM account WHERE tier = 1"));
}

#[test]
fn no_text_panics() {
    for sql in [
        "SELECT",
        "SELECT *",
        "SELECT * FROM account, account",
        "SELECT * FROM account a, account b",
        "SELECT account.* FROM opportunity",
        "VALUES (1), (2, 3)",
        "SELECT count(*) OVER () FROM account",
        "SELECT sum(sum(tier)) FROM account",
        "SELECT * FROM account NATURAL JOIN opportunity",
        "SELECT id FROM account JOIN opportunity USING (id)",
        "SELECT * FROM account WHERE EXISTS (SELECT 1)",
        "SELECT max() FROM account",
        "SELECT count() FROM account",
        "SELECT (SELECT 1)",
        "SELECT $1",
        "SELECT * FROM (account)",
        "WITH a AS (SELECT 1 AS x), b AS (SELECT * FROM a) SELECT * FROM b, a",
        "SELECT x.* FROM (SELECT 1 AS é) x",
        "SELECT repeat('x', 99999999999) FROM account",
        "TABLE account",
        "EXPLAIN SELECT 1",
        "SELECT * EXCEPT (id) FROM account",
        "SELECT id FROM account WHERE id IN (1, 'x', NULL)",
        "SELECT id FROM account GROUP BY 1",
        "SELECT id FROM account GROUP BY 7",
        "SELECT '\u{0}' FROM account",
        "SELECT count(DISTINCT id, tier) FROM account",
        "SELECT id FROM account a RIGHT ANTI JOIN opportunity o ON a.id = o.id",
        "SELECT id FROM account WHERE id = ANY (SELECT 1)",
        "SELECT 1 FROM account HAVING true",
    ] {
        let _ = plan(sql, &catalog());
    }
    let deep = format!("SELECT {} FROM account", vec!["id"; 1000].join(" + "));
    assert!(refused(&deep).contains("levels deep"));
    let nested = format!("SELECT {}id{} FROM account", "(".repeat(500), ")".repeat(500));
    let _ = plan(&nested, &catalog());
    let tables = (0..12).map(|i| format!("account a{i}")).collect::<Vec<_>>().join(", ");
    plan(&format!("SELECT a0.id FROM {tables} WHERE {}", (1..12).map(|i| format!("a{i}.id = a0.id")).collect::<Vec<_>>().join(" AND ")), &catalog()).unwrap();
}
