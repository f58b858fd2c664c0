//! Topics with named levels: `camera/{camera}/frame` subscribes as `camera/+/frame` and tells which
//! camera it was; a publish topic may use the name again.
//!
//! MQTT 3.1.1 §4.7. The config has checked the text; parsing it here cannot fail.

use std::sync::Arc;

use crate::base::Origin;
use crate::config::topic::level_name;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Named(Arc<str>),
    /// `+`
    Any,
    /// `#`
    Rest,
}

impl Level {
    fn parse(text: &str) -> Self {
        match text {
            "+" => Self::Any,
            "#" => Self::Rest,
            _ => match level_name(text) {
                Some(name) => Self::Named(name.into()),
                None => Self::Literal(text.into()),
            },
        }
    }
}

/// A topic filter with named levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    levels: Vec<Level>,
}

impl Filter {
    /// Reads `camera/{camera}/frame`.
    pub fn parse(text: &str) -> Self {
        Self { levels: text.split('/').map(Level::parse).collect() }
    }

    /// As it goes into SUBSCRIBE: `camera/+/frame`.
    pub fn subscription(&self) -> String {
        let level = |level: &Level| match level {
            Level::Literal(text) => text.clone(),
            Level::Named(_) | Level::Any => "+".into(),
            Level::Rest => "#".into(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The origin of a frame on `topic`, if the filter takes it.
    pub fn matches(&self, topic: &str) -> Option<Origin> {
        // §4.7.1.1 and §4.7.3: no such thing is a topic, and none may come back out of a publish topic.
        if topic.is_empty() || topic.contains(['+', '#']) {
            return None;
        }
        // §4.7.2: a wildcard at the start does not take topics that belong to the server.
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Literal(_))) {
            return None;
        }
        let mut levels = Vec::new();
        let origin = |levels: Vec<_>| Origin { levels: levels.into(), ..Origin::new(topic) };
        let mut found = topic.split('/');
        for level in &self.levels {
            match (level, found.next()) {
                (Level::Rest, _) => return Some(origin(levels)),
                (Level::Literal(want), Some(have)) if want == have => {}
                (Level::Any, Some(_)) => {}
                (Level::Named(name), Some(have)) => levels.push((name.clone(), have.into())),
                _ => return None,
            }
        }
        // §4.7.1.2: `a/#` takes `a` too, which the loop has seen as Rest with nothing found.
        found.next().is_none().then(|| origin(levels))
    }
}

/// A publish topic: `lineside/{device}/{pipeline}/{camera}/result`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    levels: Vec<Level>,
}

impl Template {
    /// Reads the template with `{device}` and `{pipeline}` filled in.
    pub fn parse(text: &str, device: &str, pipeline: &str) -> Self {
        let fill = |level| match level {
            Level::Named(name) if &*name == "device" => Level::Literal(device.into()),
            Level::Named(name) if &*name == "pipeline" => Level::Literal(pipeline.into()),
            other => other,
        };
        Self { levels: text.split('/').map(Level::parse).map(fill).collect() }
    }

    /// The topic for a frame of `origin`.
    pub fn topic(&self, origin: &Origin) -> String {
        let mut topic = String::with_capacity(64);
        for (i, level) in self.levels.iter().enumerate() {
            if i > 0 {
                topic.push('/');
            }
            match level {
                Level::Literal(text) => topic.push_str(text),
                // The config allows only names that the source's topic has.
                Level::Named(name) => topic.push_str(origin.level(name).unwrap_or_default()),
                Level::Any => topic.push('+'),
                Level::Rest => topic.push('#'),
            }
        }
        topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(filter: &str, topic: &str) -> Option<Vec<String>> {
        let origin = Filter::parse(filter).matches(topic)?;
        Some(origin.levels.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn named_levels_are_found_and_published_again() {
        let filter = Filter::parse("line/{line}/camera/{camera}");
        assert_eq!(filter.subscription(), "line/+/camera/+");
        let origin = filter.matches("line/7/camera/left").unwrap();
        let template = Template::parse("out/{device}/{camera}/{pipeline}/{line}", "press", "screw");
        assert_eq!(template.topic(&origin), "out/press/left/screw/7");
    }

    #[test]
    fn wildcards_follow_the_standard() {
        assert!(levels("a/#", "a").is_some());
        assert!(levels("a/#", "a/b/c").is_some());
        assert!(levels("a/+", "a").is_none());
        assert!(levels("a/+", "a/").is_some());
        assert!(levels("a/+", "a/b/c").is_none());
        assert!(levels("+/+", "/x").is_some());
        assert!(levels("#", "$SYS/uptime").is_none());
        assert!(levels("{a}/uptime", "$SYS/uptime").is_none());
        assert!(levels("$SYS/#", "$SYS/uptime").is_some());
    }
}
