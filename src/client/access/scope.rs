//! Scopes as owners write them: which records somebody may be let into.
//!
//! ```text
//! expression := all ("or" all)*      all := each ("and" each)*      each := "not" each | "(" expression ")" | term
//! term := "in:" collection | "name:" prefix | "record:" collection "/" name | "label:" word | key "=" value
//! ```
//! A label is a word of the record's metadata `labels`, which lists words with commas between them. A value with blanks stands
//! in double quotes. What the expression says is evaluated by the owner's client alone: nodes see an opaque tag.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::types::{CollectionName, RecordName};

/// Nested brackets and negations at most.
const MAX_DEPTH: usize = 32;
/// The metadata that lists labels.
const LABELS: &str = "labels";

/// Why text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {what}")]
pub struct ScopeError {
    /// Where, from 1.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

/// Which records are in a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of a collection.
    Collection(CollectionName),
    /// Those whose names begin so.
    Name(String),
    /// One record.
    Record(CollectionName, RecordName),
    /// Those with a label.
    Label(String),
    /// Those whose metadata says so.
    Metadata(String, String),
    /// Those that are not in another.
    Not(Box<Self>),
    /// Those in all of these.
    All(Vec<Self>),
    /// Those in any of these.
    Any(Vec<Self>),
}

/// What a scope is asked of a record.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its collection.
    pub collection: &'a CollectionName,
    /// Its name.
    pub name: &'a RecordName,
    /// Its metadata.
    pub metadata: &'a BTreeMap<String, String>,
}

impl Scope {
    /// Whether a record is in the scope.
    #[must_use]
    pub fn contains(&self, record: &Subject<'_>) -> bool {
        match self {
            Self::Collection(collection) => record.collection == collection,
            Self::Name(prefix) => record.name.as_str().starts_with(prefix.as_str()),
            Self::Record(collection, name) => record.collection == collection && record.name == name,
            Self::Label(label) => record
                .metadata
                .get(LABELS)
                .is_some_and(|labels| labels.split(',').any(|found| found.trim() == label)),
            Self::Metadata(key, value) => record.metadata.get(key).is_some_and(|found| found == value),
            Self::Not(other) => !other.contains(record),
            Self::All(all) => all.iter().all(|scope| scope.contains(record)),
            Self::Any(any) => any.iter().any(|scope| scope.contains(record)),
        }
    }

    /// Whether it depends on metadata, which is in the record's header.
    #[must_use]
    pub fn asks_metadata(&self) -> bool {
        match self {
            Self::Label(_) | Self::Metadata(..) => true,
            Self::Not(other) => other.asks_metadata(),
            Self::All(scopes) | Self::Any(scopes) => scopes.iter().any(Self::asks_metadata),
            Self::Collection(_) | Self::Name(_) | Self::Record(..) => false,
        }
    }

