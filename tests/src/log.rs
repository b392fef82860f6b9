//! The log of a program under test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

/// A log that is kept in memory.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Records what this thread logs at level INFO or above while the guard lives.
    pub fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        Self::up_to(tracing::Level::INFO)
    }

    /// Records what this thread logs at `level` or above while the guard lives.
    pub fn up_to(level: tracing::Level) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(log.clone())
            .with_ansi(false)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Returns all lines.
    ///
    /// # Panics
    ///
    /// If they are not UTF-8.
    pub fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    /// Returns the lines of a level that contain all of these words.
    ///
    /// # Panics
    ///
    /// As [`lines`](Self::lines).
    pub fn lines_with(&self, level: &str, words: &[&str]) -> Vec<String> {
        let is_meant = |line: &String| line.contains(level) && words.iter().all(|word| line.contains(word));
        self.lines().into_iter().filter(is_meant).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
