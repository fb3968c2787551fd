//! Values as they are written.

use super::*;

fn check<T: de::DeserializeOwned + PartialEq + fmt::Debug>(text: &str, expected: Option<T>) {
    let value = toml::de::ValueDeserializer::parse(text).and_then(T::deserialize).ok();
    assert_eq!(value, expected, "{text}");
}

#[test]
fn a_size_is_a_number_of_octets_or_has_a_unit() {
    check("65536", Some(Size(65536)));
    check("\"64 KiB\"", Some(Size(65536)));
    check("\"1MiB\"", Some(Size(1 << 20)));
    check("\"2 GB\"", Some(Size(2_000_000_000)));
    check::<Size>("\"64 parsecs\"", None);
    check::<Size>("-1", None);
    check::<Size>("\"99999999999 TiB\"", None);
}

#[test]
fn a_size_is_shown_with_its_unit() {
    assert_eq!(Size(512).to_string(), "512 B");
    assert_eq!(Size(1536).to_string(), "1.5 KiB");
    assert_eq!(Size(20 << 30).to_string(), "20.0 GiB");
}

#[test]
fn a_span_of_time_needs_a_unit() {
    check("\"250ms\"", Some(Span(Duration::from_millis(250))));
    check("\"4h\"", Some(Span(Duration::from_secs(14_400))));
    check("\"5d\"", Some(Span(Duration::from_secs(432_000))));
    check::<Span>("\"30\"", None);
    check::<Span>("30", None);
}

#[test]
fn recipients_have_exactly_one_source() {
    check("\"any\"", Some(RecipientsSetting::Any));
    check("{ list = [\"ann\"] }", Some(RecipientsSetting::List(vec!["ann".into()])));
    check("{ file = \"/n\" }", Some(RecipientsSetting::File("/n".into())));
    check("{ dir = \"/home\" }", Some(RecipientsSetting::Dir("/home".into())));
    check("{ callout = true }", Some(RecipientsSetting::Callout));
    check::<RecipientsSetting>("{ list = [], dir = \"/home\" }", None);
    check::<RecipientsSetting>("{ lst = [] }", None);
    check::<RecipientsSetting>("{}", None);
    check::<RecipientsSetting>("\"some\"", None);
}
