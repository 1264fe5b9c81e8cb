//! The models among the files of a repository: which files are one model in one quantisation, and which of them is meant.
//!
//! The habit is llama.cpp's: a quantisation is the word in a file's name, in any case; without one Q4_K_M is taken, else
//! a few usual ones, else the first. What stands beside a model (projectors of images, importance matrices) is none.

use std::path::Path;

use indicatif::DecimalBytes;
use instil_model::gguf::parts_of;

use super::hub_name::{Choice, HubName};
use super::manifest::Role;
use super::source::ListedFile;
use crate::{Error, Result};

/// What the form of the makers is called among quantisations.
pub(crate) const FOLDER: &str = "safetensors";
/// The ending of weights in that form.
const WEIGHTS: &str = ".safetensors";
/// What is taken where nothing is said, in this order.
const USUAL: [&str; 5] = ["Q4_K_M", "UD-Q4_K_M", "Q4_0", "UD-Q4_K_XL", "Q8_0"];

/// One model in one quantisation: a file, or the parts of one.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// Its quantisation as the name says it, in capitals; the file's name without its ending where it says none.
    pub label: String,
    /// Its files, in order.
    pub files: Vec<ListedFile>,
    /// A part that is missing in the repository.
    missing: Option<String>,
}

impl Variant {
    /// Bytes of all of its files, where they are told.
    pub(crate) fn size_bytes(&self) -> Option<u64> {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// The models among `files`, by their names.
pub(crate) fn variants(files: &[ListedFile]) -> Vec<Variant> {
    let mut found: Vec<Variant> = Vec::new();
    for file in files.iter().filter(|file| is_model(&file.name)) {
        let parts = parts_of(Path::new(&file.name));
        let names: Vec<String> = match &parts {
            Some(parts) => parts.iter().map(|part| part.to_string_lossy().into_owned()).collect(),
            None => vec![file.name.clone()],
        };
        if found.iter().any(|variant| variant.files.iter().any(|known| known.name == file.name)) {
            continue;
        }
        let listed = |name: &String| files.iter().find(|file| file.name == *name).cloned();
        found.push(Variant {
            label: label(&file.name),
            missing: names.iter().find(|name| listed(name).is_none()).cloned(),
            files: names.iter().filter_map(listed).collect(),
        });
    }
    found.sort_by(|a, b| a.files[0].name.cmp(&b.files[0].name));
    found.extend(folder(files));
    found
}

/// The model in the form of its makers, where everything is there that it needs.
fn folder(files: &[ListedFile]) -> Option<Variant> {
    let mut files: Vec<ListedFile> = files.iter().filter(|file| is_of_folder(&file.name)).cloned().collect();
    files.sort_by_key(|file| order(&file.name));
    let has = |name: &str| files.iter().any(|file| file.name == name);
    let is_whole = Role::of(&files.first()?.name) == Role::Weights && has("config.json") && has("tokenizer.json");
    is_whole.then(|| Variant { label: FOLDER.to_owned(), files, missing: None })
}

/// Weights first, then what is said of them.
pub(crate) fn order(name: &str) -> (bool, String) {
    (!name.ends_with(WEIGHTS), name.to_owned())
}

/// Place of the model that is taken where nothing is said.
pub(crate) fn usual(variants: &[Variant]) -> Option<usize> {
    let named = |label: &&str| variants.iter().position(|variant| variant.label == **label);
    USUAL.iter().find_map(named).or_else(|| (!variants.is_empty()).then_some(0))
}

/// The model that is meant by `name`, among those of its repository.
///
/// # Errors
/// When there is none, or there are several; the error lists what there is.
pub(crate) fn choose<'a>(name: &HubName, variants: &'a [Variant], has_safetensors: bool) -> Result<&'a Variant> {
    let repo = &name.repo;
    if variants.is_empty() {
        let what = if has_safetensors {
            "holds no GGUF file, and safetensors without the config.json and tokenizer.json that they need"
        } else {
            "holds no GGUF file"
        };
        let remedy = "look for a repository of the same model that does, which people often call NAME-GGUF";
        return Err(Error::model(repo, what, remedy));
    }
    let meant: Vec<&Variant> = match &name.choice {
        Choice::Usual => {
            let label = &variants[usual(variants).unwrap_or_default()].label;
            variants.iter().filter(|variant| variant.label == *label).collect()
        }
        Choice::Quantisation(wanted) if wanted.eq_ignore_ascii_case(FOLDER) => {
            variants.iter().filter(|variant| variant.label == FOLDER).collect()
        }
        Choice::Quantisation(wanted) => labelled(variants, &wanted.to_ascii_uppercase()),
        Choice::File(wanted) => {
            variants.iter().filter(|variant| variant.files.iter().any(|file| file.name == *wanted)).collect()
        }
    };
    match meant.as_slice() {
        [one] => match &one.missing {
            None => Ok(one),
            Some(missing) => {
                let what = format!("lacks {missing}, a part of its {}", one.label);
                Err(Error::model(repo, what, format!("take another: {}", told(variants))))
            }
        },
        [] => {
            let what = match &name.choice {
                Choice::File(file) => format!("has no {file}"),
                Choice::Quantisation(quantisation) => format!("has no {quantisation}"),
                Choice::Usual => "has no usual quantisation".into(),
            };
            Err(Error::model(repo, what, format!("it has {}", told(variants))))
        }
        [first, ..] => {
            let files: Vec<String> = meant.iter().map(|variant| format!("{repo}/{}", variant.files[0].name)).collect();
            let what = format!("has {} models in {}", files.len(), first.label);
            Err(Error::model(repo, what, format!("name the file: {}", files.join(", "))))
        }
    }
}

