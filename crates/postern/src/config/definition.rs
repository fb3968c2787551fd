//! The form in which settings are defined once: the `section!` macro and what it leaves to read.
//!
//! One entry gives the field that serde fills, its default, the lines of the sample file, the help
//! of the flag of the same name and the text of the manual. It knows no single setting.

/// One table of the configuration file.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name between brackets; empty for the keys that stand before the first table.
    pub(crate) name: &'static str,
    /// What it is for, one line of the sample each.
    pub(crate) about: &'static [&'static str],
    /// Its keys, in the order of the sample.
    pub(crate) keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// What it does, one line each; the first is the help of the flag of the same name.
    pub(crate) about: &'static [&'static str],
    /// Its default, or an example when it has none: TOML.
    pub(crate) value: &'static str,
    /// `value` is what holds when the key is absent.
    pub(crate) is_default: bool,
    /// For the bench and for tests: accepted, not shown.
    pub(crate) hidden: bool,
}

impl Section {
    /// `domain` of `domain."example.org"`: such a table is written once per name.
    pub(crate) fn family(&self) -> Option<&'static str> {
        self.name.split_once('.').map(|(family, _)| family)
    }
}

/// Defines one table: `name: Type = default "TOML";`, `name: Option<Type> = example "TOML";`, or
/// `name: Type = hidden "TOML";` with a default that the sample does not show.
/// `name as "word"` is a key that Rust keeps for itself.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $struct:ident, $name:literal, {
            $( $(#[doc = $doc:literal])* $key:ident $(as $word:literal)? : $kind:ty = $mark:ident $value:literal; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $struct {
            $( $(#[doc = $doc])* $(#[serde(rename = $word)])? pub(crate) $key: $kind, )*
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $( $key: $crate::config::definition::section!(@default $mark $value), )* }
            }
        }

        impl $struct {
            /// What the sample, the help and the manual say about it.
            pub(crate) const SECTION: $crate::config::definition::Section = $crate::config::definition::Section {
                name: $name,
                about: &[$($about),*],
                keys: &[$( $crate::config::definition::Key {
                    name: $crate::config::definition::section!(@name $key $($word)?),
                    about: &[$($doc),*],
                    value: $value,
                    is_default: $crate::config::definition::section!(@is_default $mark),
                    hidden: $crate::config::definition::section!(@hidden $mark),
                }, )*],
            };
        }
    };
    (@name $key:ident $word:literal) => { $word };
    (@name $key:ident) => { stringify!($key) };
    (@default example $value:literal) => { None };
    (@default $mark:ident $value:literal) => { $crate::config::definition::default_value($value) };
    (@is_default example) => { false };
    (@is_default $mark:ident) => { true };
    (@hidden hidden) => { true };
    (@hidden $mark:ident) => { false };
}

pub(crate) use section;

/// A default from the TOML that the sample shows for it; a test reads them all.
pub(crate) fn default_value<T: serde::de::DeserializeOwned>(text: &str) -> T {
    let value = toml::de::ValueDeserializer::parse(text).and_then(T::deserialize);
    value.unwrap_or_else(|error| panic!("the default {text} is not of its own type: {error}"))
}
