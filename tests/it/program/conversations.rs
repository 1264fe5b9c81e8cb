//! Conversations and what stands beside them: read in the forms that are in use, written with the same roles, and
//! what is not used is told.

use serde_json::{Value, json};

use super::Place;

/// What `export` makes of one row: the row, or none, and stderr.
fn exported(row: &Value, form: &str) -> (Option<Value>, String) {
    let place = Place::new();
    place.write("in.jsonl", format!("{row}\n{}\n", json!({"prompt": "Q", "completion": "A"})));
    let outcome = place.run(&["export", "in.jsonl", "--format", form, "-o", "data"]).succeeded();
    let mut rows = place.lines("data/train.jsonl");
    assert!((1..=2).contains(&rows.len()), "{rows:?}");
    (if rows.len() == 2 { Some(rows.remove(0)) } else { None }, outcome.stderr)
}

#[test]
fn what_is_said_is_kept_in_forms_that_can_say_it() {
    let user = json!({"role": "user", "content": "How warm is it?"});
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}});
    let calling = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let called = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let found = json!({"role": "tool", "content": "7", "tool_call_id": "c1"});
    let answer = json!({"role": "assistant", "content": "Seven degrees."});
    let spoken = json!([
        {"from": "human", "value": "How warm is it?"},
        {"from": "function_call", "value": "{\"name\":\"weather\",\"arguments\":{\"city\":\"Oslo\"}}"},
        {"from": "observation", "value": "7"},
        {"from": "gpt", "value": "Seven degrees."},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "weather"}}]);
    let thinking = json!({"role": "assistant", "reasoning_content": "Two and two.", "content": "4"});
    let exchange =
        |ask: &str, say: &str| json!([{"role": "user", "content": ask}, {"role": "assistant", "content": say}]);
    // A row, a form, what comes of it, and what is told.
    let cases = [
        (
            json!({"messages": [user, calling, found, answer], "tools": tools}),
            "messages",
            json!({"messages": [user, called, found, answer], "tools": tools}),
            "",
        ),
        (
            json!({"messages": [user, calling, found, answer], "tools": tools}),
            "sharegpt",
            json!({"conversations": spoken, "tools": tools.to_string()}),
            "",
        ),
        (json!({"conversations": spoken}), "sharegpt", json!({"conversations": spoken}), ""),
        (
            json!({"conversations": {"from": ["human", "gpt"], "value": ["Q?", "A."]}, "system": "S"}),
            "messages",
            json!({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q?"},
                {"role": "assistant", "content": "A."}]}),
            "",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "image_url", "image_url": {}},
            {"type": "text", "text": "this?"}]}, answer]}),
            "messages",
            json!({"messages": exchange("What is\nthis?", "Seven degrees.")}),
            "not used: image parts (1 rows)",
        ),
        (json!({"messages": [user, thinking]}), "messages", json!({"messages": [user, thinking]}), ""),
        (
            json!({"messages": [user, thinking]}),
            "prompt-completion",
            json!({"prompt": "How warm is it?", "completion": "4"}),
            "not used: reasoning_content of messages (1 rows)",
        ),
        (
            json!({"instruction": "Q3", "input": "", "output": "A3", "history": [["Q1", "A1"]]}),
            "messages",
            json!({"messages": [exchange("Q1", "A1")[0], exchange("Q1", "A1")[1], exchange("Q3", "A3")[0], exchange("Q3", "A3")[1]]}),
            "",
        ),
        (
            json!({"instruction": "Q3", "input": "", "output": "A3", "history": [["Q1", "A1"]], "system": "S"}),
            "alpaca",
            json!({"instruction": "Q3", "input": "", "output": "A3", "system": "S", "history": [["Q1", "A1"]]}),
            "",
        ),
        (
            json!({"instruction": "What floats?", "context": "Ships float.", "response": "Ships."}),
            "messages",
            json!({"messages": exchange("What floats?\n\nShips float.", "Ships.")}),
            "",
        ),
        (
            json!({"instruction": "What floats?", "context": "Ships float.", "response": "Ships."}),
            "alpaca",
            json!({"instruction": "What floats?", "input": "Ships float.", "output": "Ships."}),
            "",
        ),
        (
            json!({"prompt": "Q", "completion": "A", "source": "web", "nothing": null}),
            "messages",
            json!({"messages": exchange("Q", "A")}),
            "not used: source (1 rows)",
        ),
        (
            json!({"prompt": "Q", "chosen": "A", "rejected": "B"}),
            "alpaca",
            json!({"instruction": "Q", "input": "", "output": "A"}),
            "not used: rejected (1 rows)",
        ),
    ];
    for (row, form, expected, told) in cases {
        let (found, stderr) = exported(&row, form);
        assert_eq!(found, Some(expected), "{row} as {form}: {stderr}");
        match told {
            "" => assert!(!stderr.contains("not used"), "{row} as {form}: {stderr}"),
            told => assert!(stderr.contains(told), "{row} as {form}: {stderr}"),
        }
    }
}