/// Those of a quantisation; a mixture (`UD-`) may be named without its mark where there is no plain one.
fn labelled<'a>(variants: &'a [Variant], wanted: &str) -> Vec<&'a Variant> {
    let with = |label: &str| variants.iter().filter(|variant| variant.label == label).collect::<Vec<_>>();
    let same = match wanted {
        "FP16" => "F16",
        "FP32" => "F32",
        other => other,
    };
    let plain = with(same);
    if plain.is_empty() { with(&format!("UD-{same}")) } else { plain }
}

/// What there is, in one line.
fn told(variants: &[Variant]) -> String {
    let size = |variant: &Variant| variant.size_bytes().map(|size| format!(" ({})", DecimalBytes(size)));
    let told = |variant: &Variant| format!("{}{}", variant.label, size(variant).unwrap_or_default());
    variants.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// Whether a file belongs to a model in the form of the models' makers: weights in safetensors, and what is said of them.
pub(crate) fn is_of_folder(name: &str) -> bool {
    let is_said = matches!(
        name,
        "config.json"
            | "generation_config.json"
            | "tokenizer.json"
            | "tokenizer_config.json"
            | "chat_template.jinja"
            | "model.safetensors.index.json"
    );
    is_said || (name.starts_with("model") && name.ends_with(WEIGHTS) && !name.contains('/'))
}

/// Whether a file is a language model by its name.
pub(crate) fn is_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let file = name.rsplit('/').next().unwrap_or_default();
    let Some(stem) = file.strip_suffix(".gguf") else { return false };
    let is_beside = stem.contains("mmproj") || stem.starts_with("imatrix") || stem.ends_with("imatrix");
    !is_beside
}

/// The quantisation in a file's name: the last word between `-` and `.` that is one.
fn label(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or_default();
    let stem = &file[..file.len() - ".gguf".len()];
    let stem = parts_of(Path::new(file)).map_or(stem, |_| &stem[..stem.len() - "-00001-of-00001".len()]);
    let words: Vec<&str> = stem.split(['-', '.']).collect();
    let Some(at) = words.iter().rposition(|word| is_quantisation(&word.to_ascii_uppercase())) else {
        return stem.to_owned();
    };
    let word = match words[at].to_ascii_uppercase().as_str() {
        "FP16" => "F16".into(),
        "FP32" => "F32".into(),
        word => word.to_owned(),
    };
    let is_mixture = at > 0 && words[at - 1].eq_ignore_ascii_case("UD");
    if is_mixture { format!("UD-{word}") } else { word }
}

