//! How people name a model on the Hugging Face hub, and what they mean by it; nothing is looked up here.
//!
//! `owner/name`, with `:QUANT`, `@REVISION` or `/FILE.gguf` behind it, as llama.cpp and Ollama write them (`hf:`,
//! `hf.co/`), or an address pasted from a page of the hub.

use std::fmt;

use super::manifest::{is_relative, is_word};
use crate::{Error, Result};

/// A model on the hub, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `owner/name`.
    pub repo: String,
    /// A branch, tag or commit; `None` for what stands on the main branch.
    pub revision: Option<String>,
    /// Which of its files.
    pub choice: Choice,
}

/// Which of the files of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Whichever is usual.
    Usual,
    /// Those of a quantisation, as in `Q4_K_M`.
    Quantisation(String),
    /// This one, or the parts that it belongs to.
    File(String),
}

/// How the forms are told in errors.
const FORMS: &str = "write owner/name, owner/name:Q4_K_M, owner/name/file.gguf or one of them with @revision behind";
/// Hosts of the hub's pages.
const HOSTS: [&str; 4] = ["huggingface.co", "hf.co", "www.huggingface.co", "www.hf.co"];
/// Endings of files: a name of two words with one of them is a path.
const ENDINGS: [&str; 3] = [".gguf", ".toml", ".safetensors"];

impl HubName {
    /// Reads a name; `None` for what can be none, such as a path.
    ///
    /// # Errors
    /// [`Error::Usage`] for what is meant for the hub and cannot be read.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let fault = |what: &str| Error::usage(format!("{text:?} {what}"), FORMS);
        let address = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if let Some(address) = address {
            let (host, path) = address.split_once('/').unwrap_or((address, ""));
            let is_hub = HOSTS.contains(&host.to_ascii_lowercase().as_str()) || is_endpoint(host);
            if !is_hub {
                return Err(fault("is an address elsewhere than on the hub"));
            }
            return Self::of_page(path).map(Some).ok_or_else(|| fault("is no page of a model on the hub"));
        }
        let marked = ["hf://", "hf:"].iter().find_map(|mark| text.strip_prefix(mark));
        let hosted = || text.split_once('/').filter(|(host, _)| HOSTS.contains(host)).map(|(_, path)| path);
        if let Some(rest) = marked.or_else(hosted) {
            let found = if rest.contains("/blob/") || rest.contains("/resolve/") || rest.contains("/tree/") {
                Self::of_page(rest)
            } else {
                Self::plain(rest)
            };
            return found.map(Some).ok_or_else(|| fault("is no name on the hub"));
        }
        Ok(Self::plain(text).filter(|name| !name.looks_like_path()))
    }

    /// `owner/name` and what may follow it.
    fn plain(text: &str) -> Option<Self> {
        let (owner, rest) = text.split_once('/')?;
        let end = rest.find([':', '@', '/']).unwrap_or(rest.len());
        let (name, mut rest) = rest.split_at(end);
        let (mut revision, mut choice) = (None, Choice::Usual);
        while let Some(mark) = rest.chars().next() {
            let stop: &[char] = if mark == '@' { &[':'] } else { &['@'] };
            let end = rest[1..].find(stop).map_or(rest.len(), |at| at + 1);
            let (value, after) = (&rest[1..end], &rest[end..]);
            rest = after;
            match mark {
                '@' if revision.is_none() && is_revision(value) => revision = Some(value.to_owned()),
                // What Ollama writes where nothing is chosen.
                ':' if choice == Choice::Usual && value.eq_ignore_ascii_case("latest") => {}
                ':' if choice == Choice::Usual && is_word(value) => choice = Choice::Quantisation(value.to_owned()),
                '/' if choice == Choice::Usual && is_relative(value) => choice = Choice::File(value.to_owned()),
                _ => return None,
            }
        }
        Self { repo: format!("{owner}/{name}"), revision, choice }.checked()
    }

    /// The path of a page: `owner/name`, `owner/name/tree/REVISION`, `owner/name/blob/REVISION/FILE`.
    fn of_page(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let parts: Vec<String> = path.split('/').map(unescaped).collect::<Option<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (repo, revision, choice) = match parts.as_slice() {
            [owner, name] => return Self::plain(&format!("{owner}/{name}")),
            [owner, name, "tree", revision] => (format!("{owner}/{name}"), *revision, Choice::Usual),
            [owner, name, "blob" | "resolve" | "raw", revision, file @ ..] if !file.is_empty() => {
                (format!("{owner}/{name}"), *revision, Choice::File(file.join("/")))
            }
            _ => return None,
        };
        let revision = Some(revision.to_owned()).filter(|revision| revision != "main");
        Self { repo, revision, choice }.checked()
    }

    fn checked(self) -> Option<Self> {
        let words: Vec<&str> = self.repo.split('/').collect();
        let is_repo = words.len() == 2 && words.iter().all(|word| is_word(word));
        let is_revision = self.revision.as_deref().is_none_or(is_revision);
        let is_file = match &self.choice {
            Choice::File(file) => is_relative(file) && file.to_ascii_lowercase().ends_with(".gguf"),
            Choice::Usual | Choice::Quantisation(_) => true,
        };
        (is_repo && is_revision && is_file).then_some(self)
    }

    /// Whether two words and a slash are a path rather than a name, as in `models/small.gguf`.
    fn looks_like_path(&self) -> bool {
        let repo = self.repo.to_ascii_lowercase();
        self.choice == Choice::Usual && self.revision.is_none() && ENDINGS.iter().any(|ending| repo.ends_with(ending))
    }

    /// The revision, by name.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        match &self.choice {
            Choice::Usual => {}
            Choice::Quantisation(quantisation) => write!(f, ":{quantisation}")?,
            Choice::File(file) => write!(f, "/{file}")?,
        }
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// Whether `host` is that of `HF_ENDPOINT`, whose pages are the hub's too.
fn is_endpoint(host: &str) -> bool {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_default();
    let of_endpoint = endpoint.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    !of_endpoint.is_empty() && of_endpoint.eq_ignore_ascii_case(host)
}

