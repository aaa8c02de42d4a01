//! Listing: pages of names in order, of any collection, without holding more than a page.

use redb::ReadableDatabase as _;

use crate::message::{VersionEntry, VersionState};
use crate::store::index::tables::{self, LATEST};
use crate::store::index::{Index, IndexError, damaged};
use crate::types::{CollectionName, RecordName};

/// Which names to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only names that begin so.
    pub prefix: String,
    /// Names that have it after the prefix are folded.
    pub delimiter: Option<char>,
    /// Go on after this: [`Listing::next`] of the page before.
    pub after: Option<String>,
    /// Entries of a page.
    pub limit: usize,
    /// Also records whose latest version is a removal.
    pub include_deleted: bool,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "most lines are records")]
pub enum ListItem {
    /// A record in its latest version.
    Record(RecordName, VersionEntry),
    /// All records whose names begin so, folded.
    Prefix(String),
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// In the order of the names' bytes.
    pub items: Vec<ListItem>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

impl Index {
    /// A page of a collection's records; empty for a collection that is not there.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn list(&self, collection: &CollectionName, query: &ListQuery) -> Result<Listing, IndexError> {
        let mut page = Listing::default();
        let Some(number) = self.collection(collection)? else { return Ok(page) };
        let txn = self.db.begin_read()?;
        let table = txn.open_table(LATEST)?;
        let mut from = match &query.after {
            Some(after) if after.as_str() >= query.prefix.as_str() => seek_after(after, query),
            _ => query.prefix.clone(),
        };
        // Each turn reads on from `from`; a folded prefix is left behind by one seek, however much it holds.
        'seek: loop {
            for row in table.range((number, from.as_str())..)? {
                let (key, value) = row?;
                let (found, name) = key.value();
                if found != number || !name.starts_with(&query.prefix) {
                    return Ok(page);
                }
                let entry = tables::decode_entry(value.value().1)?;
                if entry.state == VersionState::Deleted && !query.include_deleted {
                    continue;
                }
                if page.items.len() == query.limit {
                    page.next = page.items.last().map(cursor);
                    return Ok(page);
                }
                if let Some(folded) = fold(name, query) {
                    from = successor(&folded);
                    page.items.push(ListItem::Prefix(folded));
                    continue 'seek;
                }
                let name = name.parse().map_err(|_| damaged("a record's name"))?;
                page.items.push(ListItem::Record(name, entry));
            }
            return Ok(page);
        }
    }
}

/// The prefix that a name is folded into, if it is.
fn fold(name: &str, query: &ListQuery) -> Option<String> {
    let delimiter = query.delimiter?;
    let rest = &name[query.prefix.len()..];
    let end = query.prefix.len() + rest.find(delimiter)? + delimiter.len_utf8();
    Some(name[..end].to_owned())
}

fn cursor(item: &ListItem) -> String {
    match item {
        ListItem::Record(name, _) => name.as_str().to_owned(),
        ListItem::Prefix(prefix) => prefix.clone(),
    }
}

/// The first name that may follow a cursor.
fn seek_after(after: &str, query: &ListQuery) -> String {
    let folded = after.len() > query.prefix.len()
        && query.delimiter.is_some_and(|delimiter| after.ends_with(delimiter));
    if folded { successor(after) } else { format!("{after}\0") }
}

/// The least string that is greater than every string that begins with `prefix`, as far as names go: no
/// name holds the last character there is.
fn successor(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}
