#![allow(rustdoc::invalid_html_tags)] // the picture is SVG, whose tags may close themselves
#![doc = include_str!("../docs/guide.md")]
//!
#![doc = include_str!("../docs/algorithms.svg")]
//!
#![doc = include_str!("../docs/guide_after_picture.md")]
//!
#![doc = include_str!("../docs/bounds.md")]
