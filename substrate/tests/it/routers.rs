//! Telling routers their homes, beside everything else.

use proto::v1::router_control_server::{RouterControl, RouterControlServer};
use proto::v1::{GetRouterStatusRequest, Home, RouterStatus, SetHomesReply, SetHomesRequest};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use substrate::Dialer;
use substrate::routers::{Homes, Pace, RouterBoard, RouterOutcome};
use tonic::{Request, Response, Status};

/// A router with the rules of numbers.
#[derive(Clone, Default)]
pub struct Router(pub Arc<Mutex<Option<SetHomesRequest>>>);

#[tonic::async_trait]
impl RouterControl for Router {
    async fn set_homes(
        &self,
        request: Request<SetHomesRequest>,
    ) -> Result<Response<SetHomesReply>, Status> {
        let request = request.into_inner();
        let mut held = self.0.lock().unwrap();
        let older = held.as_ref().is_some_and(|held| {
            held.generation > request.generation
                || held.generation == request.generation && *held != request
        });
        if older {
            return Err(Status::failed_precondition("older"));
        }
        let generation = request.generation;
        *held = Some(request);
        Ok(Response::new(SetHomesReply { generation }))
    }

    async fn get_router_status(
        &self,
        _: Request<GetRouterStatusRequest>,
    ) -> Result<Response<RouterStatus>, Status> {
        let held = self.0.lock().unwrap();
        let generation = held.as_ref().map_or(0, |held| held.generation);
        let homes = held.as_ref().map_or(0, |held| held.homes.len());
        let homes_ready = u32::try_from(homes).unwrap();
        Ok(Response::new(RouterStatus { generation, homes_ready, ..RouterStatus::default() }))
    }
}

/// Serves at a free port until the test ends.
pub fn serve(router: Router) -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = free.local_addr().unwrap();
    drop(free);
    let server = tonic::transport::Server::builder().add_service(RouterControlServer::new(router));
    tokio::spawn(server.serve(address));
    address.to_string()
}

fn homes(names: &[&str]) -> Homes {
    let home = |name: &&str| Home { agent_id: (*name).to_owned(), ..Home::default() };
    Homes { model: "small".to_owned(), homes: names.iter().map(home).collect() }
}

async fn until(board: &RouterBoard, reached: impl Fn(&RouterOutcome) -> bool) {
    while !board.words().values().all(&reached) {
        board.changed().await;
    }
}

#[tokio::test]
async fn homes_are_told_once_and_again_when_they_change() {
    let router = Router::default();
    let mut board = RouterBoard::new(Dialer::plaintext());
    board.follow(&[serve(router.clone())], &[]);
    until(&board, |word| matches!(word, RouterOutcome::Answers(_))).await;
    assert_eq!(*router.0.lock().unwrap(), None, "nothing was ordered");
    board.tell(Some(homes(&["a"])), 7, Pace::Quick);
    until(&board, RouterOutcome::is_ready).await;
    assert_eq!(board.told(), Some(7));
    board.tell(Some(homes(&["a"])), 7, Pace::Quick);
    assert_eq!(board.told(), Some(7), "equal homes keep their number");
    board.tell(Some(homes(&["a", "b"])), 7, Pace::Quick);
    assert_eq!(board.told(), Some(8), "others get a higher one, whatever the plan's is");
    until(&board, |word| word.status().is_some_and(|status| status.homes_ready == 2)).await;
    assert_eq!(router.0.lock().unwrap().as_ref().unwrap().generation, 8);
}

#[tokio::test]
async fn numbers_go_on_from_those_that_a_router_holds() {
    let router = Router::default();
    let held = SetHomesRequest { generation: 41, ..SetHomesRequest::default() };
    *router.0.lock().unwrap() = Some(held);
    let mut board = RouterBoard::new(Dialer::plaintext());
    board.follow(&[serve(router.clone())], &[]);
    board.tell(Some(homes(&["a"])), 3, Pace::Steady);
    until(&board, |word| matches!(word, RouterOutcome::Outdated { generation: 41, .. })).await;
    board.tell(Some(homes(&["a"])), 3, Pace::Steady);
    assert_eq!(board.told(), Some(42));
    until(&board, RouterOutcome::is_ready).await;
}

#[tokio::test]
async fn a_router_that_is_not_there_fails_alone() {
    let router = Router::default();
    let mut board = RouterBoard::new(Dialer::plaintext());
    let (there, gone) = (serve(router), "127.0.0.1:1".to_owned());
    board.follow(&[there.clone(), gone.clone()], &[]);
    board.tell(Some(homes(&["a"])), 1, Pace::Steady);
    until(&board, |word| word.is_ready() || matches!(word, RouterOutcome::Failed { .. })).await;
    let words = board.words();
    assert!(matches!(words[&gone], RouterOutcome::Failed { .. }));
    board.follow(&[there], &[]);
    assert_eq!(board.words().len(), 1);
}

#[tokio::test]
async fn a_router_that_ends_is_told_homes_and_counts_for_nothing() {
    let router = Router::default();
    let address = serve(router.clone());
    let mut board = RouterBoard::new(Dialer::plaintext());
    board.follow(std::slice::from_ref(&address), &[]);
    board.tell(Some(homes(&["a"])), 1, Pace::Quick);
    until(&board, RouterOutcome::is_ready).await;
    board.follow(&[], std::slice::from_ref(&address));
    assert!(board.words().is_empty());
    board.tell(Some(homes(&["b"])), 2, Pace::Quick);
    let told = || router.0.lock().unwrap().as_ref().map(|held| held.homes[0].agent_id.clone());
    while told().as_deref() != Some("b") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(board.words().is_empty());
}