/// Whether a text can be a branch, a tag or a commit.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '/');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) && is_relative(text)
}

/// A segment of an address without its escapes.
fn unescaped(segment: &str) -> Option<String> {
    let (bytes, mut plain, mut at) = (segment.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            plain.push(u8::from_str_radix(segment.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        HubName::parse(text).expect(text).map_or("none".into(), |name| name.to_string())
    }

    #[test]
    fn names_are_read_in_every_usual_form() {
        for (text, expected) in [
            ("owner/name", "owner/name"),
            ("owner/Some.Name-1_b:q4_k_m", "owner/Some.Name-1_b:q4_k_m"),
            ("owner/name@v1.0", "owner/name@v1.0"),
            ("owner/name:Q8_0@refs/pr/3", "owner/name:Q8_0@refs/pr/3"),
            ("owner/name@main:Q8_0", "owner/name:Q8_0@main"),
            ("owner/name/file.gguf", "owner/name/file.gguf"),
            ("owner/name/Q4/a-00001-of-00002.gguf@abc", "owner/name/Q4/a-00001-of-00002.gguf@abc"),
            ("hf:owner/name:Q4_0", "owner/name:Q4_0"),
            ("hf://owner/name", "owner/name"),
            ("hf.co/owner/name:latest", "owner/name"),
            ("huggingface.co/owner/name:Q4_K_M", "owner/name:Q4_K_M"),
            ("https://huggingface.co/owner/name", "owner/name"),
            ("https://huggingface.co/owner/name/", "owner/name"),
            ("https://huggingface.co/owner/name/tree/main", "owner/name"),
            ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F3", "owner/name@refs/pr/3"),
            ("https://huggingface.co/owner/name/blob/main/a/x.gguf", "owner/name/a/x.gguf"),
            ("https://hf.co/owner/name/resolve/v2/x.gguf?download=true", "owner/name/x.gguf@v2"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn paths_and_plain_names_are_none() {
        for text in [
            "name",
            "./owner/name",
            "/owner/name",
            "../name",
            "~/name",
            "models/small.gguf",
            "models/own.toml",
            "a/b/c",
            "a/b/c.toml",
            "owner\\name",
            "",
        ] {
            assert_eq!(read(text), "none", "{text}");
        }
    }

    #[test]
    fn what_is_meant_for_the_hub_and_cannot_be_read_says_how_to_write_it() {
        for text in [
            "hf:name",
            "hf:owner/name:",
            "hf:owner/name@../x",
            "https://huggingface.co/owner",
            "https://huggingface.co/owner/name/blob/main/readme.md",
            "https://huggingface.co/owner/name/blob/main/%2E%2E/x.gguf",
            "https://elsewhere.example/owner/name",
        ] {
            let told = HubName::parse(text).expect_err(text).to_string();
            assert!(told.contains("owner/name:Q4_K_M"), "{told}");
        }
    }
}