/// Whether a word in capitals names a type of weights or a mixture of them: `Q4_K_M`, `IQ4_XS`, `BF16`, `MXFP4_MOE`.
fn is_quantisation(word: &str) -> bool {
    let mut parts = word.split('_');
    let first = parts.next().unwrap_or_default();
    if matches!(word, "BF16" | "F16" | "F32" | "FP16" | "FP32") || matches!(first, "MXFP4" | "NVFP4") {
        return true;
    }
    let digits = ["IQ", "TQ", "Q"].iter().find_map(|kind| first.strip_prefix(kind));
    let is_type = digits.is_some_and(|digits| digits.len() == 1 && digits.as_bytes()[0].is_ascii_digit());
    let rest: Vec<&str> = parts.collect();
    is_type && !rest.is_empty() && rest.iter().all(|part| matches!(part.len(), 1..=3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<ListedFile> {
        let file = |name: &&str| ListedFile {
            name: (*name).to_owned(),
            size_bytes: Some(1_500_000),
            sha256: None,
            blob: None,
        };
        names.iter().map(file).collect()
    }

    fn chosen(names: &[&str], wanted: &str) -> Result<Vec<String>> {
        let name = HubName::parse(&format!("o/n{wanted}")).expect("a name").expect("of the hub");
        let variants = variants(&files(names));
        choose(&name, &variants, false).map(|one| one.files.iter().map(|file| file.name.clone()).collect())
    }

    #[test]
    fn quantisations_are_read_from_names() {
        for (name, expected) in [
            ("Model-7B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
            ("gemma-3-1b-it-q4_0.gguf", "Q4_0"),
            ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
            ("a/b/Model-BF16-00002-of-00004.gguf", "BF16"),
            ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
            ("Model.i1-IQ3_XXS.gguf", "IQ3_XXS"),
            ("model-fp16.gguf", "F16"),
            ("Model-Q4_0_4_4.gguf", "Q4_0_4_4"),
            ("Model-Q2_K-imat.gguf", "Q2_K"),
            ("Qwen3-0.6B.gguf", "Qwen3-0.6B"),
        ] {
            assert_eq!(label(name), expected, "{name}");
        }
    }

    #[test]
    fn the_usual_one_is_taken_where_nothing_is_said() {
        let all = ["m-BF16.gguf", "m-Q2_K.gguf", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf"];
        assert_eq!(chosen(&all, "").expect("one"), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen(&["m-Q8_0.gguf", "m-Q4_0.gguf", "m-BF16.gguf"], "").expect("one"), ["m-Q4_0.gguf"]);
        assert_eq!(chosen(&["m-Q8_0.gguf", "m-BF16.gguf"], "").expect("one"), ["m-Q8_0.gguf"]);
        assert_eq!(chosen(&["m-Q6_K.gguf", "m-BF16.gguf"], "").expect("one"), ["m-BF16.gguf"]);
        assert_eq!(chosen(&["imatrix.gguf", "m-imatrix.gguf", "m.gguf", "readme.md"], "").expect("one"), ["m.gguf"]);
    }

    #[test]
    fn a_quantisation_is_found_in_any_case_and_spelling() {
        let all = ["m-UD-Q4_K_XL.gguf", "m-Q4_K_M.gguf", "m-UD-Q2_K_XL.gguf", "m-f16.gguf", "x/m-UD-Q8_0.gguf"];
        for (wanted, expected) in [
            (":q4_k_m", "m-Q4_K_M.gguf"),
            (":Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
            (":ud-q4_k_xl", "m-UD-Q4_K_XL.gguf"),
            (":FP16", "m-f16.gguf"),
            ("/x/m-UD-Q8_0.gguf", "x/m-UD-Q8_0.gguf"),
        ] {
            assert_eq!(chosen(&all, wanted).expect(wanted), [expected]);
        }
    }

    #[test]
    fn parts_are_one_model() {
        let parts = ["q/m-Q4_K_M-00001-of-00002.gguf", "q/m-Q4_K_M-00002-of-00002.gguf"];
        assert_eq!(chosen(&[parts[1], parts[0], "m-Q8_0.gguf"], "").expect("one"), parts);
        assert_eq!(chosen(&parts, &format!("/{}", parts[1])).expect("one"), parts);
        let told = chosen(&parts[1..], "").expect_err("a part is missing").to_string();
        assert!(told.contains("lacks q/m-Q4_K_M-00001-of-00002.gguf"), "{told}");
    }

    #[test]
    fn what_is_not_there_or_not_one_is_answered_with_the_list() {
        for (names, wanted, expected) in [
            (&["m-Q8_0.gguf", "m-Q4_0.gguf"][..], ":Q4_K_M", "has no Q4_K_M; it has Q4_0 (1.50 MB), Q8_0 (1.50 MB)"),
            (&["m-Q8_0.gguf"][..], "/other.gguf", "has no other.gguf; it has Q8_0"),
            (
                &["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"][..],
                "",
                "has 2 models in Q4_K_M; name the file: o/n/a-Q4_K_M.gguf, o/n/b-Q4_K_M.gguf",
            ),
            (&["config.json"][..], "", "holds no GGUF file; look for a repository"),
        ] {
            let told = chosen(names, wanted).expect_err("must be refused").to_string();
            assert!(told.contains(expected) && !told.contains('\n'), "{told}");
        }
    }
}
