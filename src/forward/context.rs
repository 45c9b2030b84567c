//! What survives a connection, and what every state of it works on.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use log::{debug, info, warn};

use super::{
    Action, Reminder, Settings,
    host::{Asked, Host, ListPage},
    lists::{LastListed, Lists},
    person::Person,
};
use crate::{
    description::{Description, Descriptions, Learned},
    message::{Id, Message},
    report::{Code, Failure, FailureLog, Report},
};

#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) host: Host,
    pub(super) lists: Lists,
    pub(super) person: Person,
    pub(super) descriptions: Box<dyn Descriptions>,
    pub(super) stdin: Stdin,
    pub(super) openings: FailureLog,
    /// Requests that the server did not answer.
    pub(super) losses: FailureLog,
    pub(super) retry_reminder: RetryReminder,
    /// Of the last message that was held.
    serial: u64,
}

/// The host's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdin {
    Open,
    /// The process that started this one is gone, and nothing has come from the host since.
    Orphaned,
    /// Nothing more comes from the host; what is under way is answered.
    Ended,
}

/// Whether a [`Reminder::TryAgain`] is on its way: there is one at a time, however often an opening fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryReminder {
    Unset,
    Set,
}

impl Context {
    pub(super) fn new(settings: Settings, descriptions: Box<dyn Descriptions>) -> Self {
        Self {
            host: Host::new(&settings),
            settings,
            lists: Lists::default(),
            person: Person::new(),
            descriptions,
            stdin: Stdin::Open,
            openings: FailureLog::default(),
            losses: FailureLog::default(),
            retry_reminder: RetryReminder::Unset,
            serial: 0,
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.host.actions.push_back(action);
    }

    pub(super) fn remind(&mut self, after: Duration, reminder: Reminder) {
        self.act(Action::Remind(after, reminder));
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn now(&self) -> Duration {
        self.settings.clock.now()
    }

    /// Returns what is known of the server from before, if it has answered `initialize` then.
    pub(super) fn known_server(&mut self) -> Option<Description> {
        self.descriptions.load().filter(|known| !known.initialize.is_empty())
    }

    pub(super) fn sign_in_needed(&self) -> Report {
        self.person.sign_in_needed(&self.settings.server)
    }

    /// Offers the address to sign in at to a host that is ready for requests and opens addresses.
    pub(super) fn offer(&mut self, initialize: Option<&Message>) {
        self.person.offer(initialize, &mut self.host, &self.settings.server);
    }

    /// Passes the server's answer on, and learns from it; `initialize` is the host's own of this connection.
    pub(super) fn pay(&mut self, id: &Id, answer: Message, initialize: Option<&Message>) {
        self.pay_for(self.host.asked(id), id, answer, initialize);
    }

    /// The same, for a caller who knows what was asked.
    pub(super) fn pay_for(&mut self, asked: Option<Asked>, id: &Id, answer: Message, initialize: Option<&Message>) {
        match (asked, initialize) {
            (Some(Asked::List(list, page)), _) => {
                if page == ListPage::First {
                    self.lists.set(list, LastListed::Pages(Vec::new()));
                }
                if page != ListPage::Unknown {
                    self.lists.add_page(list, &answer.body, self.descriptions.as_mut());
                }
            }
            (Some(Asked::Initialize), Some(request)) => {
                let (request, answer) = (request.clone(), answer.body.clone());
                self.descriptions.save(Learned::Initialize { request, answer });
            }
            (Some(Asked::Discover | Asked::FirstDiscover), _) => {
                self.descriptions.save(Learned::Discover(answer.body.clone()));
            }
            _ => {}
        }
        self.losses.clear();
        if !self.host.pay(id, answer) {
            let id = self.settings.masker.line(id.as_json());
            info!("ignoring a late response to {id}: no request with that ID is pending");
        }
    }

    /// More waits for the connection than is held.
    pub(super) fn refuse_to_hold(&mut self, message: &Message) {
        let report = Report::new(Code::TooMany, "too many messages wait for the connection", None);
        self.log_loss(message.method().unwrap_or("a response"), &report);
        self.host.fail_all(message, &report);
    }

    /// Logs why a message of the host is not answered by the server: the same reason once, and then with its count, until
    /// the server answers something.
    pub(super) fn log_loss(&mut self, method: &str, report: &Report) {
        match self.losses.note(&report.line()) {
            Some(Failure { is_new: true, .. }) => warn!("{method}: {}", report.line()),
            Some(Failure { count, .. }) => info!("{method}: {} (failure {count} in a row)", report.sentence),
            None => debug!("{method}: {}", report.line()),
        }
    }

    /// Begins anew: what was sent on the connection that the host leaves will not be answered there.
    pub(super) fn leave_session(&mut self, first: &Message, waiting: &VecDeque<Message>) {
        let mut still_to_send = HashMap::<&Id, u32>::new();
        for id in std::iter::once(first).chain(waiting).flat_map(Message::requests) {
            *still_to_send.entry(id).or_default() += 1;
        }
        let report = Report::new(Code::SessionReplaced, "the host started a new session", None);
        for (id, count) in self.host.debts() {
            for _ in still_to_send.get(&id).copied().unwrap_or_default()..count {
                self.host.fail(&id, &report);
            }
        }
        self.lists = Lists::default();
        self.person.forget_offer();
    }
}
