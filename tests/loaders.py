"""Holds `instil export` to Hugging Face `datasets` and to the columns that trainers expect. Run by hand:

    pip install datasets
    cargo build --release && python tests/loaders.py target/release/instil
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from datasets import load_dataset

# What trl's SFTTrainer ("messages"; "prompt" and "completion") and axolotl's dataset types ("alpaca",
# "chat_template" over "conversations" or "messages") ask for.
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


def main(program):
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
