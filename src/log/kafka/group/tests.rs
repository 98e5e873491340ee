//! What a real broker knows of a group. Run by `tests/real/run` (`KAFKA_BOOTSTRAP=… cargo test --lib real -- --ignored`).

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use super::*;
use crate::plan::Properties;

#[test]
#[ignore = "needs a real broker"]
fn real_a_group_knows_what_checkpoints_cover_and_the_source_that_is_behind_counts() {
    let brokers = std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP names a broker");
    let unique = format!("group-{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
    let config = client::config(&brokers, &Properties::default());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let new = NewTopic::new(&unique, 2, TopicReplication::Fixed(1));
    runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    let mut of = config.clone();
    let consumer = {
        of.set("group.id", &unique);
        of.consumer(|client| client).unwrap()
    };
    let sources = vec![(0, unique.clone()), (2, unique.clone())];
    let groups = Groups(vec![Group::start("bus".into(), sources, consumer)]);
    let covered: [&Positions; 3] = [&[(0, 7), (1, 5)], &[(0, 1)], &[(0, 9), (1, 2)]];
    groups.cover(|source| covered[source]);
    let began = Instant::now();
    groups.finish();
    assert!(began.elapsed() < PATIENCE_AT_END, "it waits as long as the brokers take, and no longer");
    let asked: BaseConsumer = of.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&unique, 0, 1);
    let found = asked.committed_offsets(list, Duration::from_secs(10)).unwrap();
    assert_eq!(found.elements().iter().map(|e| e.offset()).collect::<Vec<_>>(), [Offset::Offset(7), Offset::Offset(2)]);
}
