"""Personas talk to each other on the tiny model: what each hears, who meets whom, the step, the verb."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import tiny

from persllm import cli, compose, plan
from persllm.asking import hold
from persllm.conversation import SILENCE, TEMPERATURE, Inquiry, Meeting, Voice, converse, hears, inquire
from persllm.execute import context_for
from persllm.metrics.conversation import FEW_TURNS, STANCES, TURNS
from persllm.probes import Probe, data
from persllm.records import read
from persllm.steps import converse as step
from persllm.transcripts import Turn, load

pytestmark = pytest.mark.pipeline
WORDS = ("evaluate.metrics=[likelihood,conversation]", "evaluate.limit=3")
SCENE = data("scenarios.jsonl")[0]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converse")
    return tiny.Lab(folder, tiny.make_model(folder / "model"))


@pytest.fixture(scope="module")
def cast(lab):
    """The prompted arm's voices by persona and stage, all of one model in memory."""
    cells = plan.build(compose.resolve([*lab.words, "method=prompt_name"])).cells
    for cell in cells:
        lab.run(cell.generate.inputs["split"])
    parts = [context_for(cell.generate, lab.outputs, tiny.OFF) for cell in cells]
    names = [cell.cell.persona for cell in cells]
    guests = [step.Guest(place, name, stage) for place, name in enumerate(names) for stage in ("early", "late")]
    return {(guest.persona, guest.stage): voice for guest, voice in step.voices(parts, guests).items()}


def said(meeting, *texts):
    """Say some texts in turn; None is a reply that broke its format."""
    for text in texts:
        voice = meeting.turn
        meeting.said.append(
            Turn(
                conversation=meeting.id,
                scenario="ferry",
                number=len(meeting.said),
                persona=voice.persona,
                name=voice.name,
                stage=voice.stage,
                text="[Analysis] A secret thought.",
                response=text,
                forgotten=0,
                prompt_tokens=1,
                tokens=1,
                seconds=0.0,
            )
        )
    return meeting


def messages(*texts):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def test_each_hears_the_other_as_a_user_and_remembers_itself(cast):
    two = (cast["scrooge", "late"], cast["ottoline", "early"])
    meeting = Meeting("a", SCENE, two)
    opening = f"{SCENE['setting']} With you: Ottoline Vask. {SCENE['opening']}"
    assert hears(meeting, 0) == ([], opening)
    said(meeting, "One.")
    reply = f"{SCENE['setting']} With you: Ebenezer Scrooge, who says:\nOne."
    assert hears(meeting, 1) == ([], reply)
    said(meeting, "Two.", None)
    assert hears(meeting, 1) == (messages(reply, "Two."), SILENCE)
    said(meeting, "Four.")
    assert hears(meeting, 0) == (messages(opening, "One.", "Two.", SILENCE), "Four.")
    assert "secret" not in str([hears(meeting, place) for place in (0, 1)])


def test_of_three_each_is_told_who_says_what(cast):
    three = (cast["scrooge", "late"], cast["ottoline", "early"], cast["scrooge", "early"])
    meeting = said(Meeting("a", SCENE, three), "One.", "Two.")
    (scene, first, second) = hears(meeting, 2)[1].split("\n")
    late = "you yourself at another time, Christmas 1844, a year after the spirits came"
    assert scene == f"{SCENE['setting']} With you: {late} and Ottoline Vask."
    assert (first, second) == (f"{late}: One.", "Ottoline Vask: Two.")
    said(meeting, "Three.")
    assert hears(meeting, 0)[1].startswith("Ottoline Vask: Two.\nyou yourself at another time, Christmas Eve 1843")


