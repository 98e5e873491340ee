//! The file format, declared once: what objects there are, their keys, what a value may be, and a sentence on each.
//!
//! The check of files (`check.rs`), the JSON Schemas (`schema.rs`) and the reference (`reference.rs`) are all made from this.

use super::shape::Shape::*;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A text; a number or bool is taken as it is written.
    Text,
    /// SQL: a text, or a literal such as `42`, `true`, `null`.
    Sql,
    /// One value of a column, typed by where it stands.
    Literal,
    /// A whole number.
    Int {
        min: i64,
        max: i64,
    },
    /// A time span such as `50ms`, `30s`, `5m`, `1h`, `1d`; limits in milliseconds.
    Span {
        min_ms: u64,
        max_ms: u64,
    },
    /// A size of memory such as `512MiB`; the limit in bytes.
    Size {
        min: u64,
    },
    /// A column type.
    Type,
    /// An address and port.
    Address,
    /// One of these words, with what each means.
    Word(&'static [(&'static str, &'static str)]),
    /// One of these words, or any other text, which the last sentence explains.
    WordOr(&'static [(&'static str, &'static str)], &'static str),
    List(&'static Shape),
    /// A map from names the user chooses (the text says of what) to values.
    Map(&'static str, &'static Shape),
    Object(&'static Object),
    /// Told apart by being a scalar, a list or a map.
    Either(&'static [Shape]),
    /// Any YAML.
    Any,
}

/// An object with known keys.
#[derive(Debug)]
pub struct Object {
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
    pub rules: &'static [Rule],
}

/// What keys an object must or must not have together.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// One of these, and one only.
    ExactlyOne(&'static [&'static str]),
    /// The first only together with the second.
    Needs(&'static str, &'static str),
    /// The first never together with any of the others.
    Excludes(&'static str, &'static [&'static str]),
}

/// A key of an object.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub doc: &'static str,
    pub required: bool,
    /// The value that counts when the key is lacking.
    pub default: Option<&'static str>,
    pub example: Option<&'static str>,
    /// Only where another key has this value.
    pub only: Option<(&'static str, &'static str)>,
    /// A list that must have an entry.
    pub filled: bool,
    /// What its text must look like, as a regular expression.
    pub pattern: Option<&'static str>,
    /// Nobody may see it: it is named by `${env:NAME}` or `${file:PATH}`, and does not stand in the file.
    pub secret: bool,
}

const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, doc, required: false, default: None, example: None, only: None, filled: false, pattern: None, secret: false }
}

impl Key {
    const fn required(self) -> Key {
        Key { required: true, ..self }
    }

    const fn default(self, value: &'static str) -> Key {
        Key { default: Some(value), ..self }
    }

    const fn example(self, value: &'static str) -> Key {
        Key { example: Some(value), ..self }
    }

    const fn filled(self) -> Key {
        Key { filled: true, ..self }
    }

    const fn secret(self) -> Key {
        Key { secret: true, ..self }
    }

    const fn pattern(self, pattern: &'static str) -> Key {
        Key { pattern: Some(pattern), ..self }
    }

    const fn only(self, key: &'static str, value: &'static str) -> Key {
        Key { only: Some((key, value)), ..self }
    }
}

const DAY_MS: u64 = 86_400_000;
const TEXTS: Shape = List(&Text);
const COMMENT: Key = key("comment", Text, "What a colleague should know about it; shown on the board.");
const TAGS: Key = key("tags", TEXTS, "Words to find it by, such as `personal-data`.").example("[personal-data]");

