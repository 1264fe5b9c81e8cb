"""Holds `instil export` to Hugging Face `datasets` and to what trl's trainers do with rows. Run by hand; of trl
only the treatment of rows is used, which needs no torch:

    pip install datasets transformers jinja2 psutil && pip install --no-deps trl
    cargo build --release && python tests/loaders.py target/release/instil
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from datasets import load_dataset
from tokenizers import Tokenizer, models
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
    """A tokenizer with a chat template, as a trainer has one."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))
    tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    return tokenizer


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
            assert made == f"<{user}>{asked}<{assistant}>{answered}", made
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
    print("all forms load")


main(sys.argv[1])
