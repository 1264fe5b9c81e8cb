"""Holds `instil export` to the loaders of trainers: Hugging Face `datasets`, trl's SFT and DPO trainers (each form is
prepared, and a model of random weights takes a step), LLaMA-Factory (by the directory's dataset_info.json) and axolotl
(its prompt strategies). Run by hand; what is not installed is said to be left out:

    pip install datasets transformers torch trl llamafactory axolotl
    cargo build --release && python tests/loaders.py target/release/instil
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from datasets import load_dataset
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast
from trl.data_utils import apply_chat_template, is_conversational, maybe_convert_to_chatml

# What trl's SFTTrainer ("messages"; "prompt" and "completion") and axolotl's dataset types ("alpaca",
# "chat_template" over "conversations" or "messages") ask for. axolotl itself is not run here.
COLUMNS = {
    "alpaca": {"instruction": str, "input": str, "output": str},
    "sharegpt": {"conversations": ("from", "value", {"human", "gpt"})},
    "messages": {"messages": ("role", "content", {"user", "assistant"})},
    "prompt-completion": {"prompt": str, "completion": str},
}
# What trl's DPOTrainer asks for, plain and conversational.
PREFERENCES = {
    "preference": {"prompt": str, "chosen": str, "rejected": str},
    "preference-messages": {
        "prompt": ("role", "content", {"user"}),
        "chosen": ("role", "content", {"assistant"}),
        "rejected": ("role", "content", {"assistant"}),
    },
}


def check(rows, columns):
    assert set(rows.column_names) == set(columns), rows.column_names
    for row in rows:
        for name, kind in columns.items():
            if kind is str:
                assert isinstance(row[name], str), row
            else:
                role, text, roles = kind
                assert [set(message) for message in row[name]] == [{role, text}] * len(row[name]), row
                assert {message[role] for message in row[name]} <= roles, row
                assert all(isinstance(message[text], str) for message in row[name]), row


def trainer():
    """A tokenizer of characters with a chat template, as a trainer has one."""
    letters = ["[UNK]", "[PAD]", "[BOS]", "[EOS]", *map(chr, range(32, 127)), "\n", "é"]
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, [], unk_token="[UNK]"))
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return tokenizer


def left_out(name, cause):
    print(f"NOT RUN: {name} ({cause})")


def with_trl(folder, forms, tokenizer):
    """trl's trainers prepare the rows of every form that they read, and a tiny model takes a step on them."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
        from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
    except ImportError as cause:
        return left_out("trl's trainers", cause)
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(tokenizer))
    common = dict(max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, bf16=False, max_length=256)
    for form in forms:
        rows = load_dataset(str(folder / f"{form}-jsonl"), cache_dir=str(folder / "cache"))["train"]
        model, out = LlamaForCausalLM(LlamaConfig(**sizes)), str(folder / f"trl-{form}")
        if form in PREFERENCES:
            before = LlamaForCausalLM(LlamaConfig(**sizes))
            arguments = DPOConfig(output_dir=out, **common)
            made = DPOTrainer(model, before, args=arguments, train_dataset=rows, processing_class=tokenizer)
        else:
            made = SFTTrainer(model, args=SFTConfig(output_dir=out, **common), train_dataset=rows, processing_class=tokenizer)
        assert len(made.train_dataset) == len(rows), form
        assert made.train().global_step == 1
    print(f"trl: a step on {', '.join(forms)}")


def with_llama_factory(folder, texts):
    """LLaMA-Factory reads the directory by its dataset_info.json, and means what was written."""
    # It names the versions that it was tried with, and reads rows with others.
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    try:
        from llamafactory.data.loader import _load_single_dataset
        from llamafactory.data.parser import get_dataset_list
        from llamafactory.hparams import DataArguments, ModelArguments
        from transformers import Seq2SeqTrainingArguments
    except ImportError as cause:
        return left_out("LLaMA-Factory", cause)
    read = []
    for out in sorted(folder.glob("*-jsonl")) + sorted(folder.glob("*-parquet")):
        about = out / "dataset_info.json"
        if not about.exists():
            continue
        for name in json.loads(about.read_text()):
            (attributes,) = get_dataset_list([name], str(out))
            arguments = DataArguments(dataset=name, dataset_dir=str(out), overwrite_cache=True)
            model = ModelArguments(model_name_or_path="none", cache_dir=str(folder / "cache"))
            rows = _load_single_dataset(attributes, model, arguments, Seq2SeqTrainingArguments(str(folder / "none"), use_cpu=True))
            assert len(rows) > 0, name
            for row in rows:
                (asked,), answers = row["_prompt"], row["_response"]
                assert asked["role"] == "user" and texts[asked["content"]] == answers[0]["content"], row
                assert len(answers) == (2 if attributes.ranking else 1), row
        read.append(out.name)
    forms = {name.rsplit("-", 1)[0] for name in read}
    assert {"alpaca", "sharegpt", "messages", "prompt-completion", "preference"} <= forms, forms
    print(f"LLaMA-Factory: {', '.join(read)}")