/// The configuration file: where tieout runs, and the systems it reaches.
pub static CONFIG: Object = Object {
    name: "config",
    doc: "The configuration of one deployment: where tieout keeps its state, how it runs, and the systems it reads and writes.",
    keys: &[
        key(
            "name",
            Text,
            "Tells this deployment from others that write to the same Kafka clusters: its transactions and its topic of progress \
             records are named after it. Small letters, digits, `.`, `_` and `-`.",
        )
        .pattern(r"^[a-z0-9._-]+$|\$\{(env|file):.*\}")
        .default("tieout"),
        key("data_dir", Text, "The folder of tieout's durable state. A relative path is relative to the working directory.").default("./state"),
        key("workers", Int { min: 1, max: 256 }, "Worker threads of the engine; the results do not depend on it.").default("1"),
        key(
            "tick",
            Span { min_ms: 1, max_ms: 10_000 },
            "How often a tick is sealed: shorter shows changes sooner, longer costs less per change. From 1ms to 10s.",
        )
        .default("50ms"),
        key(
            "stuck_after",
            Span { min_ms: 2_000, max_ms: DAY_MS },
            "How long a reader, a partition, an output or the engine may stand still though it has something to do; after that it is \
             named in `/readyz`, in metrics and in the log.",
        )
        .default("30s"),
        key(
            "replay_bound",
            Span { min_ms: 0, max_ms: DAY_MS },
            "How long the end of a range that a connector sends again is waited for. Until then the source is held where it was, so that \
             no older state is shown; after that the range goes on as it comes, with `REPLAY_RELEASED`. `0s`: nothing is held.",
        )
        .default("60s"),
        key(
            "memory_max",
            Size { min: 128 << 20 },
            "Memory that the process may hold, at least 128MiB. Close to it readers slow down, and state goes to a file in `data_dir`, which is slower; what \
             cannot be moved there and fills it ends the run with `MEMORY_EXHAUSTED`. Without it there is no limit. On Linux.",
        )
        .example("4GiB"),
        key("http", Object(&HTTP), "The HTTP API and the board."),
        key("checkpoint", Object(&CHECKPOINT), "The checkpoints that a restart goes on from, in `data_dir`."),
        key("connections", Map("connection", &Object(&CONNECTION)), "The systems that dataflows read and write, by name.").required(),
    ],
    rules: &[],
};

static HTTP: Object = Object {
    name: "http",
    doc: "The HTTP API and the board.",
    keys: &[key("listen", Address, "The address and port to listen on.").default("127.0.0.1:7171")],
    rules: &[],
};

static CHECKPOINT: Object = Object {
    name: "checkpoint",
    doc: "The checkpoints that a restart goes on from, in `data_dir`. `run --once` and the demo take none.",
    keys: &[
        key("interval", Span { min_ms: 100, max_ms: DAY_MS }, "How long after a checkpoint the next one is taken.").default("10s"),
        key("keep", Int { min: 1, max: 1000 }, "How many are kept; the newest sound one is used.").default("3"),
    ],
    rules: &[],
};

static CONNECTION: Object = Object {
    name: "connection",
    doc: "A system that logs are read from, or results written to.",
    keys: &[
        key(
            "kind",
            Word(&[
                ("file", "a folder of files, each a log of messages, one a line"),
                ("kafka", "a Kafka cluster"),
                ("demo", "the simulated departments of `tieout demo`"),
            ]),
            "What kind of system it is.",
        )
        .required(),
        key("dir", Text, "The folder. A relative path is relative to the working directory.").only("kind", "file").required().example("\"${env:TIEOUT_DATA}\""),
        key("brokers", Text, "The brokers to start from, as `host:port`, separated by commas.")
            .only("kind", "kafka")
            .required()
            .example("broker-1:9092,broker-2:9092"),
        key(
            "tls",
            Either(&[
                Word(&[
                    ("none", "nothing is encrypted"),
                    ("system", "what passes is encrypted, and the brokers' certificates are of authorities that the system knows"),
                ]),
                Object(&TLS),
            ]),
            "Encryption of the connection.",
        )
        .only("kind", "kafka")
        .default("none"),
        key("sasl", Object(&SASL), "How tieout logs in.").only("kind", "kafka"),
        key(
            "properties",
            Map(PROPERTIES, &Text),
            "Settings of librdkafka, passed through as they are; encryption and logins are better said by `tls` and `sasl`, which are checked.",
        )
        .only("kind", "kafka")
        .example("{ socket.keepalive.enable: true }"),
        key("registry", Object(&REGISTRY), "The schema registry of messages in Avro.").only("kind", "kafka"),
        key("rate", Int { min: 1, max: 100_000 }, "Changes in a second, all tables of the simulation together.").only("kind", "demo").default("200"),
        key("seed", Int { min: 0, max: i64::MAX }, "What the simulation's chances follow from: the same seed is the same world.")
            .only("kind", "demo")
            .default("1"),
        COMMENT,
    ],
    rules: &[],
};

