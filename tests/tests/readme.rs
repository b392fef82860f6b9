//! What the README shares with the documentation of the attribute is in both of them.

#[test]
fn the_arguments_of_the_attribute_are_those_of_its_documentation() {
    let (readme, arguments) = (include_str!("../../README.md"), include_str!("../../macros/arguments.md"));
    assert!(readme.contains(arguments), "copy the table of macros/arguments.md into README.md");
}
