"""Cases of the JSON Schema Test Suite, one a line in the form of tests/cases; numbers and strings stay as written.

    git clone https://github.com/json-schema-org/JSON-Schema-Test-Suite
    python3 tests/suite/convert.py JSON-Schema-Test-Suite tests/suite

Cases that need a document of the suite's `remotes` go to skipped.txt by name.
"""
import json, os, sys
from urllib.parse import urljoin, urldefrag
src, out = sys.argv[1], sys.argv[2]
remotes = set()
for root, _, files in os.walk(src + "/remotes"):
    for f in files:
        remotes.add("http://localhost:1234/" + os.path.relpath(os.path.join(root, f), src + "/remotes"))

def minify(text, i):
    """(raw tree, end): ('o', [(rawkey, node)]), ('a', [node]) or raw text, numbers and strings as written."""
    def ws(i):
        while text[i] in " \t\r\n": i += 1
        return i
    i = ws(i)
    c = text[i]
    if c == '"':
        j = i + 1
        while text[j] != '"': j += 2 if text[j] == "\\" else 1
        return text[i:j+1], j + 1
    if c == "{":
        members = []; i = ws(i + 1)
        while text[i] != "}":
            k, i = minify(text, i); i = ws(i); assert text[i] == ":"
            v, i = minify(text, i + 1); members.append((k, v)); i = ws(i)
            if text[i] == ",": i = ws(i + 1)
        return ("o", members), i + 1
    if c == "[":
        items = []; i = ws(i + 1)
        while text[i] != "]":
            v, i = minify(text, i); items.append(v); i = ws(i)
            if text[i] == ",": i = ws(i + 1)
        return ("a", items), i + 1
    j = i
    while j < len(text) and text[j] not in " \t\r\n,]}": j += 1
    return text[i:j], j

def show(n):
    if isinstance(n, str): return n
    if n[0] == "o": return "{" + ",".join(k + ":" + show(v) for k, v in n[1]) + "}"
    return "[" + ",".join(map(show, n[1])) + "]"

def get(n, key):
    for k, v in n[1]:
        if json.loads(k) == key: return v

def ids(s, base, found):
    if isinstance(s, dict):
        for key in ("$id", "id"):
            if isinstance(s.get(key), str):
                base = urljoin(base, s[key]); found.add(urldefrag(base)[0])
        for v in s.values(): ids(v, base, found)
    elif isinstance(s, list):
        for v in s: ids(v, base, found)

def remote_refs(s, base, known, found):
    if isinstance(s, dict):
        for key in ("$id", "id"):
            if isinstance(s.get(key), str): base = urljoin(base, s[key])
        for key in ("$ref", "$dynamicRef", "$recursiveRef", "$schema"):
            if isinstance(s.get(key), str):
                to = urldefrag(urljoin(base, s[key]))[0]
                if to in remotes and to not in known: found.add(to)
        for v in s.values(): remote_refs(v, base, known, found)
    elif isinstance(s, list):
        for v in s: remote_refs(v, base, known, found)

skipped = {}
for folder, name in [("draft4", "draft-04"), ("draft6", "draft-06"), ("draft7", "draft-07"), ("draft2019-09", "2019-09"), ("draft2020-12", "2020-12")]:
    top = f"{src}/tests/{folder}"
    files = sorted(os.path.relpath(os.path.join(r, f), top) for r, _, fs in os.walk(top) for f in fs if f.endswith(".json"))
    lines = []
    for file in files:
        tree, _ = minify(open(f"{top}/{file}", encoding="utf-8").read(), 0)
        for case in tree[1]:
            title = f"{file[:-5]}: {json.loads(get(case, 'description'))}"
            schema = json.loads(show(get(case, "schema")))
            known, found = set(), set()
            ids(schema, "", known)
            remote_refs(schema, "", known, found)
            if found:
                skipped.setdefault(name, []).append(title); continue
            tests = [f'{{"valid":{get(t, "valid")},"data":{show(get(t, "data"))}}}' for t in get(case, "tests")[1]]
            lines.append(f'{{"name":{json.dumps(title, ensure_ascii=False)},"schema":{show(get(case, "schema"))},"tests":[{",".join(tests)}]}}')
    seen = set()
    for l in lines:
        n = json.loads(l)["name"]
        if n in seen: print("twice", name, n)
        seen.add(n)
    open(f"{out}/{name}.jsonl", "w", encoding="utf-8").write("\n".join(lines) + "\n")
    print(name, len(lines), sum(len(json.loads(l)["tests"]) for l in lines), sum(map(len, lines)))
with open(f"{out}/skipped.txt", "w") as f:
    for d, names in skipped.items():
        for n in names: f.write(f"{d}: {n}\n")
print({k: len(v) for k, v in skipped.items()})