/// What the entries of a map are called whose keys are librdkafka's names: some of them are secrets.
pub const PROPERTIES: &str = "property";

static TLS: Object = Object {
    name: "encryption",
    doc: "Encryption with certificates. Files are PEM; a relative path is relative to the working directory.",
    keys: &[
        key("ca", Text, "The authorities that may have signed the brokers' certificates. Default: those of the system.").example("/etc/tieout/kafka-ca.pem"),
        key("certificate", Text, "tieout's own certificate, with those that lead to its authority, where the brokers ask for one.")
            .example("/etc/tieout/tieout.pem"),
        key("key", Text, "The key of `certificate`.").example("/etc/tieout/tieout.key"),
        key("key_password", Text, "What opens `key`, by `${env:NAME}` or `${file:PATH}`.").example("\"${env:KAFKA_KEY_PASSWORD}\"").secret(),
    ],
    rules: &[Rule::Needs("certificate", "key"), Rule::Needs("key", "certificate"), Rule::Needs("key_password", "key")],
};

static SASL: Object = Object {
    name: "login",
    doc: "A login by SASL. With `tls`, what it needs is sent encrypted; without, PLAIN and OAUTHBEARER show it to whoever listens.",
    keys: &[
        key(
            "mechanism",
            Word(&[
                ("PLAIN", "user and password, as they are"),
                ("SCRAM-SHA-256", "user and password, of which neither passes as it is"),
                ("SCRAM-SHA-512", "the same with a longer hash"),
                ("OAUTHBEARER", "a token, which tieout asks of an authority by OAuth's client credentials and renews in time"),
            ]),
            "What the brokers ask for.",
        )
        .required(),
        key("username", Text, "The user, for PLAIN and SCRAM."),
        key("password", Text, "The user's password, by `${env:NAME}` or `${file:PATH}`.").example("\"${env:KAFKA_PASSWORD}\"").secret(),
        key("token_url", Text, "Where tokens are given: the authority's token endpoint.")
            .only("mechanism", "OAUTHBEARER")
            .required()
            .example("https://login.example.com/oauth2/token"),
        key("client_id", Text, "tieout's name there.").only("mechanism", "OAUTHBEARER").required().example("tieout"),
        key("client_secret", Text, "What proves it, by `${env:NAME}` or `${file:PATH}`.")
            .only("mechanism", "OAUTHBEARER")
            .required()
            .example("\"${env:KAFKA_CLIENT_SECRET}\"")
            .secret(),
        key("scope", Text, "What the token is for, where the authority asks for it.").only("mechanism", "OAUTHBEARER").example("kafka"),
    ],
    rules: &[Rule::Needs("username", "password"), Rule::Needs("password", "username")],
};

static REGISTRY: Object = Object {
    name: "registry",
    doc: "A schema registry that speaks Confluent's REST API.",
    keys: &[
        key("url", Text, "Its address, with the path below which the API is.").required().example("http://registry:8081"),
        key("username", Text, "The user, where the registry asks for one."),
        key("password", Text, "The user's password, by `${env:NAME}` or `${file:PATH}`.").example("\"${env:REGISTRY_PASSWORD}\"").secret(),
    ],
    rules: &[Rule::Needs("username", "password"), Rule::Needs("password", "username")],
};

/// A dataflow file: sources, what should follow from them, and what to compare.
pub static DATAFLOW: Object = Object {
    name: "dataflow",
    doc: "One dataflow: the tables it reads, the tables that should follow from them, what to compare, what to write, and its tests.",
    keys: &[
        key("dataflow", Text, "The name of the dataflow.").required(),
        key("owner", Text, "Who answers for it; shown with every difference.").example("sales-operations@example.com"),
        COMMENT,
        key("sources", Map("source", &Object(&SOURCE)), "Tables that a log of changes describes, by name."),
        key(
            "transactions",
            Map("transaction log", &Object(&TRANSACTIONS)),
            "Logs in which a connector says where transactions end, by name: rows of one transaction become visible together.",
        ),
        key("targets", Map("target", &Object(&TARGET)), "Tables that should exist, by name; each is computed from sources and other targets."),
        key("comparisons", Map("comparison", &Object(&COMPARISON)), "Pairs of tables that should agree, by name."),
        key("outputs", List(&Object(&OUTPUT)), "What is written to topics and files."),
        key("tests", List(&Object(&TEST)), "Tests of this dataflow, run by `tieout test`."),
    ],
    rules: &[],
};