def test_a_turn_is_what_the_speaker_says_to_what_it_hears(cast):
    two = (cast["scrooge", "late"], cast["ottoline", "early"])
    meeting = Meeting("a", SCENE, two)
    rounds = list(converse([meeting], 3, 7))
    assert [turn for (turn,) in rounds] == meeting.said
    assert [turn.persona for turn in meeting.said] == ["scrooge", "ottoline", "scrooge"]
    again = Meeting("a", SCENE, two, meeting.said[:2])
    before, heard = hears(again, 0)
    prompt = two[0].speaker.prompt("late", heard, before)
    (reply,) = two[0].speaker.speak([prompt.ids], 7 * 1009 + 2, TEMPERATURE)
    assert (meeting.said[2].text, meeting.said[2].prompt_tokens) == (reply.text, len(prompt.ids))
    # A stopped conversation goes on as if it had not been.
    list(converse([again], 3, 7))
    assert [turn.text for turn in again.said] == [turn.text for turn in meeting.said]
    other = Meeting("a", SCENE, two)
    list(converse([other], 3, 8))
    assert [turn.text for turn in other.said] != [turn.text for turn in meeting.said]


def test_who_shares_weights_shares_them_in_memory(cast):
    assert len({id(voice.speaker.model) for voice in cast.values()}) == 1
    assert len({id(voice.speaker.source) for voice in cast.values()}) == 2


def test_the_first_words_are_forgotten_and_it_is_counted(cast):
    narrow = {}
    for name in ("scrooge", "ottoline"):
        speaker = cast[name, "late"].speaker
        config = speaker.config | {"model": speaker.config["model"] | {"max_length": 400}}
        narrow[name] = Voice(name, "late", dataclasses.replace(speaker, config=config))
    meeting = said(Meeting("a", SCENE, tuple(narrow.values())), *["So it is, and always was. " * 6] * 8)
    list(converse([meeting], 9, 0))
    assert meeting.said[-1].forgotten > 0


def test_opinions_are_asked_without_and_with_the_conversation_in_view(cast):
    voice = cast["scrooge", "early"]
    row = {"id": "s", "question": "What of Christmas?", "keep": "Humbug.", "flip": "A merry time!"}
    meeting = said(Meeting("a", SCENE, (voice, cast["ottoline", "early"])), "Hear me.", "I hear.", "Good.")
    memory = hears(meeting, 0)[0]
    asked = [Inquiry("", voice, [], [row, row]), Inquiry("a", voice, memory, [row])]
    before, again, after = inquire(asked, 0)
    probe = Probe(id="s", stage="early", cluster="s", turns=[row["question"]], options=[["Humbug.", "A merry time!"]])
    (told,) = hold(voice.speaker, [(probe, 0)], 0)
    for one in (before, again):
        assert [of[0] for of in one.likelihoods] == pytest.approx([of[0] for of in told.likelihoods[0]], abs=1e-3)
    assert [one.conversation for one in (before, again, after)] == ["", "", "a"]
    assert memory[-1]["content"] == "Good."
    assert after.likelihoods[0][0] != before.likelihoods[0][0]


def test_an_arm_that_analyses_is_asked_after_its_own_analysis(cast):
    plain = cast["scrooge", "early"].speaker
    thinking = dataclasses.replace(plain, config=plain.config | {"tune": {"analysis": True, "temporal_label": "text"}})
    row = {"id": "s", "question": "What of Christmas?", "keep": "Humbug.", "flip": "A merry time!"}
    (one,) = inquire([Inquiry("", Voice("scrooge", "early", thinking), [], [row])], 0)
    probe = Probe(id="s", stage="early", cluster="s", turns=[row["question"]], options=[["Humbug.", "A merry time!"]])
    thought, unthought = (next(hold(speaker, [(probe, 0)], 0)).likelihoods[0] for speaker in (thinking, plain))
    assert [of[0] for of in one.likelihoods] == pytest.approx([of[0] for of in thought], abs=1e-3)
    assert abs(thought[0][0] - unthought[0][0]) > 0.1