    /// The only collection that has records of it, if that can be told: the others need not be looked through.
    #[must_use]
    pub fn only_collection(&self) -> Option<&CollectionName> {
        match self {
            Self::Collection(collection) | Self::Record(collection, _) => Some(collection),
            Self::All(all) => all.iter().find_map(Self::only_collection),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, scopes: &[Self], word: &str| {
            for (at, scope) in scopes.iter().enumerate() {
                if at > 0 {
                    write!(f, " {word} ")?;
                }
                match scope {
                    Self::All(_) | Self::Any(_) => write!(f, "({scope})")?,
                    _ => write!(f, "{scope}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Collection(collection) => write!(f, "in:{collection}"),
            Self::Name(prefix) => write!(f, "name:{}", quoted(prefix)),
            Self::Record(collection, name) => write!(f, "record:{}", quoted(&format!("{collection}/{name}"))),
            Self::Label(label) => write!(f, "label:{}", quoted(label)),
            Self::Metadata(key, value) => write!(f, "{key}={}", quoted(value)),
            Self::Not(other) => match **other {
                Self::All(_) | Self::Any(_) => write!(f, "not ({other})"),
                _ => write!(f, "not {other}"),
            },
            Self::All(all) => list(f, all, "and"),
            Self::Any(any) => list(f, any, "or"),
        }
    }
}

/// Text that reads back as one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | '"' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word of an expression, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    /// Text, and whether any of it stood in quotes: then it is no keyword.
    Word(String, bool),
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ScopeError> {
    let mut found = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    while let Some(&(at, c)) = chars.peek() {
        match c {
            _ if c.is_whitespace() => drop(chars.next()),
            '(' | ')' => {
                chars.next();
                found.push((at + 1, if c == '(' { Token::Open } else { Token::Close }));
            }
            _ => {
                let (mut word, mut is_quoted) = (String::new(), false);
                while let Some(&(from, c)) = chars.peek() {
                    if c.is_whitespace() || matches!(c, '(' | ')') {
                        break;
                    }
                    chars.next();
                    if c != '"' {
                        word.push(c);
                        continue;
                    }
                    is_quoted = true;
                    loop {
                        match chars.next() {
                            Some((_, '"')) => break,
                            Some((_, '\\')) => word.extend(chars.next().map(|(_, c)| c)),
                            Some((_, c)) => word.push(c),
                            None => return Err(error(from + 1, "a quote that is not closed")),
                        }
                    }
                }
                found.push((at + 1, Token::Word(word, is_quoted)));
            }
        }
    }
    Ok(found)
}

fn error(at: usize, what: impl Into<String>) -> ScopeError {
    ScopeError { at, what: what.into() }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<(usize, Token)>>,
    end: usize,
}

impl Parser {
    fn takes(&mut self, keyword: &str) -> bool {
        let is_it = |(_, token): &(usize, Token)| *token == Token::Word(keyword.to_owned(), false);
        self.tokens.next_if(is_it).is_some()
    }

    fn any(&mut self, depth: usize) -> Result<Scope, ScopeError> {
        let mut scopes = vec![self.all(depth)?];
        while self.takes("or") {
            scopes.push(self.all(depth)?);
        }
        Ok(if scopes.len() == 1 { scopes.swap_remove(0) } else { Scope::Any(scopes) })
    }

    fn all(&mut self, depth: usize) -> Result<Scope, ScopeError> {
        let mut scopes = vec![self.each(depth)?];
        while self.takes("and") {
            scopes.push(self.each(depth)?);
        }
        Ok(if scopes.len() == 1 { scopes.swap_remove(0) } else { Scope::All(scopes) })
    }

    fn each(&mut self, depth: usize) -> Result<Scope, ScopeError> {
        if depth == MAX_DEPTH {
            return Err(error(self.end, format!("nested more than {MAX_DEPTH} times")));
        }
        if self.takes("not") {
            return Ok(Scope::Not(Box::new(self.each(depth + 1)?)));
        }
        match self.tokens.next() {
            Some((_, Token::Open)) => {
                let inner = self.any(depth + 1)?;
                match self.tokens.next() {
                    Some((_, Token::Close)) => Ok(inner),
                    Some((at, _)) => Err(error(at, "\"and\", \"or\" or \")\" is missing here")),
                    None => Err(error(self.end, "a bracket that is not closed")),
                }
            }
            Some((at, Token::Word(word, _))) => term(at, &word),
            Some((at, Token::Close)) => Err(error(at, "a bracket that was not opened")),
            None => Err(error(self.end, "something is missing here")),
        }
    }
}

fn term(at: usize, word: &str) -> Result<Scope, ScopeError> {
    let collection =
        |name: &str| name.parse().map_err(|wrong| error(at, format!("not a collection's name: {wrong}")));
    if let Some(name) = word.strip_prefix("in:") {
        return Ok(Scope::Collection(collection(name)?));
    }
    let nothing = |of: &str| error(at, format!("{of} says nothing by itself"));
    if let Some(prefix) = word.strip_prefix("name:") {
        if prefix.is_empty() {
            return Err(nothing("name:"));
        }
        return Ok(Scope::Name(prefix.to_owned()));
    }
    if let Some(path) = word.strip_prefix("record:") {
        let (of, name) = path.split_once('/').ok_or_else(|| error(at, "say record:COLLECTION/NAME"))?;
        let name = name.parse().map_err(|wrong| error(at, format!("not a record's name: {wrong}")))?;
        return Ok(Scope::Record(collection(of)?, name));
    }
    if let Some(label) = word.strip_prefix("label:") {
        if label.is_empty() {
            return Err(nothing("label:"));
        }
        return Ok(Scope::Label(label.to_owned()));
    }
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Scope::Metadata(key.to_owned(), value.to_owned())),
        _ => Err(error(at, format!("\"{word}\" says nothing: in:, name:, record:, label: or KEY=VALUE"))),
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let end = text.chars().count() + 1;
        let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), end };
        let scope = parser.any(0)?;
        match parser.tokens.next() {
            None => Ok(scope),
            Some((at, Token::Close)) => Err(error(at, "a bracket that was not opened")),
            Some((at, _)) => Err(error(at, "\"and\" or \"or\" is missing here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(scope: &str, collection: &str, name: &str, metadata: &[(&str, &str)]) -> bool {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (collection, name) = (collection.parse().unwrap(), name.parse().unwrap());
        let subject = Subject { collection: &collection, name: &name, metadata: &metadata };
        scope.parse::<Scope>().unwrap().contains(&subject)
    }

    #[test]
    fn expressions_say_which_records_are_meant() {
        let knee = [("modality", "MR"), ("bodypart", "KNEE"), ("labels", "orthopedics, imaging")];
        let std = [("labels", "orthopedics,sexual-health")];
        for (scope, knee_is, std_is) in [
            ("in:imaging", true, false),
            ("name:2026/", true, false),
            ("record:imaging/2026/a.dcm", true, false),
            ("modality=MR and bodypart=KNEE", true, false),
            ("label:orthopedics", true, true),
            ("label:orthopedics and not label:sexual-health", true, false),
            ("label:ortho", false, false),
            ("not (in:imaging or label:sexual-health)", false, false),
            ("in:labs or in:imaging and modality=CT", false, true),
            ("(in:labs or in:imaging) and modality=CT", false, false),
            ("modality=\"MR\"", true, false),
            ("not not in:imaging", true, false),
        ] {
            assert_eq!(contains(scope, "imaging", "2026/a.dcm", &knee), knee_is, "{scope}");
            assert_eq!(contains(scope, "labs", "b", &std), std_is, "{scope}");
        }
        assert!(contains("note=\"a \\\"b\\\" (c)\"", "labs", "b", &[("note", "a \"b\" (c)")]));
        let only = |scope: &str| scope.parse::<Scope>().unwrap().only_collection().map(ToString::to_string);
        assert_eq!(only("label:x and in:labs"), Some("labs".to_owned()));
        assert_eq!(only("label:x or in:labs"), None);
        assert_eq!(only("not in:labs"), None);
    }

    #[test]
    fn an_expression_is_written_as_it_is_read() {
        for text in [
            "in:imaging",
            "label:orthopedics and not label:sexual-health",
            "(in:a or in:b) and not (name:x or k=v)",
            "k=\"a b\" or k=\"\" or name:\"a\\\\b\"",
            "record:\"labs/a b\"",
        ] {
            let scope: Scope = text.parse().unwrap();
            assert_eq!(scope.to_string(), text);
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
    }

    #[test]
    fn what_is_wrong_is_said_where() {
        for (text, at, what) in [
            ("", 1, "missing"),
            ("in:a and", 9, "missing"),
            ("in:a in:b", 6, "\"and\" or \"or\""),
            ("(in:a", 6, "not closed"),
            ("in:a)", 5, "not opened"),
            ("in:A_", 1, "collection"),
            ("record:abc", 1, "record:COLLECTION/NAME"),
            ("knee", 1, "says nothing"),
            ("name:", 1, "by itself"),
            ("in:a or label:", 9, "by itself"),
            ("k=\"v", 3, "quote"),
            ("()", 2, "not opened"),
        ] {
            let wrong = text.parse::<Scope>().unwrap_err();
            assert!(wrong.at == at && wrong.what.contains(what), "{text}: {wrong}");
        }
        let deep = format!("{}in:a{}", "(".repeat(40), ")".repeat(40));
        assert!(deep.parse::<Scope>().unwrap_err().what.contains("nested"));
        assert!("not ".repeat(100_000).parse::<Scope>().is_err());
    }
}
