//! JSON Schema of the config and of cards, for editors that complete and check while one types.
//!
//! Made of the same tables that read the files (`raw`), so it cannot lag behind them. Rules that join
//! keys are beyond it; `lineside check` has them.

use serde_json::{Value as Json, json};

use super::card::raw::RawCard;
use super::document::Written;
use super::raw::RawConfig;

/// Schema of `lineside.toml`.
pub fn config() -> Json {
    titled(RawConfig::schema(), "Lineside configuration")
}

/// Schema of a card, `model.toml`.
pub fn card() -> Json {
    titled(RawCard::schema(), "Lineside model card")
}

fn titled(mut schema: Json, title: &str) -> Json {
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key with its path, `pipeline.source.topic`.
    fn keys(schema: &Json, before: &str, out: &mut Vec<String>) {
        let properties = schema.get("properties").or_else(|| schema.pointer("/items/properties"));
        for (key, below) in properties.and_then(Json::as_object).into_iter().flatten() {
            let path = format!("{before}{key}");
            keys(below, &format!("{path}."), out);
            out.push(path);
        }
    }

    /// The lines of `text` that speak of a table, by its header, comment signs left out.
    fn section<'t>(text: &'t str, table: &str) -> Vec<&'t str> {
        let mut inside = table.is_empty();
        let mut lines = Vec::new();
        for line in text.lines().map(|line| line.trim_start_matches(['#', ' '])) {
            if line.starts_with('[') && line.trim_end().ends_with(']') {
                inside = line.trim_matches(['[', ']', ' ']) == table;
            } else if inside {
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn every_key_stands_in_the_example_and_in_the_reference() {
        let reference =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
        let mut all = Vec::new();
        keys(&config(), "", &mut all);
        assert!(all.len() > 50, "{all:?}");
        for path in all {
            let (table, key) = path.rsplit_once('.').unwrap_or(("", &path));
            let header = [format!("[{path}]"), format!("[[{path}]]")];
            let is_table = header.iter().any(|header| reference.contains(header.as_str()));
            let example = section(crate::config::EXAMPLE, table);
            let shown = is_table
                && header.iter().any(|header| crate::config::EXAMPLE.contains(header.as_str()))
                || example.iter().any(|line| line.split('=').next().is_some_and(|word| word.trim() == key));
            assert!(shown, "{path} is missing in the example");
            // In the reference a key stands in the table under its header: `| `key` | …`.
            let row = format!("| `{key}` |");
            let part = reference.split("\n## ").find(|part| {
                part.lines().next().is_some_and(|line| {
                    line.contains(&format!("`[{table}]`")) || line.contains(&format!("`[[{table}]]`"))
                })
            });
            assert!(
                is_table || part.is_some_and(|part| part.contains(&row)),
                "{path} is missing in the reference"
            );
        }
    }

    #[test]
    fn every_key_of_a_card_stands_in_the_page_on_models() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md")).unwrap();
        let mut all = Vec::new();
        keys(&card(), "", &mut all);
        assert!(all.len() > 50, "{all:?}");
        for path in all {
            let key = path.rsplit('.').next().unwrap();
            assert!(
                page.contains(&format!("`{key}`")) || page.contains(&format!("[{path}]")),
                "{path} is missing in docs/models.md"
            );
        }
    }

    #[test]
    fn types_bounds_defaults_and_needs_are_told() {
        let schema = config();
        let keep_alive = schema.pointer("/properties/broker/properties/keep_alive_secs").unwrap();
        assert_eq!(keep_alive["minimum"], 5);
        assert_eq!(keep_alive["maximum"], 65_535);
        assert_eq!(keep_alive["default"], 15);
        assert!(keep_alive["description"].as_str().unwrap().starts_with("Longest silence"));
        let source = schema.pointer("/properties/pipeline/items/properties/source").unwrap();
        assert_eq!(source["properties"]["when_full"]["enum"], json!(["drop_oldest", "drop_newest", "block"]));
        assert_eq!(source["properties"]["when_full"]["default"], "drop_oldest");
        assert_eq!(source["required"], json!(["kind"]));
        assert_eq!(source["additionalProperties"], false);
    }
}
