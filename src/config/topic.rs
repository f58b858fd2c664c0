//! MQTT topics with named levels: `camera/{camera}/frame` subscribes as `camera/+/frame`, and
//! `{camera}` may stand in the topic that is published.
//!
//! Pure: what a topic may look like (MQTT 3.1.1 §4.7), and which filters meet. Not here: matching
//! arriving topics (`mqtt`).

/// MQTT strings have 16 bits for their length (MQTT 3.1.1 §1.5.3).
const LONGEST_BYTES: usize = 65_535;

/// Names that every publish topic knows; no source may call a level so.
pub const RESERVED: [&str; 2] = ["device", "pipeline"];

/// The name of a `{name}` level.
pub fn level_name(level: &str) -> Option<&str> {
    level.strip_prefix('{')?.strip_suffix('}')
}

/// The names of a topic's named levels, in order.
pub fn names(topic: &str) -> impl Iterator<Item = &str> {
    topic.split('/').filter_map(level_name)
}

/// What is wrong with a word that has to be one topic level, such as a device's id.
pub fn level_fault(word: &str) -> Option<String> {
    const LONGEST_LEVEL: usize = 128;
    if word.is_empty() {
        return Some("it is empty".into());
    }
    if word.len() > LONGEST_LEVEL {
        return Some(format!("it has {} bytes; at most {LONGEST_LEVEL} make a topic level", word.len()));
    }
    let bad = word.chars().find(|c| c.is_control() || "/+#{}".contains(*c))?;
    Some(format!(
        "it holds {bad:?}, which cannot stand in a topic level; use letters, digits, `-`, `_` or `.`"
    ))
}