const FORMATS: &[(&str, &str)] = &[
    ("debezium-json", "Debezium's change events, with or without schema"),
    ("upsert-json", "the message key names the row, the value is the row, null deletes it"),
    ("debezium-avro", "Debezium's change events in Avro, with schemas in the connection's registry"),
    ("upsert-avro", "as `upsert-json`, with key and value in Avro"),
    ("json", "each message is a row; nothing is taken back"),
];

const OUTPUT_FORMATS: &[(&str, &str)] = &[FORMATS[0], FORMATS[1], FORMATS[2], FORMATS[3]];

static SOURCE: Object = Object {
    name: "source",
    doc: "A table that a log of changes describes.",
    keys: &[
        key("connection", Text, "The connection that it is read from.").required(),
        key("files", TEXTS, "Files of the connection's folder, read one after the other; they are followed as they grow, which is mostly the last one.")
            .filled()
            .example("[orders.snapshot.ndjson, orders.changes.ndjson]"),
        key("topic", Text, "The Kafka topic; all its partitions are read.").example("crm.public.sales_order"),
        key("table", Text, "The table of the simulation (of a `demo` connection)."),
        key(
            "start",
            Either(&[Word(&[("beginning", "from the oldest message"), ("end", "only messages that come after the first start")]), Object(&START)]),
            "Where reading of the topic starts when tieout has no position of its own yet.",
        )
        .default("beginning"),
        key(
            "heartbeat",
            WordOr(
                &[("auto", "`__debezium-heartbeat.PREFIX` of the topic's prefix, if there is such a topic"), ("none", "no topic")],
                "the topic of this name",
            ),
            "The topic that tells the source's time while the tables of its connector are quiet: Debezium's heartbeats, or the changes of a captured table that the connector itself writes to.",
        )
        .default("auto"),
        key("format", Word(FORMATS), "How messages are written.").required(),
        key(
            "key",
            Either(&[Word(&[("none", "no column names a row: equal rows are counted (not in `upsert-json` and `upsert-avro`)")]), TEXTS]),
            "The columns that name a row. Required, but for `format: json`, whose default is `none`.",
        )
        .example("[order_id]"),
        key(
            "columns",
            Map("column", &Either(&[Type, Object(&COLUMN)])),
            "The columns that are read, by name, with their types; what else a message holds is left alone.",
        )
        .required()
        .example("{ order_id: bigint, amount: \"decimal(18,2)\" }"),
        key(
            "transactions",
            Text,
            "The log of transactions (of `transactions`) of its connector: what one transaction changes in all sources that name the log becomes visible \
             in one tick.",
        )
        .example("erp_transactions"),
        key(
            "collection",
            Text,
            "The source's table as the log of transactions names it. Default: the topic without the prefix that it shares with the log's topic.",
        )
        .example("public.sales_order"),
        key("wire", Object(&WIRE), "How the connector writes decimals, times and bytes where messages carry no schema."),
        key(
            "schema_change",
            Word(&[
                ("exception", "the source stops at any change"),
                ("evolve", "it stops where a declared column is gone, or has a type that can't be read as the declared one; other changes are accepted"),
                ("lenient", "it never stops: what is gone is NULL, a value of another type is a reject; changes are shown"),
                ("ignore", "nobody looks for changes"),
            ]),
            "What happens when columns or types of the messages change. A source that stops does so exactly before the first such message; comparisons \
             that need it are `stale`, all else goes on, and a start that accepts the change goes on with that message. Default: `evolve`, but `ignore` for \
             `upsert-json` and `json`, whose writers may leave out what is null.",
        )
        .example("exception"),
        COMMENT,
    ],
    rules: &[
        Rule::ExactlyOne(&["files", "topic", "table"]),
        Rule::Needs("start", "topic"),
        Rule::Needs("heartbeat", "topic"),
        Rule::Needs("collection", "transactions"),
    ],
};

