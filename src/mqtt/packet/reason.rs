//! Reason codes in words.

use std::fmt;

/// A reason code (MQTT 5 §2.4), with the server's own words where it gave some. Return codes of 3.1.1
/// are told as their successors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// The code; from 0x80 on it is a failure.
    pub code: u8,
    /// Reason string.
    pub text: Option<Box<str>>,
}

impl Reason {
    /// Another client has connected with our client id.
    pub const SESSION_TAKEN_OVER: u8 = 0x8e;
    /// The server does not speak our version.
    pub const UNSUPPORTED_VERSION: u8 = 0x84;
    /// The client id is not accepted.
    pub const CLIENT_ID: u8 = 0x85;
    /// Wrong user name or password.
    pub const LOGIN: u8 = 0x86;
    /// Not authorised.
    pub const NOT_AUTHORISED: u8 = 0x87;
    /// The server is not available.
    pub const UNAVAILABLE: u8 = 0x88;
    /// A subscription under 3.1.1 is refused with this code.
    pub const UNSPECIFIED: u8 = 0x80;
    /// Such a packet identifier is under way already.
    const PACKET_ID_IN_USE: u8 = 0x91;
    const IMPLEMENTATION: u8 = 0x83;
    const QUOTA: u8 = 0x97;
    /// The server keeps no retained messages.
    pub const NO_RETAINED: u8 = 0x9a;

    /// Without words.
    pub fn new(code: u8) -> Self {
        Self { code, text: None }
    }

    /// A return code of CONNACK under 3.1.1 (§3.2.2.3).
    pub fn of_return_code(code: u8) -> Self {
        Self::new(match code {
            0 => 0,
            1 => Self::UNSUPPORTED_VERSION,
            2 => Self::CLIENT_ID,
            3 => Self::UNAVAILABLE,
            4 => Self::LOGIN,
            5 => Self::NOT_AUTHORISED,
            _ => Self::UNSPECIFIED,
        })
    }

    /// From 0x80 on it is.
    pub fn is_failure(&self) -> bool {
        self.code >= 0x80
    }

    /// The same message will be taken at another time.
    pub fn may_pass(&self) -> bool {
        matches!(self.code, Self::PACKET_ID_IN_USE | Self::QUOTA)
    }

    /// A refusal of the message or of the moment: it does not say.
    pub fn is_unclear(&self) -> bool {
        matches!(self.code, Self::UNSPECIFIED | Self::IMPLEMENTATION)
    }

    /// DISCONNECT with it may be over a message; other codes speak of the connection, the session or the server.
    pub fn may_be_over_a_message(&self) -> bool {
        self.is_failure()
            && !matches!(
                self.code,
                0x88 | 0x89 | 0x8b | 0x8d | 0x8e | 0x93 | 0x96 | 0x97 | 0x9c | 0x9d | 0x9f | 0xa0
            )
    }

    fn words(&self) -> &'static str {
        match self.code {
            0x00 => "no reason",
            0x04 => "it ends, and publishes the will",
            0x10 => "nobody has subscribed to it",
            0x80 => "it does not say why",
            0x81 => "it could not read a packet of ours",
            0x82 => "it holds a packet of ours against the protocol",
            0x83 => "it cannot process a packet of ours",
            0x84 => "it does not speak this version of MQTT; set [broker] protocol",
            0x85 => "it does not accept the client id; set [broker] client_id",
            0x86 => "wrong user name or password; set [broker] username and password",
            0x87 => {
                "not authorised; check [broker] username, password and client_id, and the broker's access list"
            }
            0x88 => "it is not available",
            0x89 => "it is busy",
            0x8a => "it has banned us",
            0x8b => "it is shutting down",
            0x8c => "it wants another way to log in",
            0x8d => "it heard nothing from us for a keep-alive",
            0x8e => {
                "another client has connected with our client id; two devices with one id throw each other out: \
                 set [device] id or [broker] client_id"
            }
            0x8f => "it does not accept the topic filter",
            0x90 => "it does not accept the topic",
            0x91 => "the packet id is under way already",
            0x93 => "more publications are unacknowledged than it takes",
            0x94 => "the topic alias is wrong",
            0x95 => "a packet is larger than it takes",
            0x96 => "messages come too fast",
            0x97 => "a quota is used up",
            0x98 => "its administrator ended the connection",
            0x99 => "the payload is not of the format that was said",
            0x9a => "it keeps no retained messages",
            0x9b => "it does not take this quality of service",
            0x9c => "another server should be used; set [broker] url",
            0x9d => "the server has moved; set [broker] url",
            0x9e => "it has no shared subscriptions",
            0x9f => "connections come too fast",
            0xa0 => "the connection has stood for as long as it may",
            0xa1 => "it has no subscription identifiers",
            0xa2 => "it has no wildcards in subscriptions",
            _ => "a reason that MQTT does not know",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#04x})", self.words(), self.code)?;
        match &self.text {
            Some(text) => write!(f, "; in its own words: {text}"),
            None => Ok(()),
        }
    }
}
