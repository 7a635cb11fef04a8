//! What a session has to say, in the order of its weight. It holds at most one of each thing that a newer one replaces,
//! so a spoke that reads slowly costs no memory. No I/O.

use std::collections::VecDeque;

use nave_proto::v1::{Heartbeat, HubMessage, Peers, Standing, hub_message::Message};

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    standing: Option<Standing>,
    heartbeat: Option<u64>,
    /// Before the desired set: who begins to pull knows whom to ask.
    peers: Option<Peers>,
    answers: VecDeque<Message>,
    /// The desired set is looked up when there is room to send it: the latest wins.
    desired: bool,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// This.
    Message(HubMessage),
    /// The difference between what is desired and what was told, if there is any.
    Desired,
}

impl Outbox {
    pub(super) fn stand(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    pub(super) fn beat(&mut self, sequence: u64) {
        self.heartbeat = Some(sequence);
    }

    pub(super) fn name_peers(&mut self, peers: Peers) {
        self.peers = Some(peers);
    }

    /// An answer to something that the spoke asked; the session bounds how many it may ask at once.
    pub(super) fn answer(&mut self, message: Message) {
        self.answers.push_back(message);
    }

    pub(super) fn desired_changed(&mut self) {
        self.desired = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_none()
            && self.heartbeat.is_none()
            && self.peers.is_none()
            && self.answers.is_empty()
            && !self.desired
    }

    /// Takes out what is to be sent now.
    pub(super) fn next(&mut self) -> Option<Next> {
        let message = |message| Some(Next::Message(HubMessage { message: Some(message) }));
        if let Some(standing) = self.standing.take() {
            return message(Message::Standing(standing));
        }
        if let Some(sequence) = self.heartbeat.take() {
            return message(Message::Heartbeat(Heartbeat { sequence }));
        }
        if let Some(peers) = self.peers.take() {
            return message(Message::Peers(peers));
        }
        if std::mem::take(&mut self.desired) {
            return Some(Next::Desired);
        }
        self.answers.pop_front().and_then(message)
    }
}

#[cfg(test)]
mod tests {
    use nave_proto::v1::UrlResponse;

    use super::*;

    #[test]
    fn the_latest_of_each_goes_out_by_weight() {
        let mut outbox = Outbox::default();
        outbox.answer(Message::UrlResponse(UrlResponse::default()));
        outbox.desired_changed();
        outbox.desired_changed();
        outbox.beat(1);
        outbox.beat(2);
        outbox.stand(Standing::default());
        outbox.name_peers(Peers::default());
        let mut kinds = Vec::new();
        while let Some(next) = outbox.next() {
            kinds.push(match next {
                Next::Desired => "desired".to_owned(),
                Next::Message(HubMessage { message: Some(Message::Standing(_)) }) => "standing".to_owned(),
                Next::Message(HubMessage { message: Some(Message::Heartbeat(beat)) }) => {
                    format!("beat {}", beat.sequence)
                }
                Next::Message(HubMessage { message: Some(Message::Peers(_)) }) => "peers".to_owned(),
                Next::Message(other) => format!("{other:?}").chars().take(0).collect::<String>() + "answer",
            });
        }
        assert_eq!(kinds, ["standing", "beat 2", "peers", "desired", "answer"]);
        assert!(outbox.is_empty());
    }
}
