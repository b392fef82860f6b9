//! How to choose algorithm, key and limits.
