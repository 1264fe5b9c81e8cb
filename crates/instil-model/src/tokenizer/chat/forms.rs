//! Forms of chat by name: for model files without a template, and to put in the place of one.
//!
//! Each is the form that a family of models was trained on, without tools; which family a model is of, its user says.

/// The ChatML form, which many models were trained on (Qwen, SmolLM, Yi, Hermes).
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
                          + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' \
                          }}{% endif %}";

const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + \
                      '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// The system message stands before the first question: there is no role for it.
const LLAMA2: &str = "{% set ns = namespace(system='') %}{% for message in messages %}{% if message['role'] == 'system' %}\
                      {% set ns.system = '<<SYS>>\n' + message['content'] + '\n<</SYS>>\n\n' %}\
                      {% elif message['role'] == 'user' %}{{ bos_token + '[INST] ' + ns.system + message['content'] | trim \
                      + ' [/INST]' }}{% set ns.system = '' %}{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token \
                      }}{% endif %}{% endfor %}";

const MISTRAL: &str = "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}\
                       {% if message['role'] == 'system' %}{% set ns.system = message['content'] + '\n\n' %}\
                       {% elif message['role'] == 'user' %}{{ '[INST]' + ns.system + message['content'] + '[/INST]' }}\
                       {% set ns.system = '' %}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}";

const GEMMA: &str = "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}\
                     {% if message['role'] == 'system' %}{% set ns.system = message['content'] + '\n\n' %}{% else %}\
                     {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + \
                     ns.system + message['content'] | trim + '<end_of_turn>\n' }}{% set ns.system = '' %}{% endif %}\
                     {% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

const PHI3: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}\
                    {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}";

const ZEPHYR: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + \
                      '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}";

const GRANITE: &str = "{% for message in messages %}{{ '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + \
                       message['content'] + '<|end_of_text|>\n' }}{% endfor %}{% if add_generation_prompt %}\
                       {{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}";

/// All of them, by the name that people give them.
const ALL: [(&str, &str); 8] = [
    ("chatml", CHATML),
    ("gemma", GEMMA),
    ("granite", GRANITE),
    ("llama2", LLAMA2),
    ("llama3", LLAMA3),
    ("mistral", MISTRAL),
    ("phi3", PHI3),
    ("zephyr", ZEPHYR),
];

/// The template of that name.
pub fn named(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// The names that there are.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{ChatTemplate, Message};

    #[test]
    fn each_form_writes_what_its_models_were_trained_on() {
        let messages =
            [Message::system("Be kind."), Message::user("Why?"), Message::assistant("So."), Message::user("Really?")];
        let written = |name: &str| {
            let source = named(name).expect("a form of that name");
            let template = ChatTemplate::from_source(name, source, "<s>", "</s>").expect("a template");
            template.render(&messages, true).expect("it renders")
        };
        let expected = [
            (
                "chatml",
                "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.\
                 <|im_end|>\n<|im_start|>user\nReally?<|im_end|>\n<|im_start|>assistant\n",
            ),
            (
                "gemma",
                "<s><start_of_turn>user\nBe kind.\n\nWhy?<end_of_turn>\n<start_of_turn>model\nSo.<end_of_turn>\n\
                 <start_of_turn>user\nReally?<end_of_turn>\n<start_of_turn>model\n",
            ),
            (
                "granite",
                "<|start_of_role|>system<|end_of_role|>Be kind.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Why?\
                 <|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>So.<|end_of_text|>\n<|start_of_role|>user\
                 <|end_of_role|>Really?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
            ),
            ("llama2", "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nWhy? [/INST] So. </s><s>[INST] Really? [/INST]"),
            (
                "llama3",
                "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user\
                 <|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nSo.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nReally?<|eot_id|><|start_header_id|>assistant\
                 <|end_header_id|>\n\n",
            ),
            ("mistral", "<s>[INST]Be kind.\n\nWhy?[/INST]So.</s>[INST]Really?[/INST]"),
            (
                "phi3",
                "<|system|>\nBe kind.<|end|>\n<|user|>\nWhy?<|end|>\n<|assistant|>\nSo.<|end|>\n<|user|>\nReally?<|end|>\n\
                 <|assistant|>\n",
            ),
            (
                "zephyr",
                "<|system|>\nBe kind.</s>\n<|user|>\nWhy?</s>\n<|assistant|>\nSo.</s>\n<|user|>\nReally?</s>\n<|assistant|>\n",
            ),
        ];
        assert_eq!(expected.map(|(name, _)| name).to_vec(), names().collect::<Vec<_>>());
        for (name, expected) in expected {
            assert_eq!(written(name), expected, "{name}");
        }
    }
}