def with_axolotl(folder, tokenizer, texts):
    """axolotl's strategies make prompts with labels of the rows."""
    try:
        from axolotl.prompt_strategies import load
        from axolotl.utils.dict import DictDefault
    except ImportError as cause:
        return left_out("axolotl", cause)
    cfg = DictDefault({"sequence_len": 512, "train_on_inputs": False})
    chat = {"type": "chat_template", "chat_template": "tokenizer_default"}
    strategies = {
        "alpaca": DictDefault({"type": "alpaca"}),
        "messages": DictDefault({**chat, "field_messages": "messages"}),
        "sharegpt": DictDefault({**chat, "field_messages": "conversations", "message_property_mappings": {"role": "from", "content": "value"}}),
    }
    kind = {"alpaca": "alpaca_chat.load_no_prompt", "messages": "chat_template", "sharegpt": "chat_template"}
    for form, about in strategies.items():
        strategy = load(kind[form], tokenizer, cfg, about)
        for row in load_dataset(str(folder / f"{form}-jsonl"), cache_dir=str(folder / "cache"))["train"]:
            made = strategy.tokenize_prompt(row)
            said = tokenizer.decode([token for token, label in zip(made["input_ids"], made["labels"]) if label != -100])
            answer = row["output"] if form == "alpaca" else list(row.values())[0][1]["content" if form == "messages" else "value"]
            assert answer in said and "Ask" not in said, (form, said)
    print(f"axolotl: {', '.join(strategies)}")


def train(form, rows, texts, tokenizer):
    """What trl's SFTTrainer makes of rows before it tokenises them."""
    for row in rows:
        row = maybe_convert_to_chatml(row)
        assert is_conversational(row) == (form in ("messages", "sharegpt")), row
        if is_conversational(row):
            asked, answered = (message["content"] for message in row["messages"])
            made = apply_chat_template(row, tokenizer)["text"]
            # trl renames the keys of ShareGPT, not its roles: `messages` is the form for it.
            user, assistant = ("human", "gpt") if form == "sharegpt" else ("user", "assistant")
            end = "[EOS]" if assistant == "assistant" else ""
            assert made == f"<{user}>{asked}<{assistant}>{answered}{end}", made
        elif form == "prompt-completion":
            asked, answered = row["prompt"], row["completion"]
        else:
            asked, answered = row["instruction"], row["output"]
        assert texts[asked] == answered, row


def main(program):
    tokenizer = trainer()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = [{"id": str(i), "instruction": f'Ask "{i}",\nplease: é', "response": f"Say {i}.", "n": i, "f": i / 2} for i in range(40)]
        source = folder / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paired = folder / "pairs.jsonl"
        paired.write_text("".join(json.dumps({**row, "rejected": f"Do not say {row['n']}."}) + "\n" for row in rows))
        forms = [(source, *form) for form in COLUMNS.items()] + [(paired, *form) for form in PREFERENCES.items()]
        for source, form, columns in forms:
            for file in ["jsonl", "parquet"]:
                out = folder / f"{form}-{file}"
                subprocess.run([program, "-q", "export", source, "--format", form, "--file", file, "--split", "0.25", "-o", out], check=True)
                # By the card's `configs`, as from the hub.
                loaded = load_dataset(str(out), cache_dir=str(folder / "cache"))
                assert set(loaded) == {"train", "test"} and len(loaded["train"]) + len(loaded["test"]) == 40, loaded
                for part in loaded.values():
                    check(part, columns)
                    if form in COLUMNS:
                        train(form, part, {row["instruction"]: row["response"] for row in rows}, tokenizer)
        texts = {row["instruction"]: row["response"] for row in rows}
        with_trl(folder, ["messages", "prompt-completion", *PREFERENCES], tokenizer)
        with_llama_factory(folder, texts)
        with_axolotl(folder, tokenizer, texts)
        source = folder / "rows.jsonl"
        for form in ["jsonl", "csv", "parquet"]:
            out = folder / f"plain-{form}"
            subprocess.run([program, "-q", "export", source, "--format", form, "-o", out], check=True)
            loaded = load_dataset(str(out), cache_dir=str(folder / "cache"))["train"]
            found = [{**row, "id": str(row["id"])} for row in loaded]
            assert found == rows, (form, found[0])
        # What other programs write is read back.
        loaded.to_parquet(folder / "theirs.parquet")
        out = folder / "back"
        subprocess.run([program, "-q", "export", folder / "theirs.parquet", "--format", "messages", "-o", out], check=True)
        back = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        assert [row["messages"][1]["content"] for row in back] == [row["response"] for row in rows]
    print("datasets: all forms load")


main(sys.argv[1])