static TRANSACTIONS: Object = Object {
    name: "transaction log",
    doc: "The log in which a connector says where transactions end (Debezium's `provide.transaction.metadata`).",
    keys: &[
        key("connection", Text, "The connection that it is read from.").required(),
        key("topic", Text, "The Kafka topic, mostly `PREFIX.transaction`.").example("erp.transaction"),
        key("files", TEXTS, "Files of the connection's folder, read one after the other.").example("[erp.transaction.ndjson]"),
        key(
            "bound",
            Span { min_ms: 1, max_ms: DAY_MS },
            "How long the rest of a transaction is waited for. After that its rows are shown, and differences of their keys are `undetermined` until the \
             rest has come.",
        )
        .default("5s"),
        COMMENT,
    ],
    rules: &[Rule::ExactlyOne(&["files", "topic"])],
};

static START: Object = Object {
    name: "start",
    doc: "A position to start from.",
    keys: &[
        key("offsets", Map("partition", &Int { min: 0, max: i64::MAX }), "The offset by partition; a partition that is not named starts at its beginning.")
            .example("{ 0: 12, 1: 40 }"),
        key("time", Text, "The first message at or after this time, in ISO 8601 (UTC where it names no zone).").example("2026-03-04T05:06:07Z"),
    ],
    rules: &[Rule::ExactlyOne(&["offsets", "time"])],
};

static COLUMN: Object = Object { name: "column", doc: "A column of a source.", keys: &[key("type", Type, "Its type.").required(), COMMENT, TAGS], rules: &[] };

static WIRE: Object = Object {
    name: "wire",
    doc: "How the connector writes decimals, times and bytes where messages carry no schema.",
    keys: &[
        key(
            "decimals",
            Word(&[
                ("text", "text or numbers (`decimal.handling.mode` `string` or `double`)"),
                ("precise", "base64 of the unscaled value (`precise`, the connector's default)"),
            ]),
            "What stands for a decimal.",
        )
        .default("text"),
        key(
            "times",
            Word(&[
                ("adaptive", "milliseconds for a precision up to 3, microseconds up to 6"),
                ("adaptive_time_microseconds", "as `adaptive`, but times of day always in microseconds: the default of MariaDB's and MySQL's connectors"),
                ("microseconds", "always microseconds"),
                ("connect", "always milliseconds"),
                ("nanoseconds", "always nanoseconds"),
            ]),
            "The unit of a number that stands for a time (`time.precision.mode`).",
        )
        .default("adaptive"),
        key(
            "binary",
            Word(&[
                ("base64", "base64 (`binary.handling.mode` `bytes` or `base64`)"),
                ("hex", "hexadecimal digits (`hex`); bit strings are in base64 all the same, and need a source that reads them as `varchar`"),
            ]),
            "What stands for bytes, also where messages carry a schema, which does not tell. Without it: base64 in `debezium-json`; in `upsert-json` and `json` hexadecimal digits, as tieout writes them. (Of the formats in Avro only where bytes are text.)",
        ),
    ],
    rules: &[],
};

static TARGET: Object = Object {
    name: "target",
    doc: "A table that should exist: row by row from one table (`from`, `fields`), or a query (`sql`).",
    keys: &[
        key("key", TEXTS, "The columns that name a row.").required().filled().example("[order_id]"),
        key("from", Text, "The source or target whose rows are mapped one by one."),
        key("where", Sql, "Only rows on which this is true.").example("stage <> 'Draft'"),
        key("fields", Map("column", &Either(&[Sql, Object(&FIELD)])), "The target's columns: each a column's name, an expression, or a rule.")
            .example("{ order_id: \"'SO-' || id\", amount: amount }"),
        key("require", TEXTS, "Target columns that must have a value; a row without is a reject, `REQUIRED_VALUE_MISSING`."),
        key("sql", Sql, "A query over sources and targets: joins, unions, aggregates."),
        COMMENT,
        TAGS,
    ],
    rules: &[Rule::ExactlyOne(&["fields", "sql"]), Rule::Needs("from", "fields"), Rule::Needs("fields", "from"), Rule::Excludes("sql", &["where", "require"])],
};

