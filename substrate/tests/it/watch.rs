//! The board of agents' words.

use crate::example::agent;
use std::collections::BTreeMap;
use std::net::TcpListener;
use substrate::Dialer;
use substrate::report::Report;
use substrate::watch::Board;

#[tokio::test]
async fn an_agent_that_is_not_there_is_silent_and_a_new_address_starts_over() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut board = Board::new(Dialer::plaintext());
    board.follow(&BTreeMap::from([(agent(0), free.to_string())]));
    assert_eq!(board.reports()[&agent(0)], Report::Awaited);
    board.changed().await;
    assert!(matches!(board.reports()[&agent(0)], Report::Silent { .. }));
    board.follow(&BTreeMap::from([(agent(0), "127.0.0.1:1".to_owned())]));
    assert_eq!(
        board.reports()[&agent(0)],
        Report::Awaited,
        "what its predecessor said is forgotten"
    );
    board.follow(&BTreeMap::new());
    assert!(board.reports().is_empty());
}