#[test]
fn what_is_no_good_answer_is_left_out_and_told() {
    let call = json!({"role": "assistant", "content": "Let me look.", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]});
    for (row, form, told) in [
        (
            json!({"prompt": "Q", "completion": "bad", "label": false}),
            "messages",
            "line 1: its answer is marked as a bad one: `label` is false",
        ),
        (
            json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "bad"}], "label": false}),
            "sharegpt",
            "`label` is false",
        ),
        (
            json!({"prompt": "", "completion": " "}),
            "messages",
            "line 1 was left out: its prompt and its answer are empty",
        ),
        (json!({"prompt": "Q", "completion": ""}), "messages", "line 1: its answer is empty"),
        (
            json!({"messages": [{"role": "user", "content": "Q"}, call]}),
            "sharegpt",
            "line 1: a message has both a text and a call of a tool; use messages",
        ),
        (json!({"messages": [{"role": "user", "content": null}]}), "messages", "messages[0] has null for a text"),
        (
            json!({"conversations": [{"from": "function_call", "value": "no JSON"}]}),
            "sharegpt",
            "conversations[0] is a function_call that is not JSON",
        ),
        (json!({"instruction": "Q", "output": "A", "history": ["x"]}), "messages", "history[0] is not a pair of texts"),
    ] {
        let (found, stderr) = exported(&row, form);
        assert_eq!(found, None, "{row} as {form}");
        assert!(stderr.contains(told), "{told:?} is not in {stderr}");
    }
    // A wrong field is named, not the container.
    let place = Place::new();
    place.write("in.json", json!([{"instruction": "Q", "output": ["A"]}]).to_string());
    let told = place.run(&["export", "in.json", "--format", "messages", "-o", "data"]);
    let told = told.refused(3, &["line 1: `output` is a list, not a text", "; mend that field"]);
    assert!(!told.contains("JSON Lines"), "{told}");
}

#[test]
fn rows_made_from_conversations_say_what_they_are_made_from() {
    let place = Place::new();
    let said = |from: &str, text: &str| json!({"from": from, "value": text});
    let talk = json!({"conversations": [said("system", "S"), said("human", "Name a boat."), said("gpt", "A ferry."), said("human", "And another?"),
        said("gpt", "A raft.")]});
    let bad = json!({"prompt": "Q", "completion": "A", "label": false});
    place.write("talks.jsonl", format!("{talk}\n{bad}\n"));
    place.model("model.toml", 0, &[("Name a boat", vec!["A ferry crosses the water all day long.".to_owned()])]);
    let outcome = place.run(&["answer", "talks.jsonl", "--model", "model.toml", "-o", "out", "--json"]);
    let told = &outcome.stderr;
    assert!(told.contains("line 2 was left out: its answer is marked as a bad one"), "{told}");
    let part = "not used: exchanges after the first of a conversation (1 rows), system messages (1 rows)";
    assert!(told.contains(part), "{told}");
    let summary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(summary["read"]["unused"]["system messages"], 1, "{summary}");
}
