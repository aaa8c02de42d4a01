//! The reader of vectors, for tests.

use data_encoding::HEXLOWER;

/// The lines `name = hex` of a file of vectors.
pub(super) struct Vectors(Vec<(String, Vec<u8>)>);

impl Vectors {
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, hex) = line.split_once(" = ").unwrap();
            (name.to_owned(), HEXLOWER.decode(hex.as_bytes()).unwrap())
        };
        Self(lines.map(parse).collect())
    }

    pub(super) fn get(&self, name: &str) -> &[u8] {
        let found = self.0.iter().find(|(found, _)| found == name);
        &found.unwrap_or_else(|| panic!("no vector {name}")).1
    }

    pub(super) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.get(name).try_into().unwrap()
    }
}
