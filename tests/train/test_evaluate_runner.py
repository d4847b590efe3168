"""The runner: what is asked, what is written as it comes, that nothing is lost, asked twice or mixed up."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_benchmarks import Scripted, coloured, row, write_benchmark

from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from train.evaluate import benchmark, judge
from train.evaluate.runner import How, evaluate, requests
from train.evaluate.summary import EvaluationError
from train.inference.conversation import Answer

MODEL = {"name": "tiny", "content": "1" * 8}
ROWS = [coloured(f"{number}: which colour?", colour) for number, colour in enumerate(["red", "blue", "green"] * 4)]
ROWS += [row("Say yes.", ["yes"], category="text"), row("Say no.", ["no", "nope"], category=None)]
RIGHT = {f"{number}: which colour?": colour for number, colour in enumerate(["red", "blue", "green"] * 4)}


def by_script(text, conversation):
    if text.startswith("5:"):
        return Answer("", "error", "not an image")
    return {"Say yes.": "yes", "Say no.": "NOPE"}.get(text, "red")


def lines(out, name="colours"):
    return [json.loads(line) for line in (out / name / "answers.jsonl").read_text().splitlines()]


@pytest.fixture
def one(tmp_path):
    return benchmark.find([write_benchmark(tmp_path / "data", "colours", ROWS)])[0]


def test_every_question_is_asked_answered_scored_and_written(one, tmp_path):
    answers = Scripted(by_script)
    result = evaluate(lambda: answers, MODEL, one, tmp_path / "out")
    written, summary = lines(tmp_path / "out"), json.loads((tmp_path / "out/colours/summary.json").read_text())
    assert [line["sample_id"] for line in written] == [f"colours/q#{number}" for number in range(14)]
    assert written[1] == {
        "sample_id": "colours/q#1",
        "rotation": 0,
        "category": "colour",
        "images": ["blue.png"],
        "prompt": "1: which colour?",
        "choices": [],
        "references": ["blue"],
        "answer": "red",
        "finish": "stop",
        "error": None,
        "tokens": 1,
        "score": 0.0,
    }
    assert (written[5]["error"], written[5]["score"], written[5]["answer"]) == ("not an image", None, "")
    assert summary == result.summary
    assert (summary["n"], summary["scored"], summary["failed"], summary["unjudged"]) == (14, 13, 1, 0)
    assert summary["score"] == 6 / 14 and summary["errors"] == {"not an image": 1}
    shares = {name: (each["n"], each["score"]) for name, each in summary["by_category"].items()}
    assert shares == {"colour": (12, 4 / 12), "text": (1, 1.0), "other": (1, 1.0)}
    assert summary["interval"]["method"] == "wilson"
    assert (summary["model"], summary["data"]) == (MODEL, one.identity)
    assert answers.sampling is not None and answers.sampling.max_new_tokens == 16


def test_the_conversation_is_the_users_with_its_pictures(one, tmp_path):
    seen = []
    evaluate(lambda: Scripted(lambda text, said: seen.append(said) or "red"), MODEL, one, tmp_path)
    assert seen[0].messages == (
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "0: which colour?"}]},
    )
    assert seen[0].images == (ROWS[0]["images"][0]["bytes"],)
    assert seen[13].images == ()


def test_a_killed_run_asks_only_what_is_left_and_ends_the_same(one, tmp_path):
    whole = Scripted(by_script)
    evaluate(lambda: whole, MODEL, one, tmp_path / "whole")
    broken, seen = Scripted(by_script), []

    def stop(row):
        seen.append(row)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(lambda: broken, MODEL, one, tmp_path / "out", told=stop)
    path = tmp_path / "out/colours/answers.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # the last line is torn
    again = Scripted(by_script)
    evaluate(lambda: again, MODEL, one, tmp_path / "out")
    assert len(again.asked) == 14 - 6
    assert path.read_bytes() == (tmp_path / "whole/colours/answers.jsonl").read_bytes()
    for name in ("summary.json", "asked.json"):
        assert (path.parent / name).read_bytes() == (tmp_path / "whole/colours" / name).read_bytes()


def test_with_all_answers_there_nobody_is_asked(one, tmp_path):
    first = evaluate(lambda: Scripted(by_script), MODEL, one, tmp_path)
    assert evaluate(lambda: pytest.fail("opened"), MODEL, one, tmp_path).summary == first.summary


def test_a_limit_takes_the_first_and_a_higher_one_goes_on(one, tmp_path):
    assert evaluate(lambda: Scripted(by_script), MODEL, one, tmp_path, How(limit=5)).summary["n"] == 5
    more = Scripted(by_script)
    assert evaluate(lambda: more, MODEL, one, tmp_path).summary["n"] == 14
    assert len(more.asked) == 9
    with pytest.raises(RecipeError, match="has answers to 9 questions more than --limit 5 asks; give another --out"):
        evaluate(lambda: pytest.fail("opened"), MODEL, one, tmp_path, How(limit=5))
    assert len(lines(tmp_path)) == 14
    assert evaluate(lambda: pytest.fail("opened"), MODEL, one, tmp_path, How(limit=99)).summary["n"] == 14


def test_two_at_once_into_one_folder_are_refused(one, tmp_path):
    def meanwhile(text: str, images: int) -> str:
        with pytest.raises(RecipeError, match="another evaluation writes there"):
            evaluate(lambda: Scripted(by_script), MODEL, one, tmp_path)
        return "red"

    assert evaluate(lambda: Scripted(meanwhile), MODEL, one, tmp_path, How(limit=1)).summary["n"] == 1
    assert evaluate(lambda: Scripted(by_script), MODEL, one, tmp_path).summary["n"] == 14


def test_a_model_may_be_renamed(one, tmp_path):
    evaluate(lambda: Scripted(by_script), MODEL, one, tmp_path)
    again = evaluate(lambda: pytest.fail("opened"), {**MODEL, "name": "moved"}, one, tmp_path)
    assert again.summary["model"]["name"] == "moved"


@pytest.mark.parametrize("other", ["model", "data", "scoring"])
def test_answers_of_others_are_refused(one, tmp_path, other):
    evaluate(lambda: Scripted(by_script), MODEL, one, tmp_path / "out")
    model = MODEL | {"content": "2"} if other == "model" else MODEL
    rows, prompt = ROWS[:-1] if other == "data" else ROWS, "{question} Now." if other == "scoring" else "{question}"
    again = benchmark.find([write_benchmark(tmp_path / "again", "colours", rows, prompt=prompt)])[0]
    if other == "scoring":
        again = benchmark.Benchmark(**{**vars(again), "identity": one.identity})
    with pytest.raises(RecipeError, match=f"answers of another {other} "):
        evaluate(lambda: Scripted(by_script), model, again, tmp_path / "out")


def test_questions_that_get_no_answer_are_an_error(one, tmp_path):
    class Forgets(Scripted):
        def answers(self, conversations, sampling=None):
            return islice(super().answers(conversations), 13)

    with pytest.raises(EvaluationError, match="colours: 1 questions got no answer, the first is colours/q#12"):
        evaluate(lambda: Forgets(by_script), MODEL, one, tmp_path)


def test_a_benchmark_whose_ids_are_not_unique_is_an_error(tmp_path):
    twice = write_benchmark(tmp_path, "colours", [each | {"sample_id": "same"} for each in ROWS[:2]])
    with pytest.raises(EvaluationError, match="questions are lost: 2 in, 1 scored"):
        evaluate(lambda: Scripted(by_script), MODEL, benchmark.find([twice])[0], tmp_path / "out")


OPTIONS = ["red", "blue", "green"]
CHOICES = [
    row("What is {choices} here?", ["B"], OPTIONS, "easy"),
    row("What else?", ["A", "C"], OPTIONS, "easy"),
    row("Open?", ["12"], None, "open"),
]
PROMPT = "Q: {question}\n{choices}\n{Answer}"


def test_options_are_lines_and_braces_of_a_question_are_text(tmp_path):
    place = write_benchmark(tmp_path, "mc", CHOICES, "multiple_choice", 1, prompt=PROMPT)
    answers = Scripted(lambda text, said: "B")
    result = evaluate(lambda: answers, MODEL, benchmark.find([place])[0], tmp_path / "out")
    assert answers.asked[0] == "Q: What is {choices} here?\nA. red\nB. blue\nC. green\n{Answer}"
    assert answers.asked[2] == "Q: Open?\n\n{Answer}"
    assert [each.score for each in result.questions] == [1, 0, 0]


def test_with_rotations_a_question_is_right_only_if_every_rotation_is(tmp_path):
    one = benchmark.find([write_benchmark(tmp_path, "mc", CHOICES[:2], "multiple_choice", 1, prompt=PROMPT)])[0]
    always_b = Scripted(lambda text, said: "B")
    asked = evaluate(lambda: always_b, MODEL, one, tmp_path / "b", How(rotations=True))
    assert len(always_b.asked) == 6 and asked.summary["n"] == 2 and asked.summary["score"] == 0
    assert always_b.asked[1].splitlines()[1:4] == ["A. blue", "B. green", "C. red"]

    def knows(text, said):
        return "blue" if "What is" in text else "B" if "B. red" in text or "B. green" in text else "A"

    result = evaluate(lambda: Scripted(knows), MODEL, one, tmp_path / "k", How(rotations=True))
    assert result.summary["score"] == 1 and result.summary["rotations"] is True
    assert [line["rotation"] for line in lines(tmp_path / "k", "mc")] == [0, 1, 2] * 2
    with pytest.raises(RecipeError, match="answers of another rotations"):
        evaluate(lambda: Scripted(knows), MODEL, one, tmp_path / "k")


def test_yes_no_has_its_figures_by_category(tmp_path):
    rows = [row(f"{n} {said}", [so], category=kind) for n, (said, so, kind) in enumerate(
        [("Yes", "yes", "a"), ("Yes", "no", "a"), ("No", "yes", "b"), ("fail", "no", "b")])]  # fmt: skip
    one = benchmark.find([write_benchmark(tmp_path, "pope", rows, "yes_no")])[0]
    answers = Scripted(lambda text, said: Answer("", "error", "broken") if "fail" in text else text.split()[1])
    summary = evaluate(lambda: answers, MODEL, one, tmp_path / "out").summary
    assert summary["score"] == summary["figures"]["accuracy"] == 0.25
    assert summary["figures"]["yes_ratio"] == 0.75 and summary["figures"]["precision"] == pytest.approx(1 / 3)
    assert summary["by_category"]["a"]["figures"]["recall"] == 1


def judged(tmp_path, text="fine"):
    one = benchmark.find([write_benchmark(tmp_path / "data", "talk", ROWS[:4], "judge")])[0]
    return lambda how: evaluate(lambda: Scripted(lambda *_: text), MODEL, one, tmp_path / "out", how)


def test_a_judge_is_asked_and_its_verdicts_are_the_scores(tmp_path):
    run = judged(tmp_path)
    first = run(How())
    assert (first.summary["score"], first.summary["unjudged"], first.summary["scored"]) == (None, 4, 0)
    asked = requests([first])
    body = asked[0]["body"]["messages"][0]["content"]
    assert "0: which colour?" in body and "\nred\n" in body and body.endswith("fine")
    assert (asked[0]["id"], asked[0]["answer"], asked[0]["references"]) == ("talk/q#0", "fine", ["red"])
    said = [{"id": each["custom_id"], "score": score} for each, score in zip(asked, (1, 0.5, 0), strict=False)]
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in said))
    second = run(How(verdicts=judge.read(path)))
    assert (second.summary["score"], second.summary["unjudged"], second.summary["scored"]) == (None, 1, 3)
    batch = {"response": {"body": {"choices": [{"message": {"content": " Correct.\n"}}]}}}
    path.write_text(json.dumps({"custom_id": requests([second])[0]["custom_id"]} | batch))
    last = run(How(verdicts=judge.read(path)))
    assert (last.summary["score"], last.summary["unjudged"]) == (2.5 / 4, 0)
    assert last.summary["interval"]["method"] == "bootstrap" and requests([last]) == []


def test_a_verdict_on_another_answer_is_refused(tmp_path):
    name = judge.request_id("talk", "talk/q#1", "another answer")
    with pytest.raises(RecipeError, match="a verdict on another answer of this question"):
        judged(tmp_path)(How(verdicts={name: 1.0}))
    with pytest.raises(
        RecipeError, match=r"by the id of a question; give the custom_id of its request, talk/talk/q#1@"
    ):
        judged(tmp_path / "c")(How(verdicts={"talk/q#1": 1.0}))
    assert judged(tmp_path / "b")(How(verdicts={"other/x@1": 1.0})).summary["unjudged"] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: not JSON"),
        ('{"score": 1}', ":1: got .* wanted an object with the id"),
        ('{"id": "a", "score": 2}', ":1: a has no score from 0 to 1"),
        ('{"id": "a", "score": true}', ":1: a has no score from 0 to 1"),
        ('{"id": "a", "verdict": "maybe"}', ":1: a has no score from 0 to 1"),
        ('{"id": "a", "score": 1}\n{"id": "a", "verdict": "wrong"}', ":2: a has two verdicts, 1 and 0"),
    ],
)
def test_a_bad_verdict_is_one_line(tmp_path, text, message):
    (tmp_path / "v.jsonl").write_text(text)
    with pytest.raises(RecipeError, match=message):
        judge.read(tmp_path / "v.jsonl")


def test_an_output_folder_holds_several_and_other_steps(tmp_path):
    for name in ("b", "a"):
        write_benchmark(tmp_path, name, ROWS[:2])
    other = write_benchmark(tmp_path / "else", "c", ROWS[:2])
    text = json.loads((other / "manifest.json").read_text())
    plain = tmp_path / "03-plain"
    plain.mkdir()
    (plain / "manifest.json").write_text(json.dumps({k: v for k, v in text.items() if k != "check"} | {"facts": {}}))
    found = benchmark.find([tmp_path, other, tmp_path])
    assert [each.name for each in found] == ["a", "b", "c"]
    assert [each.name for each in benchmark.find([tmp_path, other], ["c", "a"])] == ["a", "c"]
    with pytest.raises(RecipeError, match="--only: got d, there are a, b, c"):
        benchmark.find([tmp_path, other], ["d"])
    with pytest.raises(RecipeError, match="is a finished step and no benchmark"):
        benchmark.find([plain])
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="no benchmark in it"):
        benchmark.find([empty])
    write_benchmark(tmp_path / "twin", "a", ROWS[:3])
    with pytest.raises(RecipeError, match="a: two benchmarks have this name"):
        benchmark.find([tmp_path, tmp_path / "twin"])


def test_a_part_without_the_columns_is_one_line(tmp_path):
    place = write_benchmark(tmp_path, "a", ROWS[:2], in_parts=1)
    part = place / "part-00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns("choices"), part)
    with pytest.raises(ManifestError, match="no column choices; run the ingest of this benchmark again"):
        list(benchmark.find([Path(place)])[0].questions())