const POLICIES: &[(&str, &str)] = &[
    ("pass", "the value goes on as it is"),
    ("default", "the value of `default` is taken"),
    ("drop", "the row is not in the target"),
    ("reject", "the row is a reject, `NULL_VALUE`"),
    ("fail", "tieout stops, and says where"),
];

static FIELD: Object = Object {
    name: "field",
    doc: "How a target column comes to its value.",
    keys: &[
        key("value", Sql, "A column's name, or an expression over the columns of `from`."),
        key("case", Sql, "The column or expression whose values `when` maps."),
        key(
            "when",
            Map("value", &Literal),
            "What becomes what. A value that no rule knows is a reject, `MAPPING_NOT_FOUND`, unless there is an `else`; NULL goes to `on_null`.",
        )
        .example("{ Closed Won: confirmed, Closed Lost: cancelled }"),
        key("else", Literal, "What every other value becomes."),
        key("default", Literal, "The value that policies take with `default`; without `on_null` it stands in for NULL, whatever the other policies say."),
        key("on_null", Word(POLICIES), "What happens to NULL, and to a column that the message lacks unless `on_missing` says otherwise.").default("pass"),
        key("on_missing", Word(POLICIES), "What happens when the message lacks the column (of a plain column only)."),
        key("on_empty", Word(POLICIES), "What happens to the empty text."),
        key("type", Type, "The type of the target column, where it should not be that of the value."),
        COMMENT,
        TAGS,
    ],
    rules: &[Rule::ExactlyOne(&["value", "case"]), Rule::Needs("case", "when"), Rule::Needs("when", "case"), Rule::Needs("else", "case")],
};

static COMPARISON: Object = Object {
    name: "comparison",
    doc: "Two tables that should agree, matched by key.",
    keys: &[
        key("expected", Text, "The table that says what should be.").required(),
        key("actual", Text, "The table that says what is.").required(),
        key("grace", Span { min_ms: 0, max_ms: 365 * DAY_MS }, "How much time the actual side has to follow before a difference is confirmed.").default("30s"),
        key("stale_after", Span { min_ms: 1, max_ms: 365 * DAY_MS }, "How long a side's time may stand still before the comparison is stale.").default("60s"),
        key("fields", Either(&[TEXTS, Map("expected column", &Text)]), "The columns to compare: names, or a map from the expected side's names to the actual side's. Default: all columns of the expected table that are not its key.").example("{ account_no: customer }"),
        key("totals", List(&Object(&TOTAL)), "Sums of both sides, that must add up."),
        COMMENT,
    ],
    rules: &[],
};

static TOTAL: Object = Object {
    name: "total",
    doc: "A sum of a comparison, over all rows and by group.",
    keys: &[
        key("sum", Text, "The compared column that is summed; a number.").required(),
        key("by", TEXTS, "The columns to group by: compared columns, or columns of the key.").example("[currency]"),
    ],
    rules: &[],
};

static OUTPUT: Object = Object {
    name: "output",
    doc: "A table, or the differences of a comparison, written to a topic or a file.",
    keys: &[
        key("table", Text, "The target to write."),
        key("differences", Text, "The comparison whose differences to write."),
        key("connection", Text, "The connection to write to.").required(),
        key("topic", Text, "The topic to write to.").example("tieout.expected_order"),
        key("file", Text, "The file of the connection's folder to write to, one message a line.").example("expected_order.ndjson"),
        key("format", Word(OUTPUT_FORMATS), "How messages are written.").default("upsert-json"),
        COMMENT,
    ],
    rules: &[Rule::ExactlyOne(&["table", "differences"]), Rule::ExactlyOne(&["topic", "file"])],
};

static TEST: Object = Object {
    name: "test",
    doc: "A test: events go in, time goes on, and what must hold is named.",
    keys: &[
        key("name", Text, "What the test shows, as a sentence.").required(),
        key("steps", List(&Object(&STEP)), "What happens, in order.").required(),
        COMMENT,
    ],
    rules: &[],
};

static RESTART: Object = Object {
    name: "restart",
    doc: "A restart from a checkpoint, `{}` or with another number of workers.",
    keys: &[key("workers", Int { min: 1, max: 256 }, "Worker threads from then on.").example("3")],
    rules: &[],
};