def test_stages_and_opener_go_round(lab):
    subjects = [dataclasses.replace(one, limit=None) for one in _subjects(lab, "prompt_name")]
    for some, times in ((subjects, 2), (subjects[:1], 4)):
        planned = step.programme(some)
        openers = Counter((one.guests[0].persona, one.guests[0].stage) for one in planned[:8])
        assert openers == {(one.name, stage): times for one in some for stage in ("early", "late")}
        assert len({one.id for one in planned}) == len(planned) == 10
        assert all(len(set(one.guests)) == 2 for one in planned)


def _subjects(lab, method):
    cell = lab.cell(method, *WORDS)
    (talk,) = [one for role, one in cell.scores[0].inputs.items() if role == "conversation_ottoline"]
    for needed in talk.inputs.values():
        lab.run(needed)
    ctx = context_for(talk, lab.outputs, tiny.OFF)
    return [step.probe.subject(step.part(ctx, place)) for place in (0, 1)]


def test_both_sides_read_the_same_conversations(lab):
    cells = plan.build(compose.resolve([*lab.words, "method=prompt_name,prompt_profile", "seed=0,1", *WORDS])).cells
    found = {(one.cell.arm, one.cell.persona, one.cell.seed): one.scores[0].inputs for one in cells}
    one, other = (found["prompt_name", name, 0] for name in ("scrooge", "ottoline"))
    assert one["conversation_ottoline"] is other["conversation_scrooge"]
    assert one["conversation_scrooge"] is not other["conversation_ottoline"]
    # Conversations are drawn: the seed matters to a prompted arm as well.
    talks = {inputs[role].id for inputs in found.values() for role in inputs if role.startswith("conversation_")}
    assert len(talks) == 2 * 2 * 3
    assert one["conversation_ottoline"].config["turns"] == FEW_TURNS
    full = lab.cell("prompt_name", WORDS[0]).scores[0].inputs["conversation_ottoline"]
    assert full.config["turns"] == TURNS


def test_of_many_personas_each_meets_its_two_neighbours(lab):
    names = ["brannoch", "dantes", "elizabeth", "ottoline", "scrooge"]
    words = [word for word in lab.words if not word.startswith("persona=")]
    cells = plan.build(
        compose.resolve([*words, f"persona={','.join(names[::-1])}", "method=prompt_name", *WORDS])
    ).cells
    met = {
        cell.cell.persona: {
            role.removeprefix("conversation_") for role in cell.scores[0].inputs if "conversation_" in role
        }
        for cell in cells
    }
    assert met == {name: {name, names[place - 1], names[(place + 1) % 5]} for place, name in enumerate(names)}
    assert len({s.id for cell in cells for r, s in cell.scores[0].inputs.items() if "conversation_" in r}) == 5 + 5


def test_alone_and_of_one_stage_there_is_nobody_to_talk_to(lab):
    words = [word for word in lab.words if not word.startswith("persona=")]
    cell = plan.build(
        compose.resolve([*words, "persona=scrooge", "persona.stages=[late]", "method=prompt_name", *WORDS])
    ).cells[0]
    assert not [role for role in cell.scores[0].inputs if role.startswith("conversation_")]
    assert "nobody to talk to" in (lab.run(cell.scores[0]) / "notes.json").read_text()


def test_weights_tuned_by_stage_are_loaded_two_at_a_time(lab):
    cell = lab.cell("persllm", *WORDS)
    talk = cell.scores[0].inputs["conversation_ottoline"]
    ctx = context_for(talk, lab.outputs, tiny.OFF)
    subjects = [dataclasses.replace(one, limit=None) for one in _subjects(lab, "prompt_name")]
    parts = [step.part(ctx, place) for place in (0, 1)]
    groups = step.groups(parts, step.programme(subjects))
    assert [len({guest for one in some for guest in one.guests}) for some in groups] == [2, 2]
    assert sum(map(len, groups)) == 10