/// Everything that is wrong with a topic filter to subscribe to.
pub fn filter_faults(topic: &str) -> Vec<String> {
    let mut faults = common_faults(topic);
    if topic.starts_with("$share/") {
        faults.push("shared subscriptions (`$share/…`) belong to MQTT 5; use the plain filter".into());
    }
    let levels: Vec<&str> = topic.split('/').collect();
    for (i, level) in levels.iter().enumerate() {
        if *level == "#" {
            if i + 1 < levels.len() {
                faults.push("`#` may only be the last level; use `+` or `{name}` for one level".into());
            }
        } else if level.contains('#') || (level.contains('+') && *level != "+") {
            faults.push(format!(
                "the level {level:?} mixes a wildcard with text; `+` and `#` fill a whole level"
            ));
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for name in names(topic) {
        if RESERVED.contains(&name) {
            faults.push(format!(
                "the level `{{{name}}}` has a name that publish topics use already; choose another"
            ));
        }
        if seen.contains(&name) {
            faults.push(format!("the level `{{{name}}}` stands twice; names of levels are unique"));
        }
        seen.push(name);
    }
    faults
}

/// Everything that is wrong with a topic to publish on, beside a source with these named levels.
pub fn publish_faults(topic: &str, source_names: &[&str]) -> Vec<String> {
    let mut faults = common_faults(topic);
    if topic.starts_with('$') {
        faults.push(
            "topics that start with `$` belong to the broker; start with a name of \
             your own"
                .into(),
        );
    }
    if topic.contains(['+', '#']) {
        faults.push(
            "wildcards (`+`, `#`) are for subscribing; a prediction goes to one topic: use `{name}`".into(),
        );
    }
    for name in names(topic) {
        if is_level_name(name) && !RESERVED.contains(&name) && !source_names.contains(&name) {
            let mut known: Vec<String> = RESERVED.iter().map(|name| format!("`{{{name}}}`")).collect();
            known.extend(source_names.iter().map(|name| format!("`{{{name}}}`")));
            faults.push(format!(
                "`{{{name}}}` is no level of the source's topic; known here: {}",
                known.join(", ")
            ));
        }
    }
    faults
}

fn is_level_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn common_faults(topic: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if topic.is_empty() {
        faults.push("it is empty; a topic has at least one character".into());
    }
    if topic.len() > LONGEST_BYTES {
        faults.push(format!("it has {} bytes; MQTT allows {LONGEST_BYTES}", topic.len()));
    }
    if let Some(control) = topic.chars().find(|c| c.is_control()) {
        faults.push(format!(
            "it holds the control character {control:?}; brokers close the \
                 connection on it"
        ));
    }
    for level in topic.split('/') {
        match level_name(level) {
            Some(name) if is_level_name(name) => {}
            Some(name) => {
                faults.push(format!("the level name {name:?} is not made of A-Z, a-z, 0-9, `_` and `-`"));
            }
            None if level.contains(['{', '}']) => {
                faults.push(format!(
                    "the level {level:?} mixes a name with text; `{{name}}` fills a whole level"
                ));
            }
            None => {}
        }
    }
    faults
}

/// Whether some topic matches both filters. Named levels count as `+`.
pub fn meet(a: &str, b: &str) -> bool {
    // MQTT 3.1.1 §4.7.2: wildcards at the front do not match topics that start with `$`.
    let wild = |filter: &str| filter.starts_with(['+', '#', '{']);
    if (a.starts_with('$') && wild(b)) || (b.starts_with('$') && wild(a)) {
        return false;
    }
    let is_any = |level: &str| level == "+" || level_name(level).is_some();
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(one), Some(other)) if one == other || is_any(one) || is_any(other) => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Whether `wide` takes every topic that `narrow` takes. Named levels count as `+`.
pub fn covers(wide: &str, narrow: &str) -> bool {
    // MQTT 3.1.1 §4.7.2, as in [`meet`].
    if narrow.starts_with('$') && wide.starts_with(['+', '#', '{']) {
        return false;
    }
    let is_any = |level: &str| level == "+" || level_name(level).is_some();
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some(_), Some("#")) | (None, Some(_)) | (Some(_), None) => return false,
            (Some(one), Some(other)) if one == other || is_any(one) => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_filters_have_no_fault() {
        for topic in
            ["a", "camera/{camera}/frame", "+/b/#", "#", "/", "$SYS/broker/#", "färbung/1", "a//b", "a b/c"]
        {
            assert_eq!(filter_faults(topic), Vec::<String>::new(), "{topic}");
        }
        assert_eq!(names("a/{x}/{y}").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn each_rule_of_filters_is_told() {
        for (topic, why) in [
            ("", "empty"),
            ("a/#/b", "last level"),
            ("a/b#", "mixes a wildcard"),
            ("a/b+/c", "mixes a wildcard"),
            ("cam-{camera}/x", "mixes a name"),
            ("a/{}/x", "level name"),
            ("a/{x y}", "level name"),
            ("a/{x}/{x}", "twice"),
            ("a/{device}", "use already"),
            ("a/\0", "control character"),
            ("$share/g/a", "MQTT 5"),
        ] {
            let faults = filter_faults(topic);
            assert_eq!(faults.len(), 1, "{topic}: {faults:?}");
            assert!(faults[0].contains(why), "{topic}: {faults:?}");
        }
        assert!(filter_faults(&"x".repeat(65_536))[0].contains("65536 bytes"));
        assert!(filter_faults(&"x".repeat(65_535)).is_empty());
    }

    #[test]
    fn a_publish_topic_takes_no_wildcards_and_only_known_names() {
        assert!(publish_faults("l/{device}/{pipeline}/{camera}", &["camera"]).is_empty());
        for (topic, why) in
            [("a/+", "wildcards"), ("a/#", "wildcards"), ("$SYS/a", "broker"), ("a/{robot}", "no level")]
        {
            let faults = publish_faults(topic, &["camera"]);
            assert_eq!(faults.len(), 1, "{topic}: {faults:?}");
            assert!(faults[0].contains(why), "{topic}: {faults:?}");
        }
    }

    #[test]
    fn filters_meet_where_one_topic_matches_both() {
        for (a, b, expected) in [
            ("a/+", "a/b", true),
            ("a/#", "a", true),
            ("a/#", "b/c", false),
            ("#", "x/y", true),
            ("a/{x}/c", "a/b/{y}", true),
            ("a/{x}/c", "a/b/d", false),
            ("a", "a/b", false),
            ("#", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
        ] {
            assert_eq!(meet(a, b), expected, "{a} {b}");
            assert_eq!(meet(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_wide_filter_covers_a_narrow_one_and_not_the_other_way_round() {
        for (wide, narrow) in [
            ("a/+", "a/b"),
            ("a/#", "a"),
            ("a/#", "a/+/c"),
            ("#", "x/y"),
            ("a/{x}/c", "a/b/c"),
            ("+/#", "a/#"),
        ] {
            assert!(covers(wide, narrow) && !covers(narrow, wide), "{wide} {narrow}");
        }
        for (a, b) in [("a/+/c", "a/b/+"), ("#", "$SYS/a"), ("+/a", "$SYS/a"), ("a", "a/b"), ("a/+", "a")] {
            assert!(!covers(a, b) && !covers(b, a), "{a} {b}");
        }
        assert!(covers("a/{x}", "a/+") && covers("a/+", "a/{x}") && covers("a/b", "a/b"));
    }

    #[test]
    fn a_level_is_one_level() {
        assert_eq!(level_fault("press-07"), None);
        assert_eq!(level_fault("Presse Süd 1.2"), None);
        for word in ["", "a/b", "+", "a#", "a\n", "{x}", &"x".repeat(129)] {
            assert!(level_fault(word).is_some(), "{word}");
        }
    }
}