static STEP: Object = Object {
    name: "step",
    doc: "A step of a test.",
    keys: &[
        key(
            "feed",
            Map("source", &List(&Any)),
            "Events by source, in the source's format; a text stands for the event as JSON text, and `!raw` text for bytes that need not be JSON.",
        ),
        key("advance", Span { min_ms: 0, max_ms: 365 * DAY_MS }, "Moves the source time of all sources forward.").example("30s"),
        key("restart", Object(&RESTART), "Ends everything, and goes on from a checkpoint."),
        key(
            "expect",
            Map("table", &List(&Map("column", &Any))),
            "What must hold now: the rows of a target, the differences of a comparison, or `rejects`, each with the columns that matter.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["feed", "advance", "restart", "expect"])],
};

/// The cluster file: which processes run one dataflow together.
pub static CLUSTER: Object = Object {
    name: "cluster",
    doc: "Several processes that run one dataflow. The same file is for all of them; only `index` differs.",
    keys: &[
        key("name", Text, "Tells this cluster from others; processes of another name are refused. Small letters, digits, `.`, `_` and `-`.")
            .required()
            .example("orders"),
        key("secret", Text, "What all processes know and nobody else, by `${env:NAME}` or `${file:PATH}`; at least 16 bytes. Who does not know it is refused.")
            .required()
            .example("\"${file:cluster.secret}\"")
            .secret(),
        key(
            "encryption",
            Word(&[
                ("tls", "TLS 1.3 with keys of each connection's own, which follow from the secret: nobody on the way can read or change anything"),
                ("none", "as it is: only on a network of their own, or one that is encrypted anyway"),
            ]),
            "What protects the connections between processes; the same for all of them. Who they are is proved in any case.",
        )
        .default("tls"),
        key("processes", Either(&[TEXTS, Object(&STATEFUL)]), "Where each process is reached by the others, as `host:port`, in the order of their indexes.")
            .required()
            .filled()
            .example("[10.0.0.1:7400, 10.0.0.2:7400]"),
        key("index", Text, "Which of them this process is: a number from 0, or a name that ends in one, such as `tieout-2`.").example("\"${env:HOSTNAME}\""),
        key("listen", Text, "Where this process listens for the others. Default: its address in `processes`.").example("0.0.0.0:7400"),
        key("hello_max", Span { min_ms: 100, max_ms: 60_000 }, "How long a connection may take to prove that it is from a process of the cluster.")
            .default("5s"),
        key("silence_max", Span { min_ms: 1_000, max_ms: 600_000 }, "How long a process may be silent before it counts as lost, and the cluster stops.")
            .default("5s"),
        key("start_max", Span { min_ms: 1_000, max_ms: DAY_MS }, "How long a start waits for all processes.").default("5m"),
        key("strangers_max", Int { min: 1, max: 10_000 }, "Connections that have not proved anything yet, at once; of more than that the oldest are cut.")
            .default("64"),
        COMMENT,
    ],
    rules: &[],
};

static STATEFUL: Object = Object {
    name: "stateful set",
    doc: "Processes whose addresses differ only in their numbers, as those of a stateful set of Kubernetes.",
    keys: &[
        key("count", Int { min: 1, max: 1_000 }, "How many there are.").required().example("\"${env:TIEOUT_PROCESSES}\""),
        key("address", Text, "The address of each, as `host:port`; `{index}` stands for its number, from 0.")
            .required()
            .example("\"tieout-{index}.tieout:7400\""),
    ],
    rules: &[],
};

/// All objects of all kinds of files, each once, a file's own first.
pub fn objects() -> Vec<&'static Object> {
    fn visit(shape: &Shape, found: &mut Vec<&'static Object>) {
        match shape {
            Object(object) => add(object, found),
            List(of) | Map(_, of) => visit(of, found),
            Either(shapes) => shapes.iter().for_each(|shape| visit(shape, found)),
            _ => {}
        }
    }
    fn add(object: &'static self::Object, found: &mut Vec<&'static self::Object>) {
        if !found.iter().any(|o| o.name == object.name) {
            found.push(object);
            object.keys.iter().for_each(|key| visit(&key.shape, found));
        }
    }
    let mut found = Vec::new();
    add(&CONFIG, &mut found);
    add(&DATAFLOW, &mut found);
    add(&CLUSTER, &mut found);
    found
}
