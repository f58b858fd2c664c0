//! `keys!` and `words!`: tables and enumerations declared once; reader and schema are made of it.

/// Declares a table: its keys as they are written, with type, meaning, and `= default` or
/// `[required]`. Gives the struct of [`Field`]s and its [`Written`].
macro_rules! keys {
    ($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $key_doc:literal])* $key:ident : $type:ty $([$required:ident])? $(= $default:expr)?,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $($(#[doc = $key_doc])* pub(crate) $key: $crate::config::document::Field<<$type as $crate::config::document::Written>::Value>,)*
        }

        impl Default for $name {
            fn default() -> Self {
                use $crate::config::document::Field;
                Self { $($key: Field::Absent $(.or($default))?,)* }
            }
        }

        impl $crate::config::document::Written for $name {
            type Value = Self;

            fn expected() -> String {
                "a table".into()
            }

            fn header(above: &str, key: &str) -> Option<String> {
                let dot = if above.is_empty() { "" } else { "." };
                Some(format!("[{above}{dot}{key}]"))
            }

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                name: &str,
                reader: &mut $crate::config::document::Reader<'_>,
            ) -> Option<Self> {
                // `type` is a key of ours and a word of Rust's.
                let known = [$(stringify!($key).trim_start_matches("r#")),*];
                let table = reader.table(value, name, &known)?;
                let at = value.span().start;
                Some(Self {
                    $($key: {
                        let required: Option<&str> = None$(.or(Some(stringify!($required))))?;
                        reader.field::<$type>(
                            table,
                            stringify!($key).trim_start_matches("r#"),
                            required.map(|_| (at, name)),
                        )$(.or($default))?
                    },)*
                })
            }

            fn schema() -> serde_json::Value {
                $crate::config::document::schema_of_table(&[$(
                    $crate::config::document::KeyPage {
                        key: stringify!($key),
                        meaning: concat!($($key_doc, "\n"),*),
                        is_required: None::<&str>$(.or(Some(stringify!($required))))?.is_some(),
                        schema: <$type as $crate::config::document::Written>::schema,
                        default: &[$(|| <$type as $crate::config::document::Written>::shown(&$default))?],
                    },
                )*])
            }

            fn shown(_: &Self) -> serde_json::Value {
                serde_json::Value::Null
            }
        }
    };
}

/// Declares the words that stand for the values of a type; `refused` ones are known, with the reason
/// why they cannot be used.
macro_rules! words {
    ($name:ident: $type:ty { $($word:literal => $value:expr,)* $(refused { $($no:literal => $why:literal,)* })? }) => {
        #[doc = concat!("The words for a [`", stringify!($type), "`].")]
        pub(crate) struct $name;

        impl $crate::config::document::Written for $name {
            type Value = $type;

            fn expected() -> String {
                $crate::config::document::one_of(&[$($word),*])
            }

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                name: &str,
                reader: &mut $crate::config::document::Reader<'_>,
            ) -> Option<$type> {
                let word = <$crate::config::document::Text as $crate::config::document::Written>::read(
                    value, name, reader,
                )?;
                let message = match word.as_str() {
                    $($word => return Some($value),)*
                    $($($no => format!("{name} = {word:?}: {}", $why),)*)?
                    _ => {
                        let near = $crate::config::nearest::nearest(&word, &[$($word),*])
                            .map_or(String::new(), |near| format!("; did you mean {near:?}?"));
                        let word = $crate::config::document::shorten(&word);
                        format!("{name} is {word:?}; expected {}{near}", Self::expected())
                    }
                };
                reader.complain(value.span().start, message);
                None
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({"type": "string", "enum": [$($word),*]})
            }

            fn shown(value: &$type) -> serde_json::Value {
                let mut shown = serde_json::Value::Null;
                $(
                    if *value == $value {
                        shown = $word.into();
                    }
                )*
                shown
            }
        }
    };
}

pub(crate) use {keys, words};
