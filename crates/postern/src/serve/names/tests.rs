//! Names as they stand in files and directories.

use super::*;

fn check(setting: RecipientsSetting, expected: &[&str]) {
    let Names::Known(names) = read("a.example", &setting).expect("readable") else { panic!("{setting:?}") };
    let mut names: Vec<&str> = names.iter().map(|name| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("postern-names-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("scratch");
    dir
}

#[test]
fn names_and_addresses_are_read_from_a_file_with_comments() {
    let dir = scratch("file");
    let file = dir.join("names");
    fs::write(&file, "# staff\nAnn\nbob@A.example  # on leave\ncarol@b.example\n\n").expect("written");
    check(RecipientsSetting::File(file), &["ann", "bob"]);
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_directory_has_one_name_per_entry() {
    let dir = scratch("dir");
    for name in ["ann", "bob", ".hidden"] {
        fs::create_dir(dir.join(name)).expect("made");
    }
    check(RecipientsSetting::Dir(dir.clone()), &["ann", "bob"]);
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_changed_file_is_read_again_and_a_lost_one_keeps_its_names() {
    let dir = scratch("poll");
    let file = dir.join("names");
    fs::write(&file, "ann\n").expect("written");
    let settings = [("a.example".to_owned(), RecipientsSetting::File(file.clone()))].into();
    let mut sources = NameSources::default();
    assert_eq!(sources.load(&settings), Vec::<String>::new());
    assert_eq!(sources.poll(), None);
    fs::write(&file, "ann\nbob\n").expect("written");
    assert_eq!(sources.poll(), Some(Vec::new()));
    fs::remove_file(&file).expect("removed");
    assert_eq!(sources.poll().map(|complaints| complaints.len()), Some(1));
    let names = sources.iter().next().expect("one domain").1.clone();
    assert_eq!(names, Names::Known(Arc::new(["ann".into(), "bob".into()].into())));
    assert_eq!(sources.load(&settings).len(), 1);
    assert_eq!(sources.iter().next().expect("one domain").1, &names);
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_source_that_was_never_read_makes_nobody_unknown_and_is_tried_until_it_is_there() {
    let dir = scratch("missing");
    let file = dir.join("names");
    let settings = [("a.example".to_owned(), RecipientsSetting::File(file.clone()))].into();
    let mut sources = NameSources::default();
    let complaints = sources.load(&settings);
    assert!(complaints.len() == 1 && complaints[0].contains("450"), "{complaints:?}");
    assert_eq!(sources.iter().next().expect("one domain").1, &Names::Unreadable);
    assert_eq!(sources.poll(), None, "said once");
    fs::write(&file, "ann\n").expect("written");
    assert_eq!(sources.poll(), Some(Vec::new()));
    assert_eq!(sources.iter().next().expect("one domain").1, &Names::Known(Arc::new(["ann".into()].into())));
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_new_setting_that_cannot_be_read_keeps_the_names_of_the_old_one() {
    let dir = scratch("misspelt");
    let file = dir.join("names");
    fs::write(&file, "ann\n").expect("written");
    let settings = |file: &str| [("a.example".to_owned(), RecipientsSetting::File(dir.join(file)))].into();
    let mut sources = NameSources::default();
    assert_eq!(sources.load(&settings("names")), Vec::<String>::new());
    assert_eq!(sources.load(&settings("nmaes")).len(), 1);
    let names = || Names::Known(Arc::new(["ann".into()].into()));
    assert_eq!(sources.iter().next().expect("one domain").1, &names());
    assert_eq!(sources.poll(), None);
    assert_eq!(sources.iter().next().expect("one domain").1, &names());
    fs::remove_dir_all(dir).expect("removed");
}
