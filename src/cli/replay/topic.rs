//! Where a recorded frame goes: a topic with `{index}`, `{name}` and `{stem}`.
//!
//! Promise: a filled topic is one that MQTT allows (3.1.1 §4.7); a file whose name would break it is
//! found before anything is sent.

use std::path::Path;
use std::str::FromStr;

/// Longest topic (3.1.1 §1.5.3).
const LONGEST_BYTES: usize = 65_535;
/// What `{index}` may grow to.
const LONGEST_INDEX: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Index,
    Name,
    Stem,
}

/// A topic with placeholders, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicTemplate(Vec<Piece>);

impl FromStr for TopicTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty; write a topic such as camera/left/frame".into());
        }
        if let Some(fault) = fault(text) {
            return Err(fault);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}') else {
                return Err("`{` has no `}`; the placeholders are {index}, {name} and {stem}".into());
            };
            pieces.push(Piece::Text(rest[..open].into()));
            pieces.push(match &rest[open + 1..open + close] {
                "index" => Piece::Index,
                "name" => Piece::Name,
                "stem" => Piece::Stem,
                other => {
                    return Err(format!("`{{{other}}}` is unknown; use {{index}}, {{name}} or {{stem}}"));
                }
            });
            rest = &rest[open + close + 1..];
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self(pieces))
    }
}

impl TopicTemplate {
    /// The topic of frame number `index` from a file called `name`.
    pub(super) fn fill(&self, index: u64, name: &str) -> String {
        let mut topic = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => topic.push_str(text),
                Piece::Index => topic.push_str(&index.to_string()),
                Piece::Name => topic.push_str(name),
                Piece::Stem => topic.push_str(stem(name)),
            }
        }
        topic
    }

    /// What is wrong with a file's name as a part of this topic.
    pub(super) fn check(&self, name: &str) -> Option<String> {
        if !self.0.iter().any(|piece| matches!(piece, Piece::Name | Piece::Stem)) {
            return None;
        }
        let filled = self.fill(0, name);
        if filled.len() + LONGEST_INDEX > LONGEST_BYTES {
            return Some(format!("the topic would have over {LONGEST_BYTES} bytes"));
        }
        fault(&filled)
    }
}

fn stem(name: &str) -> &str {
    Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name)
}

fn fault(topic: &str) -> Option<String> {
    if topic.contains(['+', '#']) {
        return Some(format!("`+` and `#` are for subscribers; {topic:?} must name one topic"));
    }
    if topic.chars().any(char::is_control) {
        return Some(format!("{topic:?} holds a control character"));
    }
    if topic.len() > LONGEST_BYTES {
        return Some(format!("it has {} bytes; MQTT allows {LONGEST_BYTES}", topic.len()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let topic: TopicTemplate = "camera/{stem}/{index}-{name}".parse().unwrap();
        assert_eq!(topic.fill(7, "part 3.v2.jpeg"), "camera/part 3.v2/7-part 3.v2.jpeg");
        assert_eq!("plain".parse::<TopicTemplate>().unwrap().fill(1, "x"), "plain");
    }

    #[test]
    fn a_topic_that_mqtt_forbids_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            ("a/+/b", "subscribers"),
            ("a/#", "subscribers"),
            ("a/{b}", "unknown"),
            ("a/{index", "no `}`"),
            ("a\0", "control"),
        ] {
            let message = text.parse::<TopicTemplate>().unwrap_err();
            assert!(message.contains(why), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_files_name_is_checked_only_where_it_would_be_used() {
        let used: TopicTemplate = "camera/{name}".parse().unwrap();
        assert!(used.check("C#7.jpg").is_some());
        assert_eq!(used.check("seven.jpg"), None);
        let unused: TopicTemplate = "camera/frame".parse().unwrap();
        assert_eq!(unused.check("C#7.jpg"), None);
    }
}