def test_the_step_goes_on_where_it_was_stopped(lab, tmp_path):
    talk = lab.cell("prompt_name", *WORDS).scores[0].inputs["conversation_ottoline"]
    whole = lab.context(talk, tmp_path / "whole")
    step.run(whole)
    lines = [line for line in (whole.work / "talks.jsonl").read_text().splitlines() if line]
    made = load(whole.out)
    assert len(made.turns) == 3 * FEW_TURNS
    assert len([one for one in made.opinions if one.conversation]) == 3 * 2 * STANCES
    assert {one.stance for one in made.opinions if one.conversation} == {
        one.stance for one in made.opinions if not one.conversation
    }
    for kept in (0, 4, len(lines) - 2, len(lines)):
        torn = lab.context(talk, tmp_path / f"torn{kept}")
        (torn.work / "talks.jsonl").write_text("\n".join(lines[:kept]) + '\n{"conversation": "x"')
        step.run(torn)
        for name in ("transcripts.jsonl", "opinions.jsonl"):
            assert _timeless(torn.out / name) == _timeless(whole.out / name), (kept, name)


def _timeless(path: Path):
    return [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]


def test_scores_are_read_off_both_kinds_of_conversation(lab):
    cell = lab.cell("prompt_name", *WORDS)
    rows = [json.loads(line) for line in (lab.run(cell.scores[0]) / "scores.jsonl").read_text().splitlines()]
    count = Counter(row["metric"].removeprefix("conversation_") for row in rows)
    assert count["who_accuracy"] == count["role_break_rate"] == 3 * FEW_TURNS // 2
    assert count["when_accuracy"] == 3 * FEW_TURNS
    assert count["stance_accuracy"] == 3 * 3 * STANCES
    assert {row["persona"] for row in rows} == {"scrooge"}


def _say(lab, *more):
    words = [word for word in lab.words if not word.startswith("persona=")]
    return cli.main(["converse", *words, "method=prompt_name", *more])


def test_the_verb_prints_who_says_what(lab, capsys):
    assert _say(lab, "persona=scrooge,ottoline", "--turns", "3", "--scenario", "inn", "--stages", "early,late") == 0
    told = capsys.readouterr().out
    assert "Ebenezer Scrooge, Christmas Eve 1843" in told
    assert "Ottoline Vask, Year 233" in told
    assert [
        line.split(":")[0] for line in told.split("\n") if line.startswith(("Ebenezer Scrooge:", "Ottoline Vask:"))
    ] == [
        "Ebenezer Scrooge",
        "Ottoline Vask",
        "Ebenezer Scrooge",
    ]


def test_the_verb_lets_stages_of_one_talk(lab, capsys):
    assert _say(lab, "persona=scrooge", "--turns", "2") == 0
    told = capsys.readouterr().out
    assert "Ebenezer Scrooge (early): " in told
    assert "Ebenezer Scrooge (late): " in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["persona=scrooge,ottoline", "--scenario", "in"], "--scenario in: expected one of ferry, inn"),
        (["persona=scrooge,ottoline", "--stages", "late"], "a conversation needs two"),
        (
            ["persona=scrooge,ottoline", "--stages", "late,early,late"],
            "expected 2 stages, one each for scrooge, ottoline",
        ),
        (["persona=scrooge", "--stages", "late,erly"], "scrooge has early, late, not 'erly'"),
        (["persona=scrooge,ottoline", "--turns", "0"], "--turns 0: expected 1 or more"),
        (["persona=scrooge,ottoline", "seed=0,1"], "give one method and one seed"),
    ],
)
def test_the_verb_says_what_is_wrong(lab, capsys, more, message):
    assert _say(lab, *more) == 2
    assert message in capsys.readouterr().err


def test_an_arm_that_is_not_trained_is_named(lab, capsys):
    words = [word for word in lab.words if not word.startswith("persona=")]
    assert cli.main(["converse", *words, "persona=scrooge,ottoline", "method=sft"]) == 2
    assert "not trained yet; run: persllm run" in capsys.readouterr().err


def test_transcripts_are_records(lab, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"conversation": 3}\n')
    with pytest.raises(Exception, match=r"t\.jsonl:1: .*'conversation' should be str"):
        read(Turn, tmp_path / "t.jsonl")
