//! Models in several files, as llama.cpp's `gguf-split` and its converter write them: which files belong together, by
//! their names, and whether each says the same of itself.
//!
//! The first holds all metadata; each says which part it is (`split.no`, from 0) of how many (`split.count`), and how
//! many tensors all of them hold (`split.tensors.count`).

use std::path::{Path, PathBuf};

use super::{Gguf, read};
use crate::error::{Error, Result};

/// All parts of the model that a file is a part of, in order and the file among them, by its name
/// (`NAME-00002-of-00004.gguf`); `None` for a file of another name. Whether they are there is not looked at.
pub fn parts_of(path: &Path) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (model, part) = rest.rsplit_once('-')?;
    let number = |digits: &str| -> Option<u32> {
        (digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    };
    let (part, count) = (number(part)?, number(count)?);
    // The format keeps the count in 16 bits.
    let is_possible = (1..=count).contains(&part) && u16::try_from(count).is_ok();
    is_possible
        .then(|| (1..=count).map(|part| path.with_file_name(format!("{model}-{part:05}-of-{count:05}.gguf"))).collect())
}

/// Opens every part of the model that `file` is a part of, and makes one of them.
pub(super) fn join(file: Gguf, path: &Path) -> Result<Gguf> {
    let count = file.metadata.opt_u32("split.count")?.unwrap_or(1) as usize;
    if count <= 1 {
        return Ok(file);
    }
    let number = file.metadata.u32("split.no")? as usize + 1;
    let Some(paths) = parts_of(path).filter(|paths| paths.len() == count) else {
        let what = format!("is part {number} of {count} of a model, which its name does not say");
        let remedy = format!("put all parts into one folder and name them NAME-00001-of-{count:05}.gguf and so on");
        return Err(Error::input(path, what, remedy));
    };
    let mut whole: Option<Gguf> = None;
    for (index, part) in paths.iter().enumerate() {
        if !part.exists() {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            let what = format!("is part {number} of {count} of a model, and part {} ({name}) is missing", index + 1);
            return Err(Error::input(path, what, "get it, and put it beside this one"));
        }
        let next = Gguf::open_one(part)?;
        let said = (next.metadata.u32("split.no")? as usize, next.metadata.u32("split.count")? as usize);
        if said != (index, count) {
            let what = format!(
                "says that it is part {} of {}, where its name says {} of {count}",
                said.0 + 1,
                said.1,
                index + 1
            );
            return Err(Error::input(part, what, "get the parts of one model again"));
        }
        match &mut whole {
            None => whole = Some(next),
            Some(whole) => whole.append(next, part)?,
        }
    }
    let whole = whole.expect("more than one part");
    let promised = whole.metadata.u32("split.tensors.count")? as usize;
    if whole.tensors.len() != promised {
        let what = format!("promises {promised} tensors in {count} parts, which hold {}", whole.tensors.len());
        return Err(Error::input(&paths[0], what, "get the parts of one model again"));
    }
    Ok(whole)
}

impl Gguf {
    /// Adds the tensors of another part.
    pub(super) fn append(&mut self, mut next: Self, path: &Path) -> Result<()> {
        let part = self.data.len();
        for mut tensor in next.tensors {
            tensor.part = part;
            if self.by_name.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                return Err(read::damaged(path, format!("tensor `{}` is in two parts of the model", tensor.name)));
            }
            self.tensors.push(tensor);
        }
        self.data.append(&mut next.data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        let parts = parts_of(Path::new("a/m-Q4-00002-of-00003.gguf")).expect("parts");
        assert_eq!(parts[0], Path::new("a/m-Q4-00001-of-00003.gguf"));
        assert_eq!((parts.len(), parts[2].to_str()), (3, Some("a/m-Q4-00003-of-00003.gguf")));
        for name in [
            "m.gguf",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-99999.gguf",
            "m-+0001-of-00003.gguf",
        ] {
            assert_eq!(parts_of(Path::new(name)), None, "{name}");
        }
    }
}
